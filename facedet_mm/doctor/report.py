"""The report of ``facedet doctor``: machine, devices, features, folder of models, and problems."""

from __future__ import annotations

import os
import platform
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from facedet_mm.doctor.conflicts import find_conflicts
from facedet_mm.doctor.devices import check_devices
from facedet_mm.doctor.features import FeatureCheck, check_feature
from facedet_mm.doctor.problems import Problem
from facedet_mm.doctor.requirements import installed_versions
from facedet_mm.doctor.smoke_tests import run_smoke_tests
from facedet_mm.errors import FaceDetError
from facedet_mm.system.dependencies import FEATURES
from facedet_mm.system.machine import cores, cpu_features, cpu_name, nvidia_gpus
from facedet_mm.version import __version__
from facedet_mm.zoo import cache_dir


def diagnose() -> dict[str, Any]:
    """Checks the whole installation, which takes some seconds where PyTorch is installed.

    Returns:
        The content of ``facedet doctor --json``.

    Raises:
        FaceDetError: ``facedet-mm`` is not installed.
    """
    have = installed_versions()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        checks = list(pool.map(lambda name: check_feature(name, have, run_smoke_tests), FEATURES))
    gpus = nvidia_gpus()
    devices, device_problems = check_devices(checks, gpus, run_smoke_tests)
    cache, cache_problems = check_cache()
    feature_problems = [problem for check in checks for problem in check.problems]
    problems = [*find_conflicts(have), *feature_problems, *device_problems, *cache_problems]
    return dict(
        facedet_mm=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=dict(name=cpu_name(), cores=cores(), features=cpu_features()),
        gpus=gpus,
        devices=devices,
        features=[_record(check) for check in checks],
        cache=cache,
        problems=[vars(problem) for problem in problems],
    )


def check_cache() -> tuple[dict[str, Any], list[Problem]]:
    """Returns path, number of files, size and state of the folder of downloaded models, and its problems."""
    try:
        folder = cache_dir()
    except FaceDetError as error:
        return dict(path=None, files=0, bytes=0, writable=False), [Problem(str(error), "export FACEDET_HOME=…", False)]
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    cache = dict(path=str(folder), files=len(sizes), bytes=sum(sizes), writable=_is_writable(folder))
    if cache["writable"]:
        return cache, []
    what = f"downloaded models can't be kept in {folder}: it is not writable"
    return cache, [Problem(what, "export FACEDET_HOME=… with a folder of yours", broken=False)]


def _record(check: FeatureCheck) -> dict[str, Any]:
    feature = FEATURES[check.name]
    complete = all(package.version for package in check.packages)
    return dict(
        name=check.name,
        summary=feature.summary,
        state=check.state,
        packages=[vars(package) for package in check.packages],
        install=None if complete else feature.command,
    )


def _is_writable(folder: Path) -> bool:
    """Whether a file can be created in ``folder``, or in its nearest parent that exists."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False
