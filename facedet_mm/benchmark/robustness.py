"""The corruption benchmark: WIDER FACE AP on corrupted images.

A cell is one corruption at one severity. The drop of a cell is the AP of the clean images minus its own AP.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.ground_truth import GroundTruth
from facedet_mm.datasets.predictions import Predictions
from facedet_mm.detectors import Detector
from facedet_mm.evaluation.wider_face import evaluate
from facedet_mm.imaging.corruptions import CORRUPTIONS, corrupt, corrupted_boxes
from facedet_mm.imaging.low_light import LowLight
from facedet_mm.io.images import read_image
from facedet_mm.system.concurrency import map_ahead, thread_pool

__all__ = ["CLEAN", "DARK", "TURNED", "Cell", "measure", "plan_cells"]

CLEAN = "clean"
"""Name of the images without corruption."""
DARK = "gamma"
"""The corruption that can also be measured with :class:`~facedet_mm.imaging.low_light.LowLight` before the detector."""

TURNED = "rotation"
"""The corruption that is no part of the mean drop, since a detector may turn images itself."""


class Cell(NamedTuple):
    """One condition of the images.

    Attributes:
        corruption: Key of :data:`~facedet_mm.imaging.corruptions.CORRUPTIONS`, or :data:`CLEAN`.
        severity: 1, 2 or 3, of rotation also 4; 0 for :data:`CLEAN`.
        clahe: Whether the images are brightened for the detector.

    Example:
        >>> str(Cell("gamma", 2, clahe=True))
        'gamma + CLAHE, 2'
    """

    corruption: str
    severity: int = 0
    clahe: bool = False

    @property
    def row(self) -> str:
        """Label shared by the cells that differ only in their severity."""
        return f"{self.corruption} + CLAHE" if self.clahe else self.corruption

    @property
    def value(self) -> float | None:
        """Strength of the corruption in its unit; ``None`` for clean images."""
        return CORRUPTIONS[self.corruption].values[self.severity - 1] if self.severity else None

    def __str__(self) -> str:
        return f"{self.row}, {self.severity}" if self.severity else self.row


def plan_cells(corruptions: Iterable[str], severities: Iterable[int], clahe: bool = False) -> list[Cell]:
    """Returns the wanted cells in their order: clean, then each corruption, the dark one without and with CLAHE.

    Example:
        >>> [str(cell) for cell in plan_cells(["jpeg", "gamma"], [3], clahe=True)]
        ['clean', 'jpeg, 3', 'gamma, 3', 'gamma + CLAHE, 3']
    """
    wanted, levels = set(corruptions), sorted(set(severities))
    cells = [Cell(CLEAN)]
    for corruption in (name for name in CORRUPTIONS if name in wanted):
        cells += [Cell(corruption, severity) for severity in levels if severity <= len(CORRUPTIONS[corruption].values)]
        cells += [cell._replace(clahe=True) for cell in cells if clahe and cell.corruption == corruption == DARK]
    return cells


def measure(
    detector: Detector,
    ground_truth: GroundTruth,
    images: Sequence[Path],
    cells: Sequence[Cell],
    workers: int = 1,
    on_image: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Cell, dict[str, float]]]:
    """Yields the AP of each cell as soon as it is known.

    All cells of one corruption are measured together: each image is decoded once for them, and while the network
    runs, the next images are decoded and corrupted.

    Args:
        detector: Detector with the thresholds of the evaluation, see :mod:`~facedet_mm.benchmark.accuracy`.
        ground_truth: Faces and settings.
        images: Files of the images of the ground truth.
        cells: Cells, those of one corruption next to each other, as :func:`plan_cells` returns them.
        workers: Number of threads that prepare images.
        on_image: Called after each image of each cell.

    Yields:
        A cell, and its AP as a fraction by setting.

    Raises:
        ImageError: An image can't be read.

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


def _measure_together(
    detector: Detector,
    ground_truth: GroundTruth,
    images: Sequence[Path],
    cells: list[Cell],
    workers: int,
    on_image: Callable[[], object],
) -> Iterator[tuple[Cell, dict[str, float]]]:
    offsets = ground_truth.offsets

    def prepare(number: int) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float64]]]:
        image = read_image(images[number])
        size = image.shape[1], image.shape[0]
        faces = ground_truth.boxes[offsets[number] : offsets[number + 1]]
        moved = [corrupted_boxes(faces, *cell[:2], size) if cell.severity else faces for cell in cells]
        return [_prepared(image, cell, ground_truth.names[number], faces) for cell in cells], moved

    found: list[list[tuple[str, Any, Any]]] = [[] for _ in cells]
    boxes: list[list[NDArray[np.float64]]] = [[] for _ in cells]
    with thread_pool(workers) as pool:
        all_variants = map_ahead(pool, prepare, range(len(images)), workers)
        for name, (variants, moved) in zip(ground_truth.names, all_variants, strict=True):
            for i, faces in enumerate(detector.detect_batch(variants)):
                found[i].append((name, faces.boxes, faces.scores))
                boxes[i].append(moved[i])
                on_image()
    for cell, detections, moved in zip(cells, found, boxes, strict=True):
        truth = replace(ground_truth, boxes=np.concatenate(moved))
        yield cell, evaluate(Predictions.from_images(detections), truth).ap


def _prepared(image: NDArray[np.uint8], cell: Cell, name: str, faces: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Returns the image as the detector sees it."""
    if cell.severity:
        image = corrupt(image, cell.corruption, cell.severity, name, faces)
    return LowLight()(image) if cell.clahe else image
