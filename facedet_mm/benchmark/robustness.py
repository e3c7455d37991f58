"""The corruption benchmark: WIDER FACE AP on images made worse, in a file that a later run goes on with.

A cell is a corruption in one severity. The drop of a cell is the AP of the untouched images minus its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.ground_truth import SETTINGS, GroundTruth
from facedet_mm.datasets.predictions import Predictions, image_key
from facedet_mm.detectors import Detector
from facedet_mm.errors import AnnotationError, FaceDetError, ImageError
from facedet_mm.evaluation.wider_face import evaluate
from facedet_mm.imaging.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from facedet_mm.imaging.low_light import LowLight
from facedet_mm.io.images import read_image
from facedet_mm.system.concurrency import map_ahead, thread_pool
from facedet_mm.system.files import write_text

__all__ = ["CLEAN", "DARK", "Cell", "Results", "describe_run", "find_images", "measure", "plan_cells"]

SCORE_THR, IOU_THR = 0.02, 0.45
"""Thresholds of the evaluation of WIDER FACE: nearly everything counts."""
CLEAN = "clean"
"""The untouched images."""
DARK = "gamma"
"""The corruption that is also measured with :class:`~facedet_mm.imaging.low_light.LowLight` before the detector."""


class Cell(NamedTuple):
    """What is done to the images.

    Attributes:
        corruption: a key of :data:`~facedet_mm.imaging.corruptions.CORRUPTIONS`, or :data:`CLEAN`.
        severity: 1, 2 or 3; 0 for :data:`CLEAN`.
        clahe: whether the detector sees the images brightened.

    Example:
        >>> str(Cell("gamma", 2, clahe=True))
        'gamma + CLAHE, 2'
    """

    corruption: str
    severity: int = 0
    clahe: bool = False

    @property
    def row(self) -> str:
        """What cells that differ in nothing but their severity have in common."""
        return f"{self.corruption} + CLAHE" if self.clahe else self.corruption

    @property
    def value(self) -> float | None:
        """The strength of the corruption in its unit."""
        return CORRUPTIONS[self.corruption].values[self.severity - 1] if self.severity else None

    def __str__(self) -> str:
        return f"{self.row}, {self.severity}" if self.severity else self.row


def plan_cells(corruptions: Iterable[str], severities: Iterable[int], clahe: bool = False) -> list[Cell]:
    """The wanted cells in their order: clean, then each corruption, the dark ones without and with CLAHE.

    Example:
        >>> [str(cell) for cell in plan_cells(["jpeg", "gamma"], [3], clahe=True)]
        ['clean', 'jpeg, 3', 'gamma, 3', 'gamma + CLAHE, 3']
    """
    wanted, levels = set(corruptions), sorted(set(severities))
    cells = [Cell(CLEAN)]
    for corruption in (name for name in CORRUPTIONS if name in wanted):
        cells += [Cell(corruption, severity) for severity in levels]
        cells += [Cell(corruption, severity, True) for severity in levels if clahe and corruption == DARK]
    return cells


def find_images(folder: str | os.PathLike[str], ground_truth: GroundTruth) -> list[Path]:
    """The files of the M images of the ground truth, in its order.

    Args:
        folder: holds ``<event>/<image>.jpg`` (or another format).
        ground_truth: names the images.

    Raises:
        AnnotationError: the ground truth has no images.
        ImageError: a folder can't be read, or an image is missing.

    Example:
        >>> find_images("nowhere", GroundTruth.from_images([("party/1.jpg", [], [])]))
        Traceback (most recent call last):
        facedet_mm.errors.ImageError: nowhere is not a folder; give the one that holds <event>/<image>.jpg
    """
    if not len(ground_truth):
        raise AnnotationError("the ground truth has no images")
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; give the one that holds <event>/<image>.jpg")
    events = sorted({name.partition("/")[0] for name in ground_truth.names})
    files = {
        image_key(f"{event}/{path.name}"): path for event in events for path in sorted(_files_below(folder / event))
    }
    missing = [name for name in ground_truth.names if name not in files]
    if missing:
        raise ImageError(
            f"{folder}: {len(missing)} of {len(ground_truth)} images of the ground truth are missing, first "
            f"{missing[0]}; give the folder that holds <event>/<image>.jpg, and the ground truth of just its images"
        )
    return [files[name] for name in ground_truth.names]


def measure(
    detector: Detector,
    ground_truth: GroundTruth,
    images: Sequence[Path],
    cells: Sequence[Cell],
    workers: int = 1,
    on_image: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Cell, dict[str, float]]]:
    """AP of each cell, as soon as it is known.

    All cells of one corruption are measured together: each image is decoded once for them, and while the network
    looks at it the next ones are decoded and made worse.

    Args:
        detector: with the thresholds of the evaluation.
        ground_truth: faces and settings.
        images: the files of the ground truth's images.
        cells: those of one corruption next to each other, as :func:`plan_cells` gives them.
        workers: threads that make images ready.
        on_image: called after each image of each cell.

    Yields:
        A cell, and its AP as a fraction by setting.

    Raises:
        ImageError: an image can't be read.

    Example:
        >>> from facedet_mm import build_detector
        >>> from facedet_mm.zoo import asset_path
        >>> image, detector = asset_path("solvay_1927.jpg"), build_detector()
        >>> boxes = detector.detect(image).boxes
        >>> ground_truth = GroundTruth.from_images([("party/1.jpg", boxes, [False] * len(boxes))])
        >>> [(str(cell), ap["hard"]) for cell, ap in measure(detector, ground_truth, [image], [Cell("clean")])]
        [('clean', 1.0)]
    """
    for _, group in itertools.groupby(cells, key=lambda cell: cell.corruption):
        yield from _measure_together(detector, ground_truth, images, list(group), workers, on_image)


def clean_ap(detector: Detector, ground_truth: GroundTruth, images: Sequence[Path]) -> dict[str, float]:
    """AP in percent by setting, of the images as they are.

    Args:
        detector: gets the thresholds of the evaluation.
        ground_truth: faces and settings.
        images: the files of the ground truth's images.

    Raises:
        ImageError: an image can't be read.
    """
    detector.score_thr, detector.iou_thr = SCORE_THR, IOU_THR
    ((_, aps),) = measure(detector, ground_truth, images, [Cell(CLEAN)])
    return {name: 100 * ap for name, ap in aps.items()}


def _measure_together(
    detector: Detector,
    ground_truth: GroundTruth,
    images: Sequence[Path],
    cells: list[Cell],
    workers: int,
    on_image: Callable[[], object],
) -> Iterator[tuple[Cell, dict[str, float]]]:
    offsets = ground_truth.offsets

    def prepare(number: int) -> list[NDArray[np.uint8]]:
        image = read_image(images[number])
        faces = ground_truth.boxes[offsets[number] : offsets[number + 1]]
        return [_seen(image, cell, ground_truth.names[number], faces) for cell in cells]

    found: list[list[tuple[str, Any, Any]]] = [[] for _ in cells]
    with thread_pool(workers) as pool:
        prepared = map_ahead(pool, prepare, range(len(images)), workers)
        for name, variants in zip(ground_truth.names, prepared, strict=True):
            for detections, faces in zip(found, detector.detect_batch(variants), strict=True):
                detections.append((name, faces.boxes, faces.scores))
                on_image()
    for cell, detections in zip(cells, found, strict=True):
        yield cell, evaluate(Predictions.from_images(detections), ground_truth).ap


def _seen(image: NDArray[np.uint8], cell: Cell, name: str, faces: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The image as the detector sees it."""
    if cell.severity:
        image = corrupt(image, cell.corruption, cell.severity, name, faces)
    return LowLight()(image) if cell.clahe else image


