"""Exact greedy non-maximum suppression in NumPy, without an N × N matrix."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]

_BLOCK = 2048
"""Number of boxes per block: the pairs among them fit in memory even if all overlap."""
_PAIRS = 1 << 16
"""Number of pairs compared at a time: their columns fit in the cache."""
_FEW = 96
"""Largest number of boxes for which comparing all pairs costs less than finding the close ones."""
_LEAST = np.finfo(np.float32).smallest_subnormal
"""Replaces a union without area, so that the IoU is 0."""


def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou_thr: float) -> NDArray[np.intp]:
    """Drops every box whose IoU with a better box that is kept is above ``iou_thr``.

    The convention is that of torchvision and mmcv: area = (x2 - x1)(y2 - y1), all in float32; of two boxes with the
    same score, the first is better.

    Args:
        boxes: (N, 4) float32, x1 y1 x2 y2.
        scores: (N,) float32.
        iou_thr: IoU threshold in [0, 1].

    Returns:
        (K,) indices of the kept boxes, by descending score.
    """
    order: NDArray[np.intp] = (-scores).argsort(kind="stable")
    if len(order) < 2:
        return order
    if len(order) <= _FEW:
        better, worse = _overlapping_few(boxes[order], iou_thr)
        return order[_survivors(len(order), better, worse)] if better.size else order
    columns = _columns(boxes[order])
    alive: NDArray[np.intp] = np.arange(len(order))
    kept: list[NDArray[np.intp]] = []
    while alive.size:
        block, alive = alive[:_BLOCK], alive[_BLOCK:]
        best = block[_survivors(len(block), *_overlapping_among(columns[:, block], iou_thr))]
        kept.append(best)
        if alive.size:
            alive = alive[~_covered(columns[:, best], columns[:, alive], iou_thr)]
    result: NDArray[np.intp] = order[np.concatenate(kept)]
    return result


def overlapping(boxes: NDArray[np.float32], kept: NDArray[np.intp], iou_thr: float) -> Pairs:
    """Returns the pairs of a kept box and any box whose IoU is above ``iou_thr``.

    Args:
        boxes: (N, 4) float32, x1 y1 x2 y2.
        kept: (K,) indices of boxes.
        iou_thr: IoU threshold in [0, 1].

    Returns:
        Positions in ``kept`` and indices of boxes, (P,) each.
    """
    if not (len(boxes) and len(kept)):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    columns = _columns(boxes)
    i, j = (np.concatenate(side) for side in zip(*_close(columns[:, kept], columns, iou_thr), strict=True))
    return i, j


def _overlapping_few(boxes: NDArray[np.float32], iou_thr: float) -> Pairs:
    """Returns the pairs (better, worse) with an IoU above ``iou_thr``, by comparing all; the best box is first."""
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    area = (x2 - x1) * (y2 - y1)
    width = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    height = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    above = overlap / np.maximum(area[:, None] + area - overlap, _LEAST) > iou_thr
    i, j = above.nonzero()
    pairs = i < j
    return i[pairs], j[pairs]


def _columns(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns (5, N): low and high end along the axis of larger spread, the same along the other axis, and the area."""
    spread = np.ptp(boxes[:, :2], axis=0)
    columns = np.empty((5, len(boxes)), np.float32)
    columns[:4] = boxes.T[[0, 2, 1, 3] if spread[0] >= spread[1] else [1, 3, 0, 2]]
    columns[4] = (columns[1] - columns[0]) * (columns[3] - columns[2])
    return columns


