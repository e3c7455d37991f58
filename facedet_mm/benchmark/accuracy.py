"""Average precision of a detector by the WIDER FACE protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from facedet_mm.benchmark.robustness import CLEAN, Cell, measure
from facedet_mm.datasets.ground_truth import GroundTruth
from facedet_mm.datasets.predictions import image_key
from facedet_mm.detectors import Detector
from facedet_mm.errors import AnnotationError, ImageError

SCORE_THR, IOU_THR = 0.02, 0.45
"""Thresholds of the evaluation on WIDER FACE: nearly all detections count."""


def find_images(folder: str | os.PathLike[str], ground_truth: GroundTruth) -> list[Path]:
    """Returns the files of the M images of the ground truth, in its order.

    Args:
        folder: Folder of ``<event>/<image>.jpg`` (or another format).
        ground_truth: Ground truth with the names of the images.

    Raises:
        AnnotationError: The ground truth has no images.
        ImageError: A folder can't be read, or an image is missing.

    Example:
        >>> find_images("nowhere", GroundTruth.from_images([("party/1.jpg", [], [])]))
        Traceback (most recent call last):
        facedet_mm.errors.ImageError: nowhere is not a folder; give the folder of <event>/<image>.jpg
    """
    if not len(ground_truth):
        raise AnnotationError("the ground truth has no images")
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; give the folder of <event>/<image>.jpg")
    events = sorted({name.partition("/")[0] for name in ground_truth.names})
    files = {
        image_key(f"{event}/{path.name}"): path for event in events for path in sorted(_files_below(folder / event))
    }
    missing = [name for name in ground_truth.names if name not in files]
    if missing:
        raise ImageError(
            f"{folder}: {len(missing)} of {len(ground_truth)} images of the ground truth are missing, first "
            f"{missing[0]}; give the folder of <event>/<image>.jpg, and the ground truth of only its images"
        )
    return [files[name] for name in ground_truth.names]


def clean_ap(detector: Detector, ground_truth: GroundTruth, images: Sequence[Path]) -> dict[str, float]:
    """Returns the AP of the clean images in percent, by setting.

    Args:
        detector: Detector; its thresholds are replaced by those of the evaluation.
        ground_truth: Faces and settings.
        images: Files of the images of the ground truth.

    Raises:
        ImageError: An image can't be read.
    """
    evaluated = detector.replace(score_thr=SCORE_THR, iou_thr=IOU_THR)
    ((_, aps),) = measure(evaluated, ground_truth, images, [Cell(CLEAN)])
    return {name: 100 * ap for name, ap in aps.items()}


def _files_below(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read: {error.strerror or error}") from error
