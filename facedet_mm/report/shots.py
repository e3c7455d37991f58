"""Misses and false alarms, with the boxes around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets import Predictions
from facedet_mm.datasets.attributes import AnnotatedFaces
from facedet_mm.evaluation.analysis import NO_FACE, Matches, false_alarms
from facedet_mm.report.crops import Box, Crop, ImageFolder, overlapping

__all__ = ["Mark", "Scene", "Shot"]

_MARKS = 12
"""Largest number of boxes drawn around a miss or a false alarm."""


@dataclass(frozen=True)
class Mark:
    """A box to draw.

    Attributes:
        kind: ``missed``, ``alarm``, ``face`` or ``detection``.
        box: x1 y1 x2 y2 in pixels of the image.
        text: Meaning of the box in words.

    Example:
        >>> Mark("face", (0, 0, 9, 9), "annotated face").kind
        'face'
    """

    kind: str
    box: Box
    text: str


@dataclass(frozen=True)
class Shot:
    """A miss or a false alarm.

    Attributes:
        key: Key of the image, ``event/image``.
        mark: The box.
        text: Its score, size and attributes in words.
        face: Row of the missed face in the ground truth; ``None`` for a false alarm.
        crop: The pixels around it; ``None`` without the image.
        around: Other boxes in the crop.

    Example:
        >>> Shot("party/1", Mark("alarm", (0, 0, 9, 9), "false alarm"), "score 0.9").crop is None
        True
    """

    key: str
    mark: Mark
    text: str
    face: int | None = None
    crop: Crop | None = None
    around: tuple[Mark, ...] = ()


class Scene:
    """The faces and detections of all images.

    Args:
        faces: The annotated faces.
        predictions: The detections.
        matches: Matches of the detections to the faces.
        score_thr: Smallest score of a detection that finds a face.

    Example:
        >>> from facedet_mm.datasets import GroundTruth
        >>> from facedet_mm.evaluation.analysis import match_detections
        >>> predictions = Predictions.from_images([("party/1.jpg", [[0, 0, 8, 5]], [0.8])])
        >>> truth = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62]], [False])])
        >>> scene = Scene(AnnotatedFaces(truth), predictions, match_detections(predictions, truth), 0.5)
        >>> [(shot.mark.box, shot.text) for shot in (*scene.misses(1, None), *scene.alarms(1, None))]
        [((12.0, 10.0, 50.0, 62.0), '38 × 52 px, easy'), ((0.0, 0.0, 8.0, 5.0), 'score 0.800, 8 × 5 px')]
    """

    def __init__(self, faces: AnnotatedFaces, predictions: Predictions, matches: Matches, score_thr: float) -> None:
        self._faces, self._truth = faces, faces.ground_truth
        self._predictions, self._matches, self._score_thr = predictions, matches, score_thr
        self._images = {name: i for i, name in enumerate(predictions.names)}
        self._truth_images = {name: i for i, name in enumerate(self._truth.names)}

    def misses(self, limit: int, images: ImageFolder | None) -> list[Shot]:
        """Returns the worst misses (:meth:`~facedet_mm.evaluation.analysis.Matches.missed`) and their crops."""
        rows = self._matches.missed(self._truth, self._score_thr)[:limit].tolist()
        owners = _owners(self._truth.offsets, rows)
        return self._with_crops([self._miss(*pair) for pair in zip(rows, owners, strict=True)], images)

    def alarms(self, limit: int, images: ImageFolder | None) -> list[Shot]:
        """Returns the most confident false alarms at any score, with crops of ``images``."""
        rows = false_alarms(self._predictions, self._matches)[:limit].tolist()
        owners = _owners(self._predictions.offsets, rows)
        return self._with_crops([self._alarm(*pair) for pair in zip(rows, owners, strict=True)], images)

    def _miss(self, row: int, image: int) -> Shot:
        box = _box(self._truth.boxes[row])
        easiest = next(name for name, counted in self._truth.settings.items() if counted[row])
        words = filter(None, [_size(box), easiest, self._faces.describe(row)])
        return Shot(self._truth.names[image], Mark("missed", box, "missed face"), ", ".join(words), row)

    def _alarm(self, row: int, image: int) -> Shot:
        box, score = _box(self._predictions.boxes[row]), f"{self._predictions.scores[row]:.3f}"
        mark = Mark("alarm", box, f"false alarm {score}")
        return Shot(self._predictions.names[image], mark, f"score {score}, {_size(box)}")

    def _with_crops(self, shots: list[Shot], images: ImageFolder | None) -> list[Shot]:
        if images is None:
            return shots
        wanted: dict[str, list[Box]] = {}
        for shot in shots:
            wanted.setdefault(shot.key, []).append(shot.mark.box)
        crops = {key: iter(cut) for key, cut in images.cut(wanted).items()}
        return [self._with_crop(shot, next(crops[shot.key])) if shot.key in crops else shot for shot in shots]

    def _with_crop(self, shot: Shot, crop: Crop) -> Shot:
        around = self._faces_in if shot.face is None else self._detections_in
        return replace(shot, crop=crop, around=tuple(around(shot.key, crop.window)))

    def _faces_in(self, key: str, window: Box) -> Iterator[Mark]:
        rows = _slice(self._truth.offsets, self._truth_images[key])
        boxes = self._truth.boxes[rows]
        for row in overlapping(boxes, window)[:_MARKS].tolist():
            yield Mark("face", _box(boxes[row]), "annotated face")

    def _detections_in(self, key: str, window: Box) -> Iterator[Mark]:
        rows = _slice(self._predictions.offsets, self._images[key])
        boxes, scores = self._predictions.boxes[rows], self._predictions.scores[rows]
        faces = self._matches.faces[rows]
        near = overlapping(boxes, window)
        near = near[scores[near] >= self._score_thr]
        for row in near[np.argsort(-scores[near], kind="stable")][:_MARKS].tolist():
            kind = "false alarm" if faces[row] == NO_FACE else "detection"
            yield Mark("detection", _box(boxes[row]), f"{kind} {scores[row]:.3f}")


def _owners(offsets: NDArray[np.int64], rows: list[int]) -> list[int]:
    """Returns the image of each row."""
    owners: list[int] = (np.searchsorted(offsets, rows, side="right") - 1).tolist()
    return owners


def _slice(offsets: NDArray[np.int64], image: int) -> slice:
    return slice(int(offsets[image]), int(offsets[image + 1]))


def _box(row: NDArray[np.floating]) -> Box:
    x1, y1, x2, y2 = map(float, row)
    return x1, y1, x2, y2


def _size(box: Box) -> str:
    return f"{box[2] - box[0]:.0f} × {box[3] - box[1]:.0f} px"
