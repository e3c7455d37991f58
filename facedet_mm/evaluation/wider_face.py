"""The WIDER FACE protocol: average precision on the easy, medium and hard faces, in one pass.

Yang et al., "WIDER FACE: A Face Detection Benchmark" (CVPR 2016), and its ``eval_tools``. Where copies of the
protocol in circulation disagree, these rules apply here:

* Scores are mapped to [0, 1] by the smallest and largest score over all images of the ground truth, even if scores
  are negative or above 1; if all are equal, they become 1. (The common Python port starts its minimum at 1 and its
  maximum at 0, the MATLAB code its maximum at 0; on scores in [0, 1] all agree.)
* Detections count in descending order of score, whatever their order in the file. The MATLAB code sorts them, the
  port does not.
* IoU counts pixels (a side is x2 − x1 + 1) in floating point. The first of several faces with equal IoU wins. (The
  first release of the MATLAB code computed it in integers, so that any IoU above one half was as good as the best.)
* A detection can match only the face that it overlaps best; when that face is taken, the detection is a false
  positive, even if it overlaps another face enough.
* Detections on images without annotated faces are left out. On images whose faces are all outside the setting, they
  are false positives unless they match such a face.
* The counts of all images are added up at the 1,000 thresholds 1 − t/1000; AP is the area under the precision
  envelope. A threshold without valid detections has precision 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.ground_truth import GroundTruth
from facedet_mm.datasets.predictions import Predictions
from facedet_mm.errors import AnnotationError

NUM_THRESHOLDS = 1000
SIZE_EDGES = (0, 10, 30, 50, 100, 300)
"""Lower edges, in pixels of height, of the buckets of :class:`SettingResult`; the last one is open."""

_THRESHOLDS = 1 - np.arange(1, NUM_THRESHOLDS + 1) / NUM_THRESHOLDS
_TINY = np.finfo(np.float64).tiny  # smallest area, so that a union is never 0
_PAIRS_AT_ONCE = 1 << 16  # detection × face pairs, so that a matrix stays in the processor's cache


@dataclass(frozen=True, eq=False)
class SettingResult:
    """The result in one setting.

    Attributes:
        ap: Average precision as a fraction; NaN when no face counts.
        precision: (1000,) float64, at descending thresholds of the normalized score.
        recall: (1000,) float64, at the same thresholds.
        faces: (6,) int64, number of faces that count, by height in the buckets of :data:`SIZE_EDGES`.
        missed: (6,) int64, number of those that no detection finds at any score.
    """

    ap: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    faces: NDArray[np.int64]
    missed: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WiderFaceResult:
    """The outcome of :func:`evaluate`.

    Attributes:
        settings: Setting → its result, in the order of the ground truth (easy, medium, hard).
        missing: Images without predictions (empty unless ``allow_missing``).
        surplus: Images with predictions that are not in the ground truth; they are ignored.
    """

    settings: dict[str, SettingResult]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]

    @property
    def ap(self) -> dict[str, float]:
        """Setting → average precision as a fraction."""
        return {name: setting.ap for name, setting in self.settings.items()}


def evaluate(
    predictions: Predictions, ground_truth: GroundTruth, iou_thr: float = 0.5, allow_missing: bool = False
) -> WiderFaceResult:
    """Scores predictions by the WIDER FACE protocol, whose details are in the text of this module.

    Args:
        predictions: Detections in any order; images are matched by name.
        ground_truth: Faces and settings.
        iou_thr: Smallest IoU of a match, in (0, 1].
        allow_missing: Whether images without predictions count as images without detections.

    Raises:
        AnnotationError: An image of the ground truth has no predictions and ``allow_missing`` is not set, or a
            score is not finite.
        ValueError: ``iou_thr`` is outside (0, 1].

    Example:
        >>> predictions = Predictions.from_images([("party/1.jpg", [[10, 10, 50, 60]], [0.9])])
        >>> ground_truth = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62]], [False])])
        >>> evaluate(predictions, ground_truth).ap
        {'easy': 1.0, 'medium': 1.0, 'hard': 1.0}
    """
    if not 0 < iou_thr <= 1:
        raise ValueError(f"iou_thr must be above 0 and at most 1, not {iou_thr}")
    place = {name: i for i, name in enumerate(predictions.names)}
    missing = tuple(name for name in ground_truth.names if name not in place)
    if missing and not allow_missing:
        raise AnnotationError(_missing_message(missing, len(ground_truth)))
    known = set(ground_truth.names)
    surplus = tuple(name for name in predictions.names if name not in known)

    in_ground_truth = np.array([name in known for name in predictions.names], bool)
    levels = _levels(predictions.scores, np.repeat(in_ground_truth, np.diff(predictions.offsets)))
    detections, hits, hit_levels = _match(predictions, ground_truth, place, levels, iou_thr)
    settings = {
        name: _score_setting(ground_truth.boxes, counted, detections, hits, hit_levels)
        for name, counted in ground_truth.settings.items()
    }
    return WiderFaceResult(settings, missing, surplus)


def _missing_message(missing: tuple[str, ...], total: int) -> str:
    first = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    return (
        f"{len(missing)} of {total} images have no predictions ({first}); "
        "--allow-missing (allow_missing=True) counts them as images without detections"
    )


def _levels(scores: NDArray[np.floating], used: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Returns (N,) int16, the index of the first threshold that each normalized score reaches."""
    levels = np.zeros(len(scores), np.int16)
    if not used.any():
        return levels
    lowest, highest = (float(bound) for bound in (scores[used].min(), scores[used].max()))
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise AnnotationError("a score is NaN or infinite; scores must be finite numbers")
    if lowest == highest:
        return levels
    ascending = _THRESHOLDS[::-1]
    step = 1 << 20  # normalized scores are float64: 8 MB at a time
    for start in range(0, len(scores), step):
        normalized = (scores[start : start + step].astype(np.float64) - lowest) / (highest - lowest)
        levels[start : start + step] = NUM_THRESHOLDS - np.searchsorted(ascending, normalized, side="right")
    return levels


