"""All the figures that the page shows."""

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
"""The setting that counts the most faces; recall and precision at one score are of its faces."""


@dataclass(frozen=True)
class Options:
    """What the page is made with.

    Attributes:
        score_thr: score at which misses, recall and false alarms are looked at.
        allow_missing: whether images without predictions count as without detections.
        shots: most misses and most false alarms of a run.

    Example:
        >>> Options().score_thr
        0.5
    """

    score_thr: float = 0.5
    allow_missing: bool = False
    shots: int = 24


@dataclass(frozen=True, eq=False)
class Scored:
    """The outcome of one run's predictions.

    Attributes:
        wider: AP and precision-recall curves.
        point: what happens at the score of the options.
        found_scores: (F,) best score that finds each face, −inf without.
        images: how many images of the ground truth were predicted.
        misses: the worst.
        alarms: the most confident.

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
    """All that a page shows.

    Attributes:
        runs: the runs, each with its color by its place.
        scored: of each run the outcome of its predictions; ``None`` without.
        faces: the annotation; ``None`` without.
        images: where crops come from; ``None`` without.
        options: what it is made with.

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
        """Scores the predictions of ``runs``; without ``faces`` none.

        Raises:
            AnnotationError: predictions can't be read or do not fit the annotation.
        """
        scored = [None if faces is None else score_run(run, faces, images, options) for run in runs]
        return cls(runs, scored, faces, images, options)

    def logs(self) -> list[tuple[int, str, RunLog]]:
        """Number, name and log of the runs whose log has lines."""
        return [(i, run.name, run.log) for i, run in enumerate(self.runs) if run.log and (run.log.train or run.log.val)]

    def outcomes(self) -> list[tuple[int, str, Scored]]:
        """Number, name and outcome of the runs with predictions."""
        pairs = zip(self.runs, self.scored, strict=True)
        return [(i, run.name, scored) for i, (run, scored) in enumerate(pairs) if scored is not None]


@dataclass(frozen=True, eq=False)
class Grouping:
    """A way to split the faces.

    Attributes:
        title: what by.
        labels: of the groups.
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
        """Of each group the faces that count, and the shares found with at least ``score_thr`` and at any score."""
        counted = faces.ground_truth.settings[COUNTED]
        total, found, ever = recall_by_group(self.groups, counted, scored.found_scores, score_thr, len(self.labels))
        with np.errstate(invalid="ignore"):
            return total.tolist(), (found / total).tolist(), (ever / total).tolist()


def groupings(faces: AnnotatedFaces) -> list[Grouping]:
    """By height, and by each attribute that the annotation has.

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
    """Evaluates a run's predictions and looks for what went wrong; ``None`` without predictions.

    Raises:
        AnnotationError: the predictions can't be read, or images lack and ``allow_missing`` is not set.

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
