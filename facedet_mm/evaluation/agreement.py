"""Compares two results for the same image, such as those of two backends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from facedet_mm.evaluation.wider_face import pixel_iou
from facedet_mm.structures import Faces

__all__ = ["compare_faces"]


@dataclass(frozen=True, eq=False)
class Agreement:
    """The outcome of :func:`compare_faces`.

    A difference that is not a number counts as infinite, so that ``difference > tolerance`` is enough to find it.

    Attributes:
        pairs: (P, 2) int64, rows of the first and the second result that are the same face.
        only_first: (N,) int64, rows of the first result without a partner.
        only_second: (M,) int64, rows of the second result without a partner.
        boxes: Largest absolute difference of a box coordinate among the pairs, in pixels; 0 without pairs.
        scores: Largest absolute difference of a score among the pairs; 0 without pairs.
        landmarks: Largest absolute difference of a landmark coordinate among the pairs, in pixels; ``None`` when a
            result has no landmarks.
    """

    pairs: NDArray[np.int64]
    only_first: NDArray[np.int64]
    only_second: NDArray[np.int64]
    boxes: float
    scores: float
    landmarks: float | None

    @property
    def unmatched(self) -> int:
        """Number of faces of both results without a partner."""
        return len(self.only_first) + len(self.only_second)


def compare_faces(first: Faces, second: Faces, score_thr: float = 0.0, iou_thr: float = 0.5) -> Agreement:
    """Matches the faces of two results one-to-one and measures how much they differ.

    The matching has the largest sum of IoUs of all that use only pairs of at least ``iou_thr``.

    Args:
        first: Faces of an image.
        second: Faces of the same image, in the same pixels.
        score_thr: Pairs whose two scores are lower, and unmatched faces whose score is lower, are left out: a face
            at a detector's own threshold may be missing without being wrong.
        iou_thr: Smallest IoU of a pair, above 0 and at most 1.

    Raises:
        ValueError: ``iou_thr`` is outside (0, 1].

    Example:
        >>> first = Faces([[10, 10, 50, 60], [100, 10, 150, 80]], [0.9, 0.5])
        >>> second = Faces([[100, 12, 150, 80]], [0.75])
        >>> agreement = compare_faces(first, second)
        >>> agreement.pairs.tolist(), agreement.only_first.tolist(), agreement.boxes, agreement.scores
        ([[1, 0]], [0], 2.0, 0.25)
    """
    if not 0 < iou_thr <= 1:
        raise ValueError(f"iou_thr must be above 0 and at most 1, not {iou_thr}")
    with np.errstate(invalid="ignore"):
        overlaps = pixel_iou(first.boxes.astype(np.float64), second.boxes.astype(np.float64))
    overlaps = np.where(overlaps >= iou_thr, overlaps, 0)  # also turns NaN into 0
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    pairs = np.stack([rows, columns], axis=1)[overlaps[rows, columns] > 0].astype(np.int64)
    only_first, only_second = (
        np.setdiff1d(np.flatnonzero(~(faces.scores < score_thr)), matched)
        for faces, matched in ((first, pairs[:, 0]), (second, pairs[:, 1]))
    )
    counted = ~(np.maximum(first.scores[pairs[:, 0]], second.scores[pairs[:, 1]]) < score_thr)
    pairs = pairs[counted]
    landmarks = None
    if first.landmarks is not None and second.landmarks is not None:
        landmarks = _largest_difference(first.landmarks, second.landmarks, pairs)
    return Agreement(
        pairs,
        only_first,
        only_second,
        boxes=_largest_difference(first.boxes, second.boxes, pairs),
        scores=_largest_difference(first.scores, second.scores, pairs),
        landmarks=landmarks,
    )


def _largest_difference(a: NDArray[np.float32], b: NDArray[np.float32], pairs: NDArray[np.int64]) -> float:
    difference = float(np.abs(a[pairs[:, 0]].astype(np.float64) - b[pairs[:, 1]]).max(initial=0))
    return difference if np.isfinite(difference) else float("inf")
