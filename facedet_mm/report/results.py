"""The results that the page shows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets import read_predictions
from facedet_mm.datasets.attributes import ATTRIBUTE_LABELS, AnnotatedFaces
from facedet_mm.evaluation import WiderFaceResult, evaluate
from facedet_mm.evaluation.analysis import OperatingPoint, match_detections, recall_by_group
from facedet_mm.evaluation.wider_face import SIZE_EDGES
from facedet_mm.report.crops import ImageFolder
from facedet_mm.report.logs import RunLog
from facedet_mm.report.runs import Run
from facedet_mm.report.shots import Scene, Shot

__all__ = ["Grouping", "Options", "Report", "Scored", "groupings", "score_run"]

COUNTED = "hard"
"""The setting that counts the most faces; recall and precision at one score are measured on its faces."""


@dataclass(frozen=True)
class Options:
    """Options of the page.

    Attributes:
        score_thr: Score threshold for misses, recall and false alarms.
        allow_missing: Whether images without predictions count as images without detections.
        shots: Largest number of misses, and of false alarms, per run.

    Example:
        >>> Options().score_thr
        0.5
    """

    score_thr: float = 0.5
    allow_missing: bool = False
    shots: int = 24


@dataclass(frozen=True, eq=False)
class Scored:
    """The results of one run's predictions.

    Attributes:
        wider: AP and precision-recall curves.
        point: Results at the score threshold of the options.
        found_scores: (F,) float64, best score that finds each face; −inf for a face that is not found.
        images: Number of images of the ground truth that have predictions.
        misses: The worst misses.
        alarms: The most confident false alarms.

    Example:
        >>> list(Scored.__dataclass_fields__)
        ['wider', 'point', 'found_scores', 'images', 'misses', 'alarms']
    """

    wider: WiderFaceResult
    point: OperatingPoint
    found_scores: NDArray[np.float64]
    images: int
    misses: list[Shot]
    alarms: list[Shot]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the page shows.

    Attributes:
        runs: The runs.
        scored: Results of each run's predictions; ``None`` for a run without.
        faces: The annotation; ``None`` without one.
        images: Folder of the images for the crops; ``None`` without one.
        options: Options of the page.

    Example:
        >>> from pathlib import Path
        >>> Report.of([Run("first", Path("first"), RunLog(), None, [])], None, None, Options()).scored
        [None]
    """

    runs: list[Run]
    scored: list[Scored | None]
    faces: AnnotatedFaces | None
    images: ImageFolder | None
    options: Options

    @classmethod
    def of(cls, runs: list[Run], faces: AnnotatedFaces | None, images: ImageFolder | None, options: Options) -> Report:
        """Scores the predictions of ``runs``, if there are ``faces``.

        Raises:
            AnnotationError: Predictions can't be read or do not fit the annotation.
        """
        scored = [None if faces is None else score_run(run, faces, images, options) for run in runs]
        return cls(runs, scored, faces, images, options)

    def logs(self) -> list[tuple[int, str, RunLog]]:
        """Returns the number, name and log of the runs whose log has rows."""
        return [(i, run.name, run.log) for i, run in enumerate(self.runs) if run.log and (run.log.train or run.log.val)]

    def outcomes(self) -> list[tuple[int, str, Scored]]:
        """Returns the number, name and results of the runs with predictions."""
        pairs = zip(self.runs, self.scored, strict=True)
        return [(i, run.name, scored) for i, (run, scored) in enumerate(pairs) if scored is not None]


@dataclass(frozen=True, eq=False)
class Grouping:
    """A way to divide the faces into groups.

    Attributes:
        title: The property that divides them.
        labels: Name of each group.
        groups: (F,) int64, the group of each face.

    Example:
        >>> Grouping("pose", ("typical", "atypical"), np.array([0, 1])).title
        'pose'
    """

    title: str
    labels: tuple[str, ...]
    groups: NDArray[np.int64]

    def recall(
        self, faces: AnnotatedFaces, scored: Scored, score_thr: float
    ) -> tuple[list[int], list[float], list[float]]:
        """Returns the faces that count per group, and their fractions found at ``score_thr`` and at any score."""
        counted = faces.ground_truth.settings[COUNTED]
        total, found, ever = recall_by_group(self.groups, counted, scored.found_scores, score_thr, len(self.labels))
        with np.errstate(invalid="ignore"):
            return total.tolist(), (found / total).tolist(), (ever / total).tolist()


def groupings(faces: AnnotatedFaces) -> list[Grouping]:
    """Returns the groupings by height and by each attribute that the annotation has.

    Example:
        >>> from facedet_mm.datasets import GroundTruth
        >>> truth = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62]], [False])])
        >>> [grouping.title for grouping in groupings(AnnotatedFaces(truth, {"pose": np.array([1])}))]
        ['height in pixels', 'pose']
    """
    boxes = faces.ground_truth.boxes
    labels = (*(f"{low}–{high}" for low, high in itertools.pairwise(SIZE_EDGES)), f"≥ {SIZE_EDGES[-1]}")
    heights = np.digitize(boxes[:, 3] - boxes[:, 1], SIZE_EDGES[1:]).astype(np.int64)
    attributes = (Grouping(name, ATTRIBUTE_LABELS[name], column) for name, column in faces.attributes.items())
    return [Grouping("height in pixels", labels, heights), *attributes]


def score_run(run: Run, faces: AnnotatedFaces, images: ImageFolder | None, options: Options) -> Scored | None:
    """Evaluates a run's predictions and finds its misses and false alarms; returns ``None`` without predictions.

    Raises:
        AnnotationError: The predictions can't be read, or images are missing and ``allow_missing`` is not set.

    Example:
        >>> from pathlib import Path
        >>> from facedet_mm.datasets import GroundTruth
        >>> score_run(Run("a", Path("a"), None, None, []), AnnotatedFaces(GroundTruth.from_images([])), None, Options())
    """
    if run.predictions is None:
        return None
    truth = faces.ground_truth
    predictions = read_predictions(run.predictions)
    wider = evaluate(predictions, truth, allow_missing=options.allow_missing)
    matches = match_detections(predictions, truth)
    scene = Scene(faces, predictions, matches, options.score_thr)
    return Scored(
        wider=wider,
        point=OperatingPoint.at(options.score_thr, predictions, matches, truth.settings[COUNTED]),
        found_scores=matches.found_scores,
        images=len(truth) - len(wider.missing),
        misses=scene.misses(options.shots, images),
        alarms=scene.alarms(options.shots, images),
    )
