"""Shows which faces are missed and which detections are false alarms.

Detections and faces are matched as in :mod:`facedet_mm.evaluation.wider_face`, at every score at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.ground_truth import GroundTruth
from facedet_mm.datasets.predictions import Predictions
from facedet_mm.evaluation.wider_face import best_faces, images_with_faces

__all__ = ["LEFT_OUT", "NO_FACE", "Matches", "OperatingPoint", "false_alarms", "match_detections", "recall_by_group"]

NO_FACE = -1
"""Value in :attr:`Matches.faces` of a false alarm: a detection that does not overlap any face enough."""
LEFT_OUT = -2
"""Value in :attr:`Matches.faces` of a detection that does not count, because its image is not in the ground truth or
has no faces there."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches of N detections to F ground-truth faces.

    Attributes:
        faces: (N,) int64, the row of each detection's face in ``GroundTruth.boxes``, or :data:`NO_FACE` or
            :data:`LEFT_OUT`.
        found_scores: (F,) float64, the best score of each face's detections; −inf for a face without any.
        predicted: (F,) bool, whether there are predictions for the image of each face.

    Example:
        >>> predictions = Predictions.from_images([("party/1.jpg", [[10, 10, 50, 60], [0, 0, 5, 5]], [0.9, 0.8])])
        >>> truth = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62], [70, 9, 99, 60]], [False, False])])
        >>> matches = match_detections(predictions, truth)
        >>> matches.faces.tolist(), matches.found_scores.tolist()
        ([0, -1], [0.9, -inf])
        >>> matches.missed(truth, score_thr=0.5).tolist(), false_alarms(predictions, matches).tolist()
        ([1], [1])
    """

    faces: NDArray[np.int64]
    found_scores: NDArray[np.float64]
    predicted: NDArray[np.bool_]

    def missed(self, ground_truth: GroundTruth, score_thr: float) -> NDArray[np.intp]:
        """Returns the rows of faces that count in a setting and are not found with ``score_thr`` or more, worst first.

        A miss is worse if more settings count the face (easy faces count in all) and, among equals, if the face is
        taller. Images without predictions are left out.
        """
        settings = np.sum([*ground_truth.settings.values(), np.zeros(len(self.found_scores), np.intp)], axis=0)
        heights = ground_truth.boxes[:, 3] - ground_truth.boxes[:, 1]
        rows = np.flatnonzero((settings > 0) & (self.found_scores < score_thr) & self.predicted)
        order: NDArray[np.intp] = np.lexsort((-heights[rows], -settings[rows]))
        return rows[order]


@dataclass(frozen=True)
class OperatingPoint:
    """Results of a detector at one score threshold.

    Attributes:
        recall: Fraction of the faces that count which are found; NaN when no face counts.
        precision: Fraction of the detections that are the first of such a face; NaN when there are no detections.
        false_alarms: Number of detections that do not overlap any face enough.
        duplicates: Number of repeated detections of faces that count.

    Example:
        >>> predictions = Predictions.from_images([("party/1.jpg", [[10, 10, 50, 60], [0, 0, 5, 5]], [0.9, 0.8])])
        >>> truth = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62]], [False])])
        >>> matches = match_detections(predictions, truth)
        >>> OperatingPoint.at(0.5, predictions, matches, truth.settings["easy"])
        OperatingPoint(recall=1.0, precision=0.5, false_alarms=1, duplicates=0)
    """

    recall: float
    precision: float
    false_alarms: int
    duplicates: int

    @classmethod
    def at(
        cls, score_thr: float, predictions: Predictions, matches: Matches, counted: NDArray[np.bool_]
    ) -> OperatingPoint:
        """Returns the results of the detections with at least ``score_thr`` for the faces ``counted``, (F,) bool."""
        faces = matches.faces[predictions.scores >= score_thr]
        alarms = int((faces == NO_FACE).sum())
        hits = int(counted[faces[faces >= 0]].sum())
        found = int((matches.found_scores[counted] >= score_thr).sum())
        total = int(counted.sum())
        return cls(
            recall=found / total if total else float("nan"),
            precision=found / (hits + alarms) if hits + alarms else float("nan"),
            false_alarms=alarms,
            duplicates=hits - found,
        )


def match_detections(predictions: Predictions, ground_truth: GroundTruth, iou_thr: float = 0.5) -> Matches:
    """Matches each detection to the face that it overlaps best, whether or not the face counts.

    Args:
        predictions: Detections in any order; images are matched by name, absent images have no detections.
        ground_truth: The faces.
        iou_thr: Smallest IoU of a match, in (0, 1].

    Example:
        >>> predictions = Predictions.from_images([("party/1.jpg", [[10, 10, 50, 60]], [0.9])])
        >>> match_detections(predictions, GroundTruth.from_images([("party/1.jpg", [], [])])).faces.tolist()
        [-2]
    """
    faces = np.full(len(predictions.scores), LEFT_OUT, np.int64)
    predicted = np.zeros(len(ground_truth.boxes), bool)
    place = {name: i for i, name in enumerate(predictions.names)}
    for rows, image_faces in images_with_faces(predictions, ground_truth, place):
        predicted[image_faces] = True
        hitting, best = best_faces(predictions.boxes[rows], ground_truth.boxes[image_faces], iou_thr)
        faces[rows] = NO_FACE
        faces[rows.start + hitting] = image_faces.start + best
    found_scores = np.full(len(ground_truth.boxes), -np.inf)
    hits = np.flatnonzero(faces >= 0)
    np.maximum.at(found_scores, faces[hits], predictions.scores[hits].astype(np.float64))
    return Matches(faces, found_scores, predicted)


def false_alarms(predictions: Predictions, matches: Matches) -> NDArray[np.intp]:
    """Returns the rows of detections that do not overlap any face enough, the most confident first.

    Example:
        >>> predictions = Predictions.from_images([("party/1.jpg", [[0, 0, 5, 5], [0, 9, 5, 15]], [0.3, 0.8])])
        >>> truth = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62]], [False])])
        >>> false_alarms(predictions, match_detections(predictions, truth)).tolist()
        [1, 0]
    """
    rows = np.flatnonzero(matches.faces == NO_FACE)
    return rows[np.argsort(-predictions.scores[rows], kind="stable")]


def recall_by_group(
    groups: NDArray[np.integer], counted: NDArray[np.bool_], found_scores: NDArray[np.float64], score_thr: float, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Counts the faces of each group, those found with at least ``score_thr`` and those found at any score.

    Args:
        groups: (F,) group of each face, 0 to n − 1.
        counted: (F,) bool, the faces that count.
        found_scores: (F,) float64, see :class:`Matches`.
        score_thr: Smallest score.
        n: Number of groups.

    Returns:
        Three counts, (n,) int64 each.

    Example:
        >>> counts = recall_by_group(np.array([0, 1, 1]), np.ones(3, bool), np.array([0.9, 0.2, -np.inf]), 0.5, 2)
        >>> [part.tolist() for part in counts]
        [[1, 2], [1, 0], [1, 1]]
    """
    found = counted & (found_scores >= score_thr)
    ever = counted & np.isfinite(found_scores)
    total, some, most = (np.bincount(groups[mask], minlength=n) for mask in (counted, found, ever))
    return total, some, most
