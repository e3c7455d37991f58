"""Exact greedy non-maximum suppression in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 128
"""Boxes settled at a time: small enough for the caches, large enough to hide NumPy's overhead."""


def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou_thr: float) -> NDArray[np.intp]:
    """Drops every box that overlaps a better one, that is itself kept, by an IoU above ``iou_thr``.

    The convention is that of torchvision and mmcv: area = (x2 - x1)(y2 - y1), all in float32, of two boxes with
    the same score the first is better.

    Args:
        boxes: (N, 4) float32, x1 y1 x2 y2.
        scores: (N,) float32.
        iou_thr: in [0, 1].

    Returns:
        (K,) indices of the kept boxes, by descending score.
    """
    order = np.argsort(-scores, kind="stable")
    columns = _columns(boxes[order])
    alive: NDArray[np.intp] = np.arange(len(order))
    kept: list[NDArray[np.intp]] = [alive[:0]]
    while alive.size:
        block, rest = alive[:_BLOCK], alive[_BLOCK:]
        best = block[_greedy(_iou(columns[:, block], columns[:, block]) > iou_thr)]
        kept.append(best)
        if rest.size:
            rest = rest[~(_iou(columns[:, best], columns[:, rest]) > iou_thr).any(0)]
        alive = rest
    result: NDArray[np.intp] = order[np.concatenate(kept)]
    return result


def _columns(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(5, N): x1, y1, x2, y2, area."""
    columns = np.empty((5, len(boxes)), np.float32)
    columns[:4] = boxes.T
    columns[4] = (columns[2] - columns[0]) * (columns[3] - columns[1])
    return columns


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU of all pairs, (N, M); NaN for two boxes without area."""
    a = a[:, :, None]
    overlap: NDArray[np.float32] = np.minimum(a[2], b[2])
    overlap -= np.maximum(a[0], b[0])
    np.maximum(overlap, 0, out=overlap)
    height = np.minimum(a[3], b[3])
    height -= np.maximum(a[1], b[1])
    np.maximum(height, 0, out=height)
    overlap *= height
    union = a[4] + b[4]
    union -= overlap
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap /= union
    return overlap


def _greedy(overlaps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the boxes, best first, survive the better ones; ``overlaps``: (N, N), symmetric."""
    overlaps = np.triu(overlaps, 1)
    alive = np.ones(len(overlaps), bool)
    for i in np.flatnonzero(overlaps.any(1)):
        if alive[i]:
            alive &= ~overlaps[i]
    return alive
