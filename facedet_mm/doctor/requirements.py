"""What each feature requires, and what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from facedet_mm.errors import FaceDetError
from facedet_mm.system.dependencies import FEATURES

MODULES = {
    "cuda-python": "cuda",
    "grpcio": "grpc",
    "opencv-python": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "onedl-mmengine": "mmengine",
    "onedl-mmcv": "mmcv",
    "onedl-mmdetection": "mmdet",
}
"""Distribution → module, where the names differ."""

ALTERNATIVES = {
    "opencv-python": ("opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "onedl-mmengine": ("mmengine", "mmengine-lite"),
    "onedl-mmcv": ("mmcv", "mmcv-lite", "mmcv-full"),
    "onedl-mmdetection": ("mmdet",),
}
"""Distribution → others that install the same module; two of them at once overwrite each other's files."""


def installed_versions() -> dict[str, str]:
    """Returns distribution name (lower case, dashes) → version of everything that is installed."""
    found = reversed([(d.metadata["Name"], d.version) for d in metadata.distributions()])  # the first on the path wins
    return {canonicalize_name(name): version for name, version in found if name and version}


def requirements(feature: str) -> list[Requirement]:
    """Returns what a feature requires, from the metadata of the installed ``facedet-mm``.

    Raises:
        FaceDetError: ``facedet-mm`` is not installed.

    Example:
        >>> [requirement.name for requirement in requirements("openvino")]
        ['openvino']
    """
    extra = FEATURES[feature].extra
    try:
        texts = metadata.requires("facedet-mm") or []
    except metadata.PackageNotFoundError:
        raise FaceDetError("facedet-mm is not installed; run pip install -e . in its folder") from None
    listed = [Requirement(text) for text in texts]
    core = [requirement for requirement in listed if _applies(requirement, "")]
    if extra:
        listed = [r for r in listed if _applies(r, extra) and r not in core]
    return [*(listed if extra else core if extra == "" else []), *map(Requirement, FEATURES[feature].besides)]


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def fits(version: str, specifiers: str | SpecifierSet) -> bool:
    """Returns whether a version satisfies specifiers such as ``>=1,<3``; pre-releases count as any other.

    Example:
        >>> fits("2.13.0+cpu", ">=2.6"), fits("2.13.0", ">=2.6,<2.13"), fits("unknown", ">=1")
        (True, False, False)
    """
    try:
        return SpecifierSet(str(specifiers)).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def find_installed(name: str, have: Mapping[str, str]) -> str | None:
    """Returns the installed distribution among ``name`` and its :data:`ALTERNATIVES`, ``None`` if there is none.

    Example:
        >>> find_installed("opencv-python", {"opencv-python-headless": "4.12.0.88"})
        'opencv-python-headless'
    """
    return next((package for package in (name, *ALTERNATIVES.get(name, ())) if package in have), None)
