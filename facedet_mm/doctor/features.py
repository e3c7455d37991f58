"""The state of each feature: which of its packages are missing, outdated or broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from facedet_mm.doctor.problems import Problem, failed_test, install_command
from facedet_mm.doctor.requirements import MODULES, find_installed, fits, requirements
from facedet_mm.system.dependencies import FEATURES

SmokeTestResults = dict[str, dict[str, str]]
"""Results of :func:`~facedet_mm.doctor.smoke_tests.run_smoke_tests`."""

_MORE_TESTS = {
    "detect": ("device:cpu",),
    "openvino": ("device:openvino",),
    "train": ("mmcv.ops", "facedet_mm.plugin"),
}
"""Feature → smoke tests besides importing its packages."""


@dataclass
class Package:
    """A required package.

    Attributes:
        name: The installed distribution, or the required one when none is installed.
        version: Installed version, ``None`` if it is missing.
        requirement: The requirement, such as ``numpy>=1.26``.
        fits: Whether the installed version satisfies the requirement.
        module: Module to import.
        detail: Details that the module reports, such as its devices.
    """

    name: str
    version: str | None
    requirement: str
    fits: bool
    module: str
    detail: str = ""


@dataclass(frozen=True)
class FeatureCheck:
    """The state of a feature.

    Attributes:
        name: Name of the feature.
        state: ``'works'``, ``'missing'``, ``'incomplete'`` or ``'broken'``.
        packages: The required packages.
        problems: Problems with the installed ones.
        device_tests: Results of the feature's tests of devices.
    """

    name: str
    state: str
    packages: list[Package]
    problems: list[Problem]
    device_tests: SmokeTestResults


def check_feature(
    name: str, have: Mapping[str, str], run_tests: Callable[[Sequence[str]], SmokeTestResults]
) -> FeatureCheck:
    """Returns the state of a feature.

    Args:
        name: Name of the feature.
        have: Distribution → version.
        run_tests: :func:`~facedet_mm.doctor.smoke_tests.run_smoke_tests` or a stand-in.

    Raises:
        FaceDetError: ``facedet-mm`` is not installed.
    """
    packages = [_package(requirement, have) for requirement in requirements(name)]
    installed = {package.module: package for package in packages if package.version}
    absent = [package for package in packages if not package.version]
    more = () if absent else _MORE_TESTS.get(name, ())
    results = run_tests([*installed, *more]) if installed else {}
    problems = []
    for test, result in results.items():
        if "detail" in result:
            if test in installed:
                installed[test].detail = result["detail"]
        elif not any(f"No module named '{package.module}" in result["error"] for package in absent):
            owner = installed.get(test.partition(".")[0])
            found = (owner.name, str(owner.version)) if owner else None
            problems.append(failed_test(test, result["error"], found, FEATURES[name].command))
    broken = bool(problems)
    problems += [
        Problem(f"{p.name} {p.version}: {name} needs {p.requirement}", install_command(p.requirement), broken=False)
        for p in installed.values()
        if not p.fits
    ]
    state = "missing" if not installed else "broken" if broken else "incomplete" if absent else "works"
    devices = {test.removeprefix("device:"): result for test, result in results.items() if test.startswith("device:")}
    return FeatureCheck(name, state, packages, problems, devices)


def _package(requirement: Requirement, have: Mapping[str, str]) -> Package:
    name = canonicalize_name(requirement.name)
    found = find_installed(name, have)
    version = have[found] if found else None
    # the original mm packages count their versions differently
    original = found != name and str(found).startswith("mm")
    return Package(
        name=found or name,
        version=version,
        requirement=f"{name}{requirement.specifier}",
        fits=version is not None and (original or fits(version, requirement.specifier)),
        module=MODULES.get(name, name.replace("-", "_")),
    )
