"""Face detection with SCRFD: a runtime that needs no torch, and an MMDetection plugin for training."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from facedet_mm.version import __version__

# From 1.32 on, ONNX Runtime reports its use to Microsoft and writes a device ID into the user's cache folder, unless
# this is set before its first import. Everything here, and every process that is started from here, imports us first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_EXPORTS = {
    "Faces": "facedet_mm.structures",
    "build_detector": "facedet_mm.detectors",
    "Detector": "facedet_mm.detectors",
    "ByteTracker": "facedet_mm.tracking",
    "VideoFaceDetector": "facedet_mm.video.pipeline",
    "FaceDetError": "facedet_mm.errors",
}

__all__ = ["ByteTracker", "Detector", "FaceDetError", "Faces", "VideoFaceDetector", "__version__", "build_detector"]

if TYPE_CHECKING:
    from facedet_mm.detectors import Detector, build_detector
    from facedet_mm.errors import FaceDetError
    from facedet_mm.structures import Faces
    from facedet_mm.tracking import ByteTracker
    from facedet_mm.video.pipeline import VideoFaceDetector


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that ``import facedet_mm`` stays cheap."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
