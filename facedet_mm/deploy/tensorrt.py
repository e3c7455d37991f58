"""Builds TensorRT engines ahead of time, for ``build_detector(..., device='tensorrt')``, and checks them on an image.

Needs no PyTorch. An engine must be built on the machine and GPU that will run it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors import Image, OnnxDetector
from facedet_mm.detectors.tensorrt import Precision, ShapeRange, TensorRTDetector
from facedet_mm.errors import ModelError
from facedet_mm.structures import Faces
from facedet_mm.zoo import asset_path

_SURE = 0.1
"""Faces whose score is this much above the threshold must be found by both."""
_SAME_IOU = 0.5


@dataclass(frozen=True)
class EngineReport:
    """Result of :func:`build_engine`.

    Attributes:
        path: The engine in the cache folder.
        precision: Precision of the engine.
        shapes: Input shapes that the engine takes.
        seconds: Time until the engine ran, in seconds; below a second if it was in the cache.
        faces: Number of faces found by both the engine and ONNX Runtime on the CPU.
        differences: Largest difference of ``'scores'``, and of ``'boxes'`` in pixels of the image.
    """

    path: Path
    precision: Precision
    shapes: ShapeRange
    seconds: float
    faces: int
    differences: dict[str, float]


def build_engine(
    model: str | os.PathLike[str],
    precision: Precision | None = None,
    shapes: ShapeRange | None = None,
    gpu: int = 0,
    image: Image | None = None,
    input_size: int = 640,
) -> EngineReport:
    """Compiles an ``.onnx`` file for a GPU, unless the engine is cached, and compares it with ONNX Runtime.

    Args:
        model: SCRFD or YuNet file.
        precision, shapes, gpu: As for :class:`~facedet_mm.detectors.tensorrt.TensorRTDetector`.
        image: Image to compare on, at the size that the engine is tuned for; ``None`` means the sample image of the
            package.
        input_size: Side of the square input, in pixels, if there are no ``shapes``.

    Raises:
        ModelError: ``TensorRTDetector`` can't use the file, or the engine finds other faces than ONNX Runtime; the
            engine is removed then.
        MissingDependencyError: There is no GPU or driver.
    """
    size = (shapes.opt[2], shapes.opt[1]) if shapes else input_size
    start = time.perf_counter()
    detector = TensorRTDetector(model, device=f"tensorrt:{gpu}", precision=precision, shapes=shapes, input_size=size)
    seconds = time.perf_counter() - start
    image = asset_path("solvay_1927.jpg") if image is None else image
    found, expected = detector.detect(image), OnnxDetector(model, input_size=size).detect(image)
    pairs = _pairs(found, expected)
    lost = [faces.scores[i] for faces, i in _unpaired(found, expected, pairs) if faces.scores[i] > 0.5 + _SURE]
    if lost:
        detector.session.entry.remove()
        raise ModelError(
            f"the engine of {os.fspath(model)} and ONNX Runtime disagree about {len(lost)} faces, the best of score "
            f"{max(lost):.2f}; the engine was removed"
        )
    mine, other = (list(indices) for indices in zip(*pairs, strict=True)) if pairs else ([], [])
    differences = {
        "scores": _largest(found.scores[mine] - expected.scores[other]),
        "boxes": _largest(found.boxes[mine] - expected.boxes[other]),
    }
    session = detector.session
    return EngineReport(session.entry.path, session.precision, session.shapes, seconds, len(pairs), differences)


def _pairs(found: Faces, expected: Faces) -> list[tuple[int, int]]:
    """Returns the indices of the faces that overlap, by descending score of ``found``."""
    pairs, free = [], set(range(len(expected)))
    for i, box in enumerate(found.boxes):
        overlaps = {j: _iou(box, expected.boxes[j]) for j in free}
        best = max(overlaps, key=overlaps.__getitem__, default=None)
        if best is not None and overlaps[best] > _SAME_IOU:
            pairs.append((i, best))
            free.remove(best)
    return pairs


def _unpaired(found: Faces, expected: Faces, pairs: list[tuple[int, int]]) -> list[tuple[Faces, int]]:
    taken = [{i for i, _ in pairs}, {j for _, j in pairs}]
    return [
        (faces, i) for faces, of in zip((found, expected), taken, strict=True) for i in range(len(faces)) if i not in of
    ]


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    width, height = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    areas = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])
    return float(width * height / (areas - width * height))


def _largest(differences: NDArray[np.float32]) -> float:
    return float(np.abs(differences).max(initial=0))
