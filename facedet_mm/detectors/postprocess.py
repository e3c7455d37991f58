"""From a network's raw outputs to faces.

Two families: SCRFD (arXiv 2105.04714; distances and offsets in units of the stride) and YuNet (anchor-free, one
point a cell; center offset and log size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.heads import Head
from facedet_mm.detectors.nms import nms
from facedet_mm.detectors.preprocess import Letterbox
from facedet_mm.structures import Faces

_SIGNS = np.array([[-1], [1]], np.float32)
"""Of SCRFD's distances, left and top before right and bottom; of YuNet's half sides likewise."""
_ROUNDING = 1 - 1e-6
"""Share of a threshold that outweighs the rounding of a product in float32."""
_LOG_HUGE = 80.0
"""e to the power of this is more than any image's side; to that of a little more it is infinite in float32."""


def postprocess(
    head: Head, outputs: Sequence[NDArray[np.float32]], letterbox: Letterbox, score_thr: float, iou_thr: float
) -> Faces:
    """Decodes one image's outputs, drops duplicates and gives the faces in pixels of the image.

    Boxes are clipped to the image; those that keep no area, or aren't finite, are left out. Landmarks may lie
    outside.

    Args:
        head: what the outputs are.
        outputs: one (rows, D) array, or map (C, H, W), for each output of the network.
        letterbox: how the image lay in the input.
        score_thr: faces score above it.
        iou_thr: see :func:`nms`.
    """
    return faces_of_image(*decode(head, outputs, letterbox.canvas[0], score_thr), letterbox, iou_thr)


def faces_of_image(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    landmarks: NDArray[np.float32] | None,
    letterbox: Letterbox,
    iou_thr: float,
) -> Faces:
    """Drops duplicates and what is no face, and gives the rest in pixels of the image; see :func:`postprocess`.

    Args:
        boxes: (K, 4) x1 y1 x2 y2, in pixels of the network's input.
        scores: (K,).
        landmarks: (K, 5, 2) or ``None``, as the boxes.
        letterbox: how the image lay in the input.
        iou_thr: see :func:`nms`.
    """
    limits = np.array(letterbox.resized * 2, np.float32)
    boxes = np.minimum(np.maximum(boxes, 0), limits)
    sound = boxes[:, :2] < boxes[:, 2:]  # false for a NaN
    if not sound.all() or (landmarks is not None and not np.isfinite(landmarks).all()):
        good = sound.all(1)
        if landmarks is not None:
            good &= np.isfinite(landmarks).all((1, 2))
            landmarks = landmarks[good]
        boxes, scores = boxes[good], scores[good]
    kept = nms(boxes, scores, iou_thr)
    scale = np.array(letterbox.scale * 2, np.float32)
    return Faces(boxes[kept] / scale, scores[kept], None if landmarks is None else landmarks[kept] / scale[:2])


def decode(
    head: Head, outputs: Sequence[NDArray[np.float32]], width: int, score_thr: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    """Decodes, of the outputs for one image, only the anchors that score above ``score_thr``.

    Args:
        head: what the outputs are.
        outputs: one (rows, D) array, or map (C, H, W), for each output of the network.
        width: of the network's input.
        score_thr: a NaN is never above it.

    Returns:
        Boxes (K, 4) x1 y1 x2 y2, scores (K,) of at most 1 and landmarks (K, 5, 2) or ``None``, all float32, in
        pixels of the input, unclipped.
    """
    least = _least(score_thr, head.scores, head.logits)
    parts = [part for level in head.levels if (part := level.pick(outputs, least, width))]
    if not parts:
        empty = np.empty((0, 10), np.float32)
        return empty[:, :4], empty[:, 0], empty.reshape(0, 5, 2) if head.landmarks else None
    cells, values = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    factors = values[:, -head.scores :]
    if head.logits:
        factors = 1 / (1 + np.exp(np.minimum(-factors, _LOG_HUGE)))
    scores = np.minimum(np.maximum(factors, 0), 1)
    scores = scores[:, 0] if head.scores == 1 else np.sqrt(scores[:, 0] * scores[:, 1])
    rows = (scores > score_thr).nonzero()[0]
    if len(rows) < len(scores):
        cells, values, scores = cells.take(rows, 0), values.take(rows, 0), scores.take(rows)
    corners, scale = cells[:, None, :2], cells[:, None, 2:]
    raw = values[:, :4].reshape(-1, 2, 2)
    boxes = (raw * _SIGNS if head.family == "scrfd" else _yunet_corners(raw)) + corners
    boxes *= scale
    points = (values[:, 4:14].reshape(-1, 5, 2) + corners) * scale if head.landmarks else None
    return boxes.reshape(-1, 4), scores, points


@lru_cache(maxsize=16)
def _least(score_thr: float, factors: int, logits: bool) -> float:
    """What the last factor of a score above ``score_thr`` is above.

    A score of two factors is the root of their product. Where one is too small the other need not be looked at, and
    YuNet's second, whether there is a face at all, leaves a few; its first is large almost everywhere.
    """
    least = _ROUNDING * score_thr**factors
    if not logits:
        return least
    return math.log(least / (1 - least)) if least > 0 else -math.inf


def _yunet_corners(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Center relative to the cell and logarithm of width and height as two corners relative to it, (K, 2, 2)."""
    half: NDArray[np.float32] = np.exp(np.minimum(raw[:, 1:], _LOG_HUGE))
    half /= 2
    corners: NDArray[np.float32] = raw[:, :1] + half * _SIGNS
    return corners