def _survivors(count: int, better: NDArray[np.intp], worse: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Returns (count,): whether each box survives, given all overlapping pairs; the best box is first.

    Works in rounds: a box that overlaps no undecided better box survives and drops those that it overlaps.
    """
    dropped = np.zeros(count, bool)
    while better.size:
        waiting = np.zeros(count, bool)
        waiting[worse] = True
        dropped[worse[~waiting[better]]] = True
        undecided = ~(dropped[better] | dropped[worse])
        better, worse = better[undecided], worse[undecided]
    return ~dropped


def _overlapping_among(columns: NDArray[np.float32], iou_thr: float) -> Pairs:
    """Returns the pairs (better, worse) with an IoU above ``iou_thr``; the best box is first."""
    along = np.argsort(columns[0])
    in_line = columns[:, along]
    parts = list(_overlapping(in_line, in_line, np.arange(1, len(along) + 1), iou_thr))
    i, j = (along[np.concatenate(side)] for side in zip(*parts, strict=True))
    return np.minimum(i, j), np.maximum(i, j)


def _covered(best: NDArray[np.float32], rest: NDArray[np.float32], iou_thr: float) -> NDArray[np.bool_]:
    """Returns whether each of ``rest`` overlaps any of ``best``."""
    covered = np.zeros(rest.shape[1], bool)
    for _, j in _close(best, rest, iou_thr):
        covered[j] = True
    return covered


def _close(a: NDArray[np.float32], b: NDArray[np.float32], iou_thr: float) -> Iterator[Pairs]:
    """Yields pairs (i, j) with an IoU above ``iou_thr``, octave by octave: a large box would reach too far for all."""
    length_a, length_b = a[1] - a[0], b[1] - b[0]
    _, octaves = np.frexp(length_b)
    ratio = 0.99 * iou_thr  # at least that of the lengths; see _reach
    for octave in np.unique(octaves):
        among = np.flatnonzero(octaves == octave)
        among = among[np.argsort(b[0][among])]
        shortest, longest = length_b[among].min(), length_b[among].max()
        near = np.flatnonzero((length_a >= ratio * shortest) & (ratio * length_a <= longest))
        boxes, in_line = a[:, near], b[:, among]
        first = np.searchsorted(in_line[0], boxes[0] - _reach(longest, iou_thr))
        for i, j in _overlapping(boxes, in_line, first, iou_thr):
            yield near[i], among[j]


def _overlapping(
    a: NDArray[np.float32], b: NDArray[np.float32], first: NDArray[np.intp], iou_thr: float
) -> Iterator[Pairs]:
    """Yields pairs (i, j) with an IoU above ``iou_thr``; ``b`` is sorted, and box i starts at ``first[i]``."""
    last = np.searchsorted(b[0], a[0] + _reach(a[1] - a[0], iou_thr), side="right")
    counts = np.maximum(last - first, 0)
    ends = np.cumsum(counts)
    cuts = [0, *(np.flatnonzero(np.diff(ends // _PAIRS)) + 1), len(counts)]
    for start, stop in pairwise(cuts):
        count = counts[start:stop]
        i = np.repeat(np.arange(start, stop), count)
        j = np.arange(len(i)) + np.repeat(first[start:stop] - (np.cumsum(count) - count), count)
        yield _above(a, i, b, j, iou_thr)


def _above(
    a: NDArray[np.float32], i: NDArray[np.intp], b: NDArray[np.float32], j: NDArray[np.intp], iou_thr: float
) -> Pairs:
    """Returns those of the pairs (box i of a, box j of b) that have an IoU above ``iou_thr``."""
    across = np.minimum(a[3][i], b[3][j]) - np.maximum(a[2][i], b[2][j])
    near = np.flatnonzero(across > 0)
    i, j, across = i[near], j[near], across[near]
    overlap = np.minimum(a[1][i], b[1][j]) - np.maximum(a[0][i], b[0][j])
    overlap = np.maximum(overlap, 0) * across
    above = overlap / np.maximum(a[4][i] + b[4][j] - overlap, _LEAST) > iou_thr
    return i[above], j[above]


def _reach(length: NDArray[np.float32], iou_thr: float) -> NDArray[np.float64]:
    """Returns the largest distance of the low ends of two overlapping boxes.

    An IoU above t needs an overlap of t times the length; the factor 0.99 outweighs all rounding.
    """
    return (1 - 0.99 * iou_thr) * length.astype(np.float64)
