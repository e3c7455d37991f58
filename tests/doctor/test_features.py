"""The doctor's view of features: sound, incomplete and broken installations, checked against this one."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from installations import FITTING
from packaging.requirements import Requirement

from facedet_mm.doctor import requirements as module
from facedet_mm.doctor.features import FeatureCheck, SmokeTestResults, check_feature
from facedet_mm.doctor.requirements import MODULES, fits, installed_versions, requirements
from facedet_mm.errors import FaceDetError
from facedet_mm.system.dependencies import FEATURES, TORCH

ALL_OF_MMDEPLOY = {"mmdeploy", "aenum", "grpcio", "multiprocess", "prettytable", "terminaltables", "six", "h5py"}


@pytest.fixture(autouse=True)
def project(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """``pyproject.toml``; its requirements are those of the installed package, even where that is older."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(f"{want}; extra == '{name}'" for name in extras for want in extras[name])]
    monkeypatch.setattr(module.metadata, "requires", {"facedet-mm": lines}.__getitem__)
    return dict(project)


def failing(**errors: str) -> Callable[[Sequence[str]], SmokeTestResults]:
    """Smoke tests in which some modules fail; in names ``_`` stands for ``.`` and ``:``."""

    def run_tests(names: Sequence[str]) -> SmokeTestResults:
        by_key = {re.sub(r"[.:]", "_", name): name for name in names}
        assert set(errors) <= set(by_key)
        return {n: {"error": errors[key]} if key in errors else {"detail": key} for key, n in by_key.items()}

    return run_tests


def check(name: str, have: dict[str, str], **errors: str) -> FeatureCheck:
    return check_feature(name, have, failing(**errors))


def remedies(check: FeatureCheck) -> list[str]:
    return [problem.remedy for problem in check.problems]


class TestRequirements:
    def test_every_extra_is_a_feature(self, project: dict) -> None:
        extras = {feature.extra for feature in FEATURES.values() if feature.extra}
        assert extras == set(project["optional-dependencies"]) - {"dev"}
        assert all(name == feature.extra for name, feature in FEATURES.items() if feature.extra)

    def test_those_of_a_feature_are_those_of_its_extra_and_no_others(self, project: dict) -> None:
        for name, extra in project["optional-dependencies"].items():
            if name not in ("dev", "mmdeploy"):
                assert {str(requirement).partition(";")[0] for requirement in requirements(name)} == {
                    str(Requirement(line)) for line in extra
                }
        assert {str(requirement) for requirement in requirements("detect")} == set(project["dependencies"])

    def test_what_no_extra_can_list_is_added(self) -> None:
        assert {requirement.name for requirement in requirements("mmdeploy")} == ALL_OF_MMDEPLOY | {"setuptools"}
        assert [str(requirement) for requirement in requirements("supervision")] == ["supervision>=0.25"]

    def test_a_marker_of_another_system_counts_for_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = ["numpy", "onlydos; sys_platform == 'dos'", "jinja2; extra == 'plot' and sys_platform != 'dos'"]
        monkeypatch.setattr(module.metadata, "requires", lambda _: lines)
        assert [requirement.name for requirement in requirements("detect")] == ["numpy"]
        assert [requirement.name for requirement in requirements("plot")] == ["jinja2"]

    def test_a_package_that_is_not_installed_is_an_error_with_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(module.metadata, "requires", missing)
        with pytest.raises(FaceDetError, match=r"facedet-mm is not installed; run pip install -e \."):
            requirements("detect")

    def test_the_modules_are_those_that_the_distributions_install(self) -> None:
        brings: dict[str, set[str]] = {}
        for name, distributions in importlib.metadata.packages_distributions().items():
            for distribution in distributions:
                brings.setdefault(distribution.lower(), set()).add(name)
        names = {requirement.name for feature in FEATURES for requirement in requirements(feature)}
        checked = {name for name in names if name in brings}
        assert len(checked) > 5
        assert {name for name in checked if MODULES.get(name, name) not in brings[name]} == set()

    def test_versions_are_compared_as_pip_compares_them(self) -> None:
        assert fits("2.13.0+cpu", ">=2.6")
        assert fits("80.9.0", "<81")
        assert not fits("81.0", "<81")
        assert fits("2.10", ">=2.9")
        assert fits("2.14.0rc1", ">=2.6")
        assert not fits("built-by-hand", ">=1")

    def test_installed_distributions_are_found_under_their_normal_names(self) -> None:
        have = installed_versions()
        assert have["opencv-python"]
        assert have["numpy"] == importlib.metadata.version("numpy")
        assert all(name == re.sub(r"[-_.]+", "-", name).lower() for name in have)


