"""What works in this installation, what is missing or broken, and the commands that mend it."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from facedet_mm import __version__
from facedet_mm.doctor.smoke_tests import probe
from facedet_mm.errors import FaceDetError
from facedet_mm.system.dependencies import (
    ALTERNATIVES,
    BUILD_MMCV,
    FEATURES,
    MODULES,
    Feature,
    satisfies,
    split_requirement,
)
from facedet_mm.system.machine import cores, cpu_features, cpu_name, nvidia_gpus
from facedet_mm.zoo import cache_dir

_MORE_PROBES = {
    "detect": ("device:cpu",), "openvino": ("device:openvino",), "train": ("mmcv.ops", "facedet_mm.plugin.models"),
}  # fmt: skip
"""What is tried besides the modules of a feature's packages."""

_PROVIDERS = {
    "CUDAExecutionProvider": "cuda", "CoreMLExecutionProvider": "coreml", "DmlExecutionProvider": "directml",
}  # fmt: skip
"""Providers that are tried out where ONNX Runtime has them → the device that uses them."""


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        what: is wrong.
        remedy: the command that mends it.
        broken: whether something that is installed does not work because of it.
    """

    what: str
    remedy: str
    broken: bool = True


def diagnose() -> dict[str, Any]:
    """Tries everything out; takes some seconds where PyTorch is installed.

    Returns:
        What ``facedet doctor --json`` writes.
    """
    have = installed_versions()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        features = list(pool.map(lambda name: check_feature(name, FEATURES[name], have, probe), FEATURES))
    gpus = nvidia_gpus()
    devices, device_problems = _devices(features, gpus)
    cache, cache_problems = _cache()
    problems = [*conflicts(have), *(p for feature in features for p in feature.pop("problems")), *device_problems]
    return dict(
        facedet_mm=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=dict(name=cpu_name(), cores=cores(), features=cpu_features()),
        gpus=gpus,
        devices=devices,
        features=features,
        cache=cache,
        problems=[vars(problem) for problem in [*problems, *cache_problems]],
    )


def installed_versions() -> dict[str, str]:
    """Distribution, in lower case with dashes → version, of everything that is installed."""
    names = ((d.metadata["Name"], d.version) for d in metadata.distributions())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in names if name and version}


def check_feature(
    name: str, feature: Feature, have: Mapping[str, str], tried: Callable[[Sequence[str]], dict[str, dict[str, str]]]
) -> dict[str, Any]:
    """The state of one feature.

    Args:
        name: of the feature.
        feature: what it needs.
        have: distribution → version.
        tried: :func:`~facedet_mm.doctor.smoke_tests.probe`, or what stands in for it.

    Returns:
        ``state`` (``works``, ``missing``, ``incomplete``, ``broken``), ``packages``, ``problems`` and more.
    """
    packages = [_package(requirement, have) for requirement in feature.requirements]
    modules = {p["module"]: p for p in packages if p["version"]}
    more = _MORE_PROBES.get(name, ())
    results = tried([*modules, *(more if len(modules) == len(packages) else ())]) if modules else {}
    absent = {p["module"] for p in packages if not p["version"]}
    problems = []
    for probed, result in results.items():
        if "detail" in result:
            if probed in modules:
                modules[probed]["detail"] = result["detail"]
        elif not any(f"No module named '{module}" in result["error"] for module in absent):
            owner = modules.get(probed.partition(".")[0])
            package = str(owner["name"]) if owner else None
            problems.append(_broken(name, probed, package, result["error"]))
    unfit = [p for p in packages if p["version"] and not p["fits"]]
    problems += [
        Problem(f"{p['name']} {p['version']}: {name} needs {p['requirement']}", _install(p["requirement"]), False)
        for p in unfit
    ]
    state = "incomplete" if absent else "works"
    if len(absent) == len(packages):
        state = "missing"
    elif any(problem.broken for problem in problems):
        state = "broken"
    tests = {probed: result for probed, result in results.items() if probed.startswith("device:")}
    return dict(
        name=name,
        summary=feature.summary,
        state=state,
        packages=packages,
        tests=tests,
        install=feature.command if absent else None,
        problems=problems,
    )


def conflicts(have: Mapping[str, str]) -> list[Problem]:
    """Combinations of installed packages that are known not to work, without importing them.

    Args:
        have: distribution → version.

    Example:
        >>> conflicts({"opencv-python": "4.12.0.88", "opencv-python-headless": "4.12.0.88"})[0].remedy
        'pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python'
    """
    return [*_twins(have), *_misfits(have)]


def _twins(have: Mapping[str, str]) -> Iterator[Problem]:
    for name, others in ALTERNATIVES.items():
        twins = [package for package in (name, *others) if package in have]
        if len(twins) > 1:
            # of ONNX Runtime's builds the one that can do more stays
            keep = twins[-1] if name == "onnxruntime" else name
            yield Problem(
                f"{' and '.join(twins)} are installed at once and overwrite each other's files",
                f"pip uninstall -y {' '.join(twins)} && {_install(keep)}",
            )


def _misfits(have: Mapping[str, str]) -> Iterator[Problem]:
    mmcv = have.get(_found("onedl-mmcv", have) or "", "0")
    if "mmdet" in have and satisfies(mmcv, ">=2.2"):
        yield Problem(
            f"mmdet {have['mmdet']} refuses mmcv {mmcv}",
            f"pip uninstall -y mmdet mmcv mmengine && {BUILD_MMCV} && pip install onedl-mmengine onedl-mmdetection",
        )
    opencv = _found("opencv-python", have)
    if opencv and satisfies(have[opencv], "<4.10") and satisfies(have.get("numpy", "0"), ">=2"):
        yield Problem(
            f"{opencv} {have[opencv]} is built for NumPy 1, not {have['numpy']}", f"pip install '{opencv}>=4.10'"
        )
    # torchvision 0.15 came with torch 2.0, and both have counted up together since
    torch = re.match(r"2\.(\d+)", have.get("torch", ""))
    vision = have.get("torchvision")
    if torch and vision and not vision.startswith(wanted := f"0.{int(torch[1]) + 15}."):
        yield Problem(
            f"torchvision {vision} does not fit torch {have['torch']}", f"pip install 'torchvision=={wanted}*'"
        )


def _found(name: str, have: Mapping[str, str]) -> str | None:
    """The installed one of a distribution and those that may stand in for it."""
    return next((package for package in (name, *ALTERNATIVES.get(name, ())) if package in have), None)


def _package(requirement: str, have: Mapping[str, str]) -> dict[str, Any]:
    name, specifiers = split_requirement(requirement)
    found = _found(name, have)
    version = have[found] if found else None
    # the plain mm packages count their versions differently
    fits = bool(version) and (satisfies(str(version), specifiers) or str(found).startswith("mm"))
    return dict(
        name=found or name,
        version=version,
        requirement=requirement,
        fits=fits,
        module=MODULES.get(name, name.replace("-", "_")),
        detail="",
    )


def _broken(feature: str, probed: str, package: str | None, error: str) -> Problem:
    """The problem of something that is installed and fails."""
    what = f"{probed.replace('device:', 'finding faces on device ')} fails: {error}"
    if "libGL" in error or "libgthread" in error:
        headless = "opencv-python-headless"
        return Problem(what, f"pip uninstall -y {package} && pip install {headless}   (has no windows for --show)")
    if probed.startswith("mmcv"):
        return Problem(
            f"{what}; mmcv's operators are not compiled, or for another torch",
            f"pip uninstall -y {package} && {BUILD_MMCV} --no-cache-dir --no-binary onedl-mmcv",
        )
    command = f"pip install --force-reinstall {package}" if package else FEATURES[feature].command
    return Problem(what, command)


def _install(requirement: str) -> str:
    quoted = f"'{requirement}'" if re.search(r"[<>\[]", requirement) else requirement
    return BUILD_MMCV if requirement.startswith("onedl-mmcv") else f"pip install {quoted}"


def _devices(features: Sequence[dict[str, Any]], gpus: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    """Device of ``build_detector`` → what it did, for those that are there."""
    tests = {name: result for feature in features for name, result in feature.pop("tests").items()}
    devices = {name.removeprefix("device:"): _outcome(result) for name, result in tests.items()}
    details = {p["module"]: p["detail"] for feature in features for p in feature["packages"]}
    problems = []
    for provider, device in _PROVIDERS.items():
        if provider in details.get("onnxruntime", ""):
            result = probe([f"device:{device}"])[f"device:{device}"]
            devices[device] = _outcome(result)
            if "error" in result and (gpus or device != "cuda"):
                problems.append(_broken("detect", f"device:{device}", "onnxruntime-gpu[cuda,cudnn]", result["error"]))
    if gpus and details.get("onnxruntime") and "cuda" not in devices:
        problems.append(
            Problem(
                "there is an NVIDIA GPU, and ONNX Runtime is a build without CUDA",
                "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'",
                False,
            )
        )
    if gpus and details.get("torch") == "CPU build":
        problems.append(
            Problem(
                "there is an NVIDIA GPU, and torch is a build for the CPU",
                "pip uninstall -y torch, and install the CUDA build that pytorch.org names",
                False,
            )
        )
    return devices, problems


def _outcome(result: dict[str, str]) -> str:
    return result["detail"] if "detail" in result else f"fails: {result['error']}"


def _cache() -> tuple[dict[str, Any], list[Problem]]:
    """Place, files, size and state of the folder of fetched models."""
    try:
        folder = cache_dir()
    except FaceDetError as error:
        return dict(path=None, files=0, bytes=0, writable=False), [Problem(str(error), "export FACEDET_HOME=…", False)]
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    writable = _is_writable(folder)
    problem = Problem(
        f"fetched models can't be kept in {folder}: it can't be written",
        "export FACEDET_HOME=… with a folder of yours",
        False,
    )
    return dict(path=str(folder), files=len(sizes), bytes=sum(sizes), writable=writable), [] if writable else [problem]


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in ``folder``, or, while it doesn't exist, in the folder it would be made in."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False
