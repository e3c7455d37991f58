"""Postprocessing: the raw outputs of a network become faces.

There are two families: SCRFD (arXiv 2105.04714; distances and offsets in units of the stride) and YuNet (anchor-free,
one point per cell; center offset and logarithm of the size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.heads import Head
from facedet_mm.detectors.nms import nms
from facedet_mm.detectors.preprocess import Letterbox
from facedet_mm.structures import Faces

_SIGNS = np.array([[-1], [1]], np.float32)
"""Signs of SCRFD's distances and YuNet's half sides: left and top, then right and bottom."""
_ROUNDING = 1 - 1e-6
"""Factor that lowers a threshold by more than the rounding error of a product in float32."""
_TRACE, _TRACE_SHARE = 0.02, 0.4
"""Score above which, and share of the image's longer side from which on, a box may be the trace of a close-up."""
_LOG_HUGE = 80.0
"""Limit of exponents: exp of it exceeds the side of any image, and exp of 89 is infinite in float32."""


def postprocess(
    head: Head, outputs: Sequence[NDArray[np.float32]], letterbox: Letterbox, score_thr: float, iou_thr: float
) -> Faces:
    """Decodes the outputs for one image, drops duplicates and returns the faces in pixels of the image.

    Boxes are clipped to the image; those without area and those that are not finite are left out. Landmarks may lie
    outside of the image.

    Args:
        head: How to read the outputs.
        outputs: One (rows, D) array, or map (C, H, W), per output of the network.
        letterbox: Place of the image in the input.
        score_thr: Score above which a face is returned.
        iou_thr: IoU threshold of :func:`nms`.
    """
    return faces_of_image(*decode(head, outputs, letterbox.canvas[0], score_thr), letterbox, iou_thr)


def traces_close_up(head: Head, outputs: Sequence[NDArray[np.float32]], letterbox: Letterbox) -> bool:
    """Returns whether the level with the largest stride has a weak box of a face that fills much of the image.

    A network of which a face exceeds the largest anchors still reacts to it, but too weakly to report it. Seen so in
    every close-up of the test, and in 12 % of WIDER FACE's images.

    Args:
        head: How to read the outputs.
        outputs: Outputs for one image, as in :func:`postprocess`.
        letterbox: Place of the image in the input.
    """
    coarsest = replace(head, levels=head.levels[-1:])
    boxes, _, _ = decode(coarsest, outputs, letterbox.canvas[0], _TRACE)
    sides = np.minimum(boxes[:, 2:], letterbox.resized) - np.maximum(boxes[:, :2], 0)
    least = (_TRACE_SHARE * max(letterbox.resized)) ** 2
    return bool((np.prod(np.maximum(sides, 0), axis=1) > least).any())


def faces_of_image(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    landmarks: NDArray[np.float32] | None,
    letterbox: Letterbox,
    iou_thr: float,
) -> Faces:
    """Drops duplicates and invalid boxes and returns the rest in pixels of the image; see :func:`postprocess`.

    Args:
        boxes: (K, 4) x1 y1 x2 y2, in pixels of the network's input.
        scores: (K,) scores.
        landmarks: (K, 5, 2) in pixels of the network's input, or ``None``.
        letterbox: Place of the image in the input.
        iou_thr: IoU threshold of :func:`nms`.
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
    """Decodes the anchors whose score is above ``score_thr``, from the outputs for one image.

    Args:
        head: How to read the outputs.
        outputs: One (rows, D) array, or map (C, H, W), per output of the network.
        width: Width of the network's input.
        score_thr: Score threshold; NaN scores are never above it.

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
    """Returns the threshold for the last factor of a score, below which the score can't be above ``score_thr``.

    A score of two factors is the root of their product, so one factor that is too small rules it out. YuNet's second
    factor, the objectness, leaves few anchors; its first is large almost everywhere.
    """
    least = _ROUNDING * score_thr**factors
    if not logits:
        return least
    return math.log(least / (1 - least)) if least > 0 else -math.inf


def _yunet_corners(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns two corners relative to the cell, (K, 2, 2), from the center and the logarithm of width and height."""
    half: NDArray[np.float32] = np.exp(np.minimum(raw[:, 1:], _LOG_HUGE))
    half /= 2
    corners: NDArray[np.float32] = raw[:, :1] + half * _SIGNS
    return corners