def describe_run(
    model_files: Sequence[Path], settings: dict[str, Any], ground_truth: GroundTruth, images: Sequence[Path]
) -> dict[str, Any]:
    """What figures must have in common to stand in one table; fit for JSON.

    Args:
        model_files: what the model was built from, known by content.
        settings: of the detector: sizes, thresholds, device.
        ground_truth: known by content.
        images: known by their sizes in bytes.

    Raises:
        FaceDetError: a file can't be read.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> files = [asset_path("yunet_n_dynamic.onnx")]
        >>> describe_run(files, {"size": 640}, GroundTruth.from_images([]), [])["model"][0][:8]
        '104ee26c'
    """
    data = hashlib.sha256()
    try:
        model = [hashlib.sha256(path.read_bytes()).hexdigest() for path in model_files]
        data.update(json.dumps([ground_truth.names, [path.stat().st_size for path in images]]).encode())
    except OSError as error:
        raise FaceDetError(f"cannot read {error.filename}: {error.strerror or error}") from error
    for array in (ground_truth.offsets, ground_truth.boxes, *ground_truth.settings.values()):
        data.update(np.ascontiguousarray(array).tobytes())
    corruptions = {name: list(kind.values) for name, kind in CORRUPTIONS.items()}
    run = {"model": model, "data": data.hexdigest(), "images": len(images), **settings, "corruptions": corruptions}
    fit_for_json: dict[str, Any] = json.loads(json.dumps(run))
    return fit_for_json


