"""What each feature of the package needs, and the command that installs it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from facedet_mm.errors import MissingDependencyError


@dataclass(frozen=True)
class Feature:
    """What a feature gives and needs.

    Attributes:
        summary: what a user gets.
        requirements: distributions with their least versions, as in ``pyproject.toml``.
        command: installs them.
    """

    summary: str
    requirements: tuple[str, ...]
    command: str


def _extra(name: str, summary: str, *requirements: str) -> Feature:
    return Feature(summary, requirements, f"pip install 'facedet-mm[{name}]'")


# mmcv is compiled against the torch that is there, so torch comes first and the build must see it
BUILD_MMCV = "pip install --no-build-isolation onedl-mmcv"
_TRAIN = f"pip install torch 'setuptools<81' wheel ninja psutil && {BUILD_MMCV} && pip install 'facedet-mm[train]'"

FEATURES = {
    "detect": Feature(
        "faces in images and videos, with ONNX Runtime",
        (
            "numpy>=1.26", "opencv-python>=4.9", "onnx>=1.16", "onnxruntime>=1.18", "scipy>=1.11", "tqdm>=4.65",
            "shtab>=1.6",
        ),
        "pip install facedet-mm",
    ),
    "video": _extra("video", "H.264 with sound and time stamps, more containers and codecs", "av>=12"),
    "openvino": _extra("openvino", "device openvino: the fastest on CPUs", "openvino>=2024.6"),
    "plot": _extra("plot", "curves and plots", "matplotlib>=3.8"),
    "track-eval": _extra("track-eval", "HOTA, MOTA and IDF1 of tracks; not beside MMDetection", "trackeval>=1.0"),
    "supervision": Feature(
        "Faces.to_supervision, for its annotators", ("supervision>=0.25",), "pip install supervision"
    ),
    "train": Feature(
        "training, evaluation and .pth checkpoints, with PyTorch and MMDetection",
        (
            "torch>=2.6", "onedl-mmengine>=0.10.9", "onedl-mmcv>=2.3", "onedl-mmdetection>=3.4", "tensorboard>=2.14",
            "setuptools<81",
        ),
        _TRAIN,
    ),
    "deploy": _extra("deploy", "smaller graphs in exported ONNX files", "onnxsim>=0.4.36"),
    "mmdeploy": Feature(
        "export by mmdeploy 1.3.1: its SDK, TensorRT 8",
        (
            "mmdeploy>=1.3.1", "aenum", "grpcio", "multiprocess", "prettytable", "terminaltables", "six", "h5py",
            "setuptools<81",
        ),
        "pip install 'facedet-mm[mmdeploy]' && pip install --no-deps mmdeploy==1.3.1",
    ),
    "tensorrt": _extra(
        "tensorrt", "device trt: NVIDIA's TensorRT 10 and later", "tensorrt>=10.0.1", "cuda-python>=12.9"
    ),
}  # fmt: skip
"""The features that ``facedet doctor`` checks; the optional ones are the extras of ``pyproject.toml``."""

MODULES = {
    "cuda-python": "cuda",
    "grpcio": "grpc",
    "opencv-python": "cv2",
    "onedl-mmengine": "mmengine",
    "onedl-mmcv": "mmcv",
    "onedl-mmdetection": "mmdet",
}
"""Distribution → the module it brings, where the names differ."""

ALTERNATIVES = {
    "opencv-python": ("opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "onedl-mmengine": ("mmengine", "mmengine-lite"),
    "onedl-mmcv": ("mmcv", "mmcv-lite", "mmcv-full"),
    "onedl-mmdetection": ("mmdet",),
}
"""Distribution → others that bring the same module in its stead; two of them at once overwrite each other's files."""


def missing_dependency(what: str, feature: str, error: ImportError) -> MissingDependencyError:
    """The error to raise where ``what`` could not import what ``feature`` needs.

    Example:
        >>> str(missing_dependency("plots need matplotlib", "plot", ImportError("No module named 'matplotlib'")))
        "plots need matplotlib: pip install 'facedet-mm[plot]' (No module named 'matplotlib'; facedet doctor says more)"
    """
    return MissingDependencyError(f"{what}: {FEATURES[feature].command} ({error}; facedet doctor says more)")


def split_requirement(requirement: str) -> tuple[str, str]:
    """A distribution's name and the rest, its version specifiers.

    Example:
        >>> split_requirement("setuptools<81")
        ('setuptools', '<81')
    """
    name = re.match(r"[\w.-]*\w", requirement)
    assert name, requirement
    return name[0], requirement[name.end() :]


def satisfies(version: str, specifiers: str) -> bool:
    """Whether a version's release number fits specifiers such as ``>=2.6`` or ``>=1,<3``.

    Example:
        >>> satisfies("2.13.0+cpu", ">=2.6"), satisfies("2.13.0", ">=2.6,<2.13")
        (True, False)
    """
    have = _release(version)
    for operator, number in re.findall(r"(>=|<=|==|!=|<|>)\s*([\d.]+)", specifiers):
        wanted = _release(number)
        fits = {
            ">=": have >= wanted, "<=": have <= wanted, "==": have == wanted, "!=": have != wanted,
            "<": have < wanted, ">": have > wanted,
        }  # fmt: skip
        if not fits[operator]:
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    """``'2.13.0+cpu'`` → (2, 13): without trailing zeros, so that 2 and 2.0 are equal."""
    numbers = re.match(r"[\d.]*", version)
    parts = [int(part) for part in (numbers[0] if numbers else "").split(".") if part]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)
