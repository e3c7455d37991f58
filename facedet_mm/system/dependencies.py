"""The features of the package, and the commands that install what they need.

What each feature requires is written once, in ``pyproject.toml``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from facedet_mm.errors import MissingDependencyError

# mmcv 2.3.6 does not compile against torch 2.14. Torch comes first, because the build of mmcv must see it.
TORCH = "torch==2.13.0"
BUILD_MMCV = "pip install --no-build-isolation onedl-mmcv==2.3.6"


@dataclass(frozen=True)
class Feature:
    """A feature of the package.

    Attributes:
        summary: What the user gets.
        command: Command that installs its requirements.
        extra: Extra of the distribution that lists the requirements; ``''`` stands for the requirements of the
            package itself, ``None`` for no extra.
        besides: Requirements that the extra does not list.
    """

    summary: str
    command: str
    extra: str | None = None
    besides: tuple[str, ...] = ()


def _extra(name: str, summary: str) -> Feature:
    return Feature(summary, f"pip install 'facedet-mm[{name}]'", name)


FEATURES = {
    "detect": Feature("faces in images and videos, with ONNX Runtime", "pip install facedet-mm", ""),
    "openvino": _extra("openvino", "device openvino: the fastest on CPUs"),
    "plot": _extra("plot", "plots and report pages"),
    "data": _extra("data", "data sets of YOLO with data.yaml, and plots of face sizes"),
    "track-eval": _extra("track-eval", "HOTA, MOTA and IDF1 of tracks; can't be installed next to MMDetection"),
    "supervision": Feature(
        "Faces.to_supervision, for its annotators", "pip install supervision", besides=("supervision>=0.25",)
    ),
    "train": Feature(
        "training, evaluation and .pth checkpoints, with PyTorch and MMDetection",
        f"pip install {TORCH} 'setuptools<81' wheel ninja psutil && {BUILD_MMCV} && pip install 'facedet-mm[train]'",
        "train",
    ),
    "search": _extra("search", "architecture search"),
    "deploy": _extra("deploy", "smaller graphs in exported ONNX files"),
    "mmdeploy": Feature(
        "export by mmdeploy 1.3.1: its SDK, TensorRT 8",
        "pip install 'facedet-mm[mmdeploy]' && pip install --no-deps mmdeploy==1.3.1",
        "mmdeploy",
        ("mmdeploy>=1.3.1",),
    ),
    "tensorrt": _extra("tensorrt", "device tensorrt: NVIDIA's TensorRT 10 and later"),
}
"""Name → feature, for error messages and ``facedet doctor``."""


def missing_dependency(what: str, feature: str, error: ImportError) -> MissingDependencyError:
    """Returns the error to raise when ``what`` could not import a package that ``feature`` needs.

    Example:
        >>> str(missing_dependency("plots need matplotlib", "plot", ImportError("No module named 'matplotlib'")))
        "plots need matplotlib: pip install 'facedet-mm[plot]' (No module named 'matplotlib'; see facedet doctor)"
    """
    return MissingDependencyError(f"{what}: {FEATURES[feature].command} ({error}; see facedet doctor)")


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Keeps OpenVINO from reporting its import to Google Analytics and from writing a client ID into the home folder.

    In the block, the package ``openvino_telemetry`` counts as not installed, for which OpenVINO has a stand-in. There
    is no variable for this: OpenVINO looks for the file ``~/intel/openvino_telemetry`` and for ``CI``.

    Example:
        >>> with without_telemetry():
        ...     import json  # an import that would bring the package along
    """
    name = "openvino_telemetry"
    if name in sys.modules:  # imported by the user
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