@dataclass
class Results:
    """The figures of one run, and the file that keeps them.

    Attributes:
        path: the JSON file.
        run: see :func:`describe_run`.
        ap: cell → setting → AP as a fraction; NaN where no face counts.

    Example:
        >>> results = Results(Path("robustness.json"), {})
        >>> results.ap[Cell("clean")] = {"easy": 0.9, "medium": 0.8, "hard": 0.6}
        >>> results.ap[Cell("jpeg", 1)] = {"easy": 0.9, "medium": 0.7, "hard": 0.5}
        >>> {setting: round(drop, 3) for setting, drop in results.mean_drop().items()}
        {'easy': 0.0, 'medium': 0.1, 'hard': 0.1}
    """

    path: Path
    run: dict[str, Any]
    ap: dict[Cell, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, run: dict[str, Any]) -> Results:
        """Those of an earlier run where there is one, else none yet.

        Raises:
            FaceDetError: the file is of another run, or of something else.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(path, run)
        except (OSError, UnicodeDecodeError) as error:
            raise FaceDetError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        try:
            content = json.loads(text)
            ap = dict(_cell(row) for row in content["cells"])
            differing = [key for key in {**content["run"], **run} if content["run"].get(key) != run.get(key)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FaceDetError(f"{path} holds no results of this benchmark; delete it or write elsewhere") from error
        if differing:
            raise FaceDetError(
                f"{path} holds the results of another run, which differs in {', '.join(differing)}; delete it or write "
                "elsewhere"
            )
        return cls(path, run, ap)

    def save(self) -> None:
        """Writes the file atomically.

        Raises:
            FaceDetError: it can't be written.
        """
        content = {"run": self.run, "mean_drop": _finite(self.mean_drop()), "cells": [self._row(c) for c in self.cells]}
        write_text(self.path, json.dumps(content, indent=2) + "\n")

    @property
    def cells(self) -> list[Cell]:
        """The measured cells, in the order of the benchmark."""
        return [cell for cell in plan_cells(CORRUPTIONS, SEVERITIES, clahe=True) if cell in self.ap]

    def mean_drop(self) -> dict[str, float]:
        """Setting → the mean of the drops of all corrupted cells but those with CLAHE; NaN without any."""
        corrupted = [cell for cell in self.ap if cell.severity and not cell.clahe]
        if not corrupted or Cell(CLEAN) not in self.ap:
            return dict.fromkeys(SETTINGS, math.nan)
        clean = self.ap[Cell(CLEAN)]
        return {s: math.fsum(clean[s] - self.ap[cell][s] for cell in corrupted) / len(corrupted) for s in SETTINGS}

    def _row(self, cell: Cell) -> dict[str, Any]:
        return {**cell._asdict(), "value": cell.value, **_finite(self.ap[cell])}


def _cell(row: dict[str, Any]) -> tuple[Cell, dict[str, float]]:
    ap = {s: math.nan if row[s] is None else float(row[s]) for s in SETTINGS}
    return Cell(str(row["corruption"]), int(row["severity"]), bool(row["clahe"])), ap


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _files_below(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read: {error.strerror or error}") from error