def _match(
    predictions: Predictions,
    ground_truth: GroundTruth,
    place: dict[str, int],
    levels: NDArray[np.int16],
    iou_thr: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]:
    """Counts the detections on images with faces by level; returns also the face and level of those that hit one."""
    detections = np.zeros(NUM_THRESHOLDS + 1, np.int64)
    faces: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    face_levels: list[NDArray[np.int16]] = [np.zeros(0, np.int16)]
    for rows, image_faces in images_with_faces(predictions, ground_truth, place):
        hitting, best = best_faces(predictions.boxes[rows], ground_truth.boxes[image_faces], iou_thr)
        detections += np.bincount(levels[rows], minlength=NUM_THRESHOLDS + 1)
        faces.append(best + image_faces.start)
        face_levels.append(levels[rows][hitting])
    return detections, np.concatenate(faces), np.concatenate(face_levels)


def images_with_faces(
    predictions: Predictions, ground_truth: GroundTruth, place: Mapping[str, int]
) -> Iterator[tuple[slice, slice]]:
    """Yields the rows of the detections and of the faces of each image that has predictions and faces.

    Args:
        predictions: Detections in any order.
        ground_truth: The faces.
        place: Image name → index in ``predictions``.
    """
    face_offsets = ground_truth.offsets.tolist()
    offsets = predictions.offsets.tolist()
    for i, name in enumerate(ground_truth.names):
        first_face, end_face = face_offsets[i : i + 2]
        image = place.get(name)
        if image is not None and first_face != end_face:
            yield slice(offsets[image], offsets[image + 1]), slice(first_face, end_face)


def best_faces(
    boxes: NDArray[np.floating], faces: NDArray[np.float64], iou_thr: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the rows of ``boxes`` whose best IoU with a face reaches ``iou_thr``, and the rows of those faces."""
    step = max(1, _PAIRS_AT_ONCE // len(faces))
    hitting = []
    best = []
    for start in range(0, max(len(boxes), 1), step):
        overlaps = pixel_iou(boxes[start : start + step].astype(np.float64), faces)
        rows = np.flatnonzero(overlaps.max(axis=1) >= iou_thr)
        hitting.append(rows + start)
        best.append(overlaps[rows].argmax(axis=1))
    return np.concatenate(hitting), np.concatenate(best)


def pixel_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the IoU of every pair of boxes, whose right and lower edges are part of them.

    Args:
        a: (A, 4) float64, x1 y1 x2 y2 in pixels.
        b: (B, 4) float64.

    Returns:
        (A, B) float64; 0 for boxes that end before they begin.

    Example:
        >>> pixel_iou(np.array([[0.0, 0, 9, 9]]), np.array([[0.0, 0, 9, 4], [10, 0, 19, 9]])).tolist()
        [[0.5, 0.0]]
    """
    with np.errstate(over="ignore"):
        intersection = _shared_side(a, b, 0)
        intersection *= _shared_side(a, b, 1)
        union = _pixel_area(a)[:, None] + _pixel_area(b)
        union -= intersection
        intersection /= union
    return intersection


def _shared_side(a: NDArray[np.float64], b: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    side: NDArray[np.float64] = np.minimum(a[:, None, axis + 2], b[:, axis + 2])
    side -= np.maximum(a[:, None, axis], b[:, axis])
    side += 1
    np.maximum(side, 0, out=side)
    return side


def _pixel_area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    area: NDArray[np.float64] = np.maximum(sides[:, 0] * sides[:, 1], _TINY)
    return area


def _score_setting(
    boxes: NDArray[np.float64],
    counted: NDArray[np.bool_],
    detections: NDArray[np.int64],
    hits: NDArray[np.int64],
    hit_levels: NDArray[np.int16],
) -> SettingResult:
    ignored = ~counted[hits]
    valid = np.cumsum(detections - np.bincount(hit_levels[ignored], minlength=NUM_THRESHOLDS + 1))[:-1]
    found_at = np.full(len(boxes), NUM_THRESHOLDS, np.int16)
    np.minimum.at(found_at, hits, hit_levels)
    recalled = np.cumsum(np.bincount(found_at[counted], minlength=NUM_THRESHOLDS + 1))[:-1]

    total = int(counted.sum())
    precision = np.divide(recalled, valid, out=np.zeros(NUM_THRESHOLDS), where=valid > 0)
    recall = recalled / total if total else np.full(NUM_THRESHOLDS, np.nan)
    bucket = np.digitize(boxes[:, 3] - boxes[:, 1], SIZE_EDGES[1:])
    missed = counted & (found_at == NUM_THRESHOLDS)
    return SettingResult(
        ap=_average_precision(precision, recall) if total else float("nan"),
        precision=precision,
        recall=recall,
        faces=np.bincount(bucket[counted], minlength=len(SIZE_EDGES)),
        missed=np.bincount(bucket[missed], minlength=len(SIZE_EDGES)),
    )


def _average_precision(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Returns the area under the precision envelope over rising recall."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))