class TestOneFeature:
    def test_works_when_all_is_there(self) -> None:
        result = check("detect", FITTING)
        assert (result.state, result.problems) == ("works", [])
        assert {package.detail for package in result.packages} >= {"numpy", "cv2", "av"}
        assert result.device_tests == {"cpu": {"detail": "device_cpu"}}

    def test_is_missing_when_nothing_is_there(self) -> None:
        result = check("openvino", {})
        assert (result.state, result.problems) == ("missing", [])

    def test_is_incomplete_when_a_package_lacks_and_that_is_no_fault(self) -> None:
        have = {name: version for name, version in FITTING.items() if name != "torch"}
        result = check("train", have, mmcv="ModuleNotFoundError: No module named 'torch'")
        assert (result.state, result.problems) == ("incomplete", [])

    def test_that_lacks_a_package_is_tested_by_its_other_packages_alone(self) -> None:
        tested: list[str] = []

        def run_tests(names: Sequence[str]) -> SmokeTestResults:
            tested.extend(names)
            return {name: {"detail": ""} for name in names}

        check_feature("detect", {"numpy": "2.2.6", "scipy": "1.15"}, run_tests)
        assert tested == ["numpy", "scipy"]

    def test_that_lacks_a_package_is_broken_by_another_fault(self) -> None:
        have = {name: version for name, version in FITTING.items() if name != "torch"}
        assert check("train", have, mmcv="ModuleNotFoundError: No module named 'yapf'").state == "broken"

    def test_is_broken_when_an_installed_package_fails(self) -> None:
        result = check("openvino", {"openvino": "2025.1"}, openvino="ImportError: libtbb.so.12 is missing")
        assert result.state == "broken"
        assert remedies(result) == ["pip install --force-reinstall --no-deps openvino==2025.1"]
        assert "libtbb.so.12" in result.problems[0].what

    def test_is_broken_when_all_import_and_no_face_is_found(self) -> None:
        result = check("detect", FITTING, device_cpu="RuntimeError: found 3 instead of 29 faces")
        assert (result.state, remedies(result)) == ("broken", ["pip install facedet-mm"])
        assert result.problems[0].what.startswith("finding faces on device cpu fails: RuntimeError")

    def test_says_how_to_compile_the_operators_that_mmcv_lacks(self) -> None:
        (problem,) = check("train", FITTING, mmcv_ops="ModuleNotFoundError: No module named 'mmcv._ext'").problems
        assert problem.broken
        assert problem.remedy == (
            "pip uninstall -y onedl-mmcv && pip install --no-build-isolation onedl-mmcv==2.3.6"
            " --no-cache-dir --no-binary onedl-mmcv"
        )

    def test_takes_another_build_of_opencv_instead_and_fixes_a_missing_libgl(self) -> None:
        have = {**FITTING, "opencv-contrib-python": "4.11.0.86"}
        del have["opencv-python"]
        assert check("detect", have).state == "works"
        result = check("detect", have, cv2="ImportError: libGL.so.1: cannot open shared object file")
        (remedy,) = remedies(result)
        command = "pip uninstall -y opencv-contrib-python && pip install opencv-python-headless==4.11.0.86"
        assert remedy.startswith(command)

    @pytest.mark.parametrize(
        ("change", "remedy"),
        [
            ({"setuptools": "82.0"}, "pip install 'setuptools<81'"),
            ({"torch": "2.4.0"}, "pip install torch==2.13.0"),
            ({"onedl-mmcv": "2.2.0"}, "pip install --no-build-isolation onedl-mmcv==2.3.6"),
        ],
    )
    def test_notes_a_version_that_does_not_fit_without_calling_it_broken(
        self, change: dict[str, str], remedy: str
    ) -> None:
        result = check("train", {**FITTING, **change})
        assert result.state == "works"
        (problem,) = result.problems
        assert (problem.remedy, problem.broken) == (remedy, False)

    def test_does_not_compare_the_versions_of_the_original_mm_packages(self) -> None:
        have = {**FITTING, "mmcv": "2.1.0", "mmdet": "3.3.0", "mmengine": "0.10.7"}
        for name in ("onedl-mmcv", "onedl-mmdetection", "onedl-mmengine"):
            del have[name]
        assert check("train", have).problems == []


def test_wherever_torch_or_mmcv_is_installed_the_version_is_one_that_compiles() -> None:
    commands = [feature.command for feature in FEATURES.values()]
    assert any("torch==2.13.0" in command and "onedl-mmcv==2.3.6" in command for command in commands)
    assert not re.search(r"install [^&]*\b(torch|onedl-mmcv)(?!==)\b", " && ".join(commands))


def test_the_extra_takes_the_version_that_compiles_and_none_that_does_not(project: dict) -> None:
    (want,) = (line for line in project["optional-dependencies"]["train"] if line.startswith("torch"))
    wanted = want.removeprefix("torch")
    assert fits(TORCH.removeprefix("torch=="), wanted)
    assert not fits("2.14.0", wanted)
