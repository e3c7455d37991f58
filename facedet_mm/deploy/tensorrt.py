"""Builds TensorRT engines ahead of time, for ``build_detector(..., device='tensorrt')``, and checks them on an image.

Needs no PyTorch. An engine must be built on the machine and GPU that will run it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedet_mm.detectors import Image, OnnxDetector
from facedet_mm.detectors.tensorrt import Precision, ShapeRange, TensorRTDetector
from facedet_mm.errors import ModelError
from facedet_mm.evaluation.agreement import compare_faces
from facedet_mm.zoo import asset_path

_SURE = 0.1
"""Faces whose score is this much above the threshold must be found by both."""


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
    agreement = compare_faces(found, expected)
    unmatched = np.concatenate([found.scores[agreement.only_first], expected.scores[agreement.only_second]])
    lost = unmatched[~(unmatched <= 0.5 + _SURE)]  # a score that is not a number counts
    if len(lost):
        detector.session.entry.remove()
        raise ModelError(
            f"the engine of {os.fspath(model)} and ONNX Runtime disagree about {len(lost)} faces, the best of score "
            f"{lost.max():.2f}; the engine was removed"
        )
    differences = {"scores": agreement.scores, "boxes": agreement.boxes}
    session = detector.session
    return EngineReport(
        session.entry.path, session.precision, session.shapes, seconds, len(agreement.pairs), differences
    )
