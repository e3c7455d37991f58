"""Combinations of installed packages that are known not to work, found without importing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packaging.version import InvalidVersion, Version

from facedet_mm.doctor.problems import Problem, install_command, reinstall_command
from facedet_mm.doctor.requirements import ALTERNATIVES, find_installed, fits
from facedet_mm.system.dependencies import BUILD_MMCV, TORCH


def find_conflicts(have: Mapping[str, str]) -> list[Problem]:
    """Returns the known conflicts between installed packages.

    Args:
        have: Distribution → version.

    Example:
        >>> problems = find_conflicts({"opencv-python": "4.12.0.88", "opencv-python-headless": "4.12.0.88"})
        >>> print(problems[0].remedy.replace(" && ", "\\n"))
        pip uninstall -y opencv-python opencv-python-headless
        pip install --force-reinstall --no-deps opencv-python==4.12.0.88
    """
    return [*_duplicates(have), *_misfits(have)]


def _duplicates(have: Mapping[str, str]) -> Iterator[Problem]:
    for name, others in ALTERNATIVES.items():
        found = [package for package in (name, *others) if package in have]
        if len(found) < 2:
            continue
        keep = found[-1] if name == "onnxruntime" else found[0]  # of ONNX Runtime, the build with more devices
        install = install_command(name) if name == "onedl-mmcv" else reinstall_command(keep, have[keep])
        if name == "opencv-python" and not fits(have[keep], "<5"):
            install = f"pip install '{keep}>=4.10,<5'"
        yield Problem(
            f"{' and '.join(found)} are installed at once and overwrite each other's files",
            f"pip uninstall -y {' '.join(found)} && {install}",
        )


def _misfits(have: Mapping[str, str]) -> Iterator[Problem]:
    mmcv = have.get(find_installed("onedl-mmcv", have) or "", "0")
    if "mmdet" in have and fits(mmcv, ">=2.2"):
        yield Problem(
            f"mmdet {have['mmdet']} does not accept mmcv {mmcv}",
            f"pip uninstall -y mmdet mmcv mmengine && {BUILD_MMCV} && pip install onedl-mmengine onedl-mmdetection",
        )
    opencv = find_installed("opencv-python", have)
    if opencv and fits(have[opencv], "<4.10") and fits(have.get("numpy", "0"), ">=2"):
        yield Problem(
            f"{opencv} {have[opencv]} is built for NumPy 1, not {have['numpy']}", f"pip install '{opencv}>=4.10,<5'"
        )
    torch = _version(have, "torch")
    if torch and torch >= Version("2.14") and "onedl-mmcv" in have:
        yield Problem(
            f"onedl-mmcv {mmcv} may not compile against torch {torch}",
            f"pip uninstall -y onedl-mmcv && pip install {TORCH} && {BUILD_MMCV}",
            broken=False,
        )
    # torchvision 0.15 came with torch 2.0, and both have counted up together since
    vision = _version(have, "torchvision")
    if torch and vision and torch.major == 2 and vision.release[:2] != (0, torch.minor + 15):
        yield Problem(
            f"torchvision {vision} does not fit torch {torch}", f"pip install 'torchvision==0.{torch.minor + 15}.*'"
        )


def _version(have: Mapping[str, str], name: str) -> Version | None:
    try:
        return Version(have[name])
    except (KeyError, InvalidVersion):
        return None
