"""``facedet doctor``: what it says of sound, incomplete and broken installations, checked against this one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from facedet_mm.cli import guard, main
from facedet_mm.doctor import diagnosis
from facedet_mm.doctor.diagnosis import Problem, check_feature, conflicts, installed_versions
from facedet_mm.doctor.smoke_tests import probe
from facedet_mm.errors import FaceDetError, MissingDependencyError
from facedet_mm.system.dependencies import FEATURES, MODULES, missing_dependency, satisfies, split_requirement
from facedet_mm.system.machine import cpu_features

Results = dict[str, dict[str, str]]
FITTING = {
    "numpy": "2.2.6", "opencv-python": "4.12.0.88", "onnxruntime": "1.23.0", "scipy": "1.15", "tqdm": "4.66",
    "shtab": "1.7", "torch": "2.13.0+cpu", "onedl-mmengine": "0.10.12", "onedl-mmcv": "2.3.6",
    "onedl-mmdetection": "3.5.1", "onnx": "1.23.2", "tensorboard": "2.21", "setuptools": "80.1",
}  # fmt: skip


def failing(**errors: str) -> Callable[[Sequence[str]], Results]:
    """A probe in which some modules fail; in names ``_`` stands for ``.`` and ``:``."""

    def tried(names: Sequence[str]) -> Results:
        by_key = {re.sub(r"[.:]", "_", name): name for name in names}
        assert set(errors) <= set(by_key)
        return {n: {"error": errors[key]} if key in errors else {"detail": ""} for key, n in by_key.items()}

    return tried


def check(name: str, have: dict[str, str], **errors: str) -> dict[str, Any]:
    return check_feature(name, FEATURES[name], have, failing(**errors))


def remedies(found: Sequence[Problem]) -> list[str]:
    return [problem.remedy for problem in found]


class TestTheTableOfFeatures:
    def test_is_what_pyproject_says(self, root: Path) -> None:
        tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        stated = {name: set(wants) for name, wants in project["optional-dependencies"].items() if name != "dev"}
        stated["detect"] = set(project["dependencies"])
        table = {name: set(feature.requirements) for name, feature in FEATURES.items()}
        assert table.pop("supervision") <= set(project["optional-dependencies"]["dev"])
        table["mmdeploy"].remove("mmdeploy>=1.3.1")  # no extra can say --no-deps
        assert table == stated

    def test_names_the_modules_that_the_distributions_bring(self) -> None:
        brings: dict[str, set[str]] = {}
        for module, names in importlib.metadata.packages_distributions().items():
            for name in names:
                brings.setdefault(name.lower(), set()).add(module)
        checked = 0
        for feature in FEATURES.values():
            for name, _ in map(split_requirement, feature.requirements):
                if name in brings:
                    assert MODULES.get(name, name) in brings[name]
                    checked += 1
        assert checked > 5

    def test_agrees_with_packaging_on_versions(self) -> None:
        specifiers = pytest.importorskip("packaging.specifiers")
        for spec in (">=2.6", "<81", ">=1.26", ">=4.10,<5", "==2.13.0", "!=1.0", "<=3"):
            for version in (
                "2.6",
                "2.5.9",
                "2.10",
                "80.9.0",
                "81",
                "81.0.1",
                "1.26.0",
                "4.9.0.80",
                "2.13",
                "1.0.0",
                "3",
            ):
                assert satisfies(version, spec) == (version in specifiers.SpecifierSet(spec)), (version, spec)


class TestOneFeature:
    def test_works_when_all_is_there(self) -> None:
        result = check("detect", FITTING)
        assert (result["state"], result["install"], result["problems"]) == ("works", None, [])

    def test_is_missing_when_nothing_is_there_and_names_the_command(self) -> None:
        result = check("video", {})
        assert (result["state"], result["install"]) == ("missing", "pip install 'facedet-mm[video]'")
        assert result["problems"] == []

    def test_is_incomplete_when_a_package_lacks_and_that_is_no_fault(self) -> None:
        have = {name: version for name, version in FITTING.items() if name != "torch"}
        result = check("train", have, mmcv="ModuleNotFoundError: No module named 'torch'")
        assert (result["state"], result["problems"]) == ("incomplete", [])
        assert "onedl-mmcv" in result["install"]

    def test_is_broken_when_an_installed_package_fails(self) -> None:
        result = check("video", {"av": "14.0"}, av="ImportError: libavcodec.so.61 is missing")
        assert result["state"] == "broken"
        assert remedies(result["problems"]) == ["pip install --force-reinstall av"]
        assert "libavcodec.so.61" in result["problems"][0].what

    def test_is_broken_when_all_import_and_no_face_is_found(self) -> None:
        assert check("detect", FITTING, device_cpu="RuntimeError: found 3 instead of 29 faces")["state"] == "broken"

    def test_says_how_to_compile_the_operators_that_mmcv_lacks(self) -> None:
        result = check("train", FITTING, mmcv_ops="ModuleNotFoundError: No module named 'mmcv._ext'")
        (problem,) = result["problems"]
        assert problem.broken
        assert "--no-build-isolation" in problem.remedy
        assert "pip uninstall -y onedl-mmcv" in problem.remedy

    def test_takes_another_build_of_opencv_in_its_stead_and_mends_a_missing_libgl(self) -> None:
        have = {**FITTING, "opencv-contrib-python": "4.11.0.86"}
        del have["opencv-python"]
        assert check("detect", have)["state"] == "works"
        result = check("detect", have, cv2="ImportError: libGL.so.1: cannot open shared object file")
        assert (
            "uninstall -y opencv-contrib-python && pip install opencv-python-headless" in result["problems"][0].remedy
        )

    def test_notes_a_version_that_does_not_fit_without_calling_it_broken(self) -> None:
        result = check("train", {**FITTING, "setuptools": "82.0"})
        assert result["state"] == "works"
        (problem,) = result["problems"]
        assert (problem.remedy, problem.broken) == ("pip install 'setuptools<81'", False)


class TestConflicts:
    @pytest.mark.parametrize(
        ("change", "remedy"),
        [
            (
                {"opencv-python-headless": "4.12.0.88"},
                "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python",
            ),
            (
                {"onnxruntime-gpu": "1.23.0"},
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
            ),
            ({"opencv-python": "4.9.0.80"}, "pip install 'opencv-python>=4.10'"),
            ({"torchvision": "0.27.1"}, "pip install 'torchvision==0.28.*'"),
            ({"mmdet": "3.3.0"}, "pip uninstall -y mmdet mmcv mmengine"),
            ({"mmcv": "2.1.0"}, "pip uninstall -y onedl-mmcv mmcv && pip install --no-build-isolation onedl-mmcv"),
        ],
    )
    def test_each_is_named_with_the_command_that_mends_it(self, change: dict[str, str], remedy: str) -> None:
        assert conflicts(FITTING) == []
        found = remedies(conflicts({**FITTING, **change}))
        assert any(line.startswith(remedy) for line in found), found

    def test_what_goes_together_is_none(self) -> None:
        assert conflicts({**FITTING, "torchvision": "0.28.0"}) == []
        assert conflicts({"mmdet": "3.3.0", "mmcv": "2.1.0", "mmengine": "0.10.7"}) == []
        assert conflicts({"opencv-python": "4.9.0.80", "numpy": "1.26.4"}) == []


class TestProbing:
    def test_a_module_that_ends_its_process_is_told_from_those_before_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "kills.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
        (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        results = probe(["json", "leaves", "kills", "csv"])
        assert results["json"] == {"detail": ""}
        assert results["leaves"]["error"].startswith("SystemExit")
        assert "-9" in results["kills"]["error"]
        assert "csv" not in results

    def test_a_file_in_the_current_folder_does_not_pass_for_a_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "cv2.py").write_text("raise RuntimeError('the wrong one')\n")
        monkeypatch.chdir(tmp_path)
        assert probe(["cv2"]) == {"cv2": {"detail": ""}}


class TestTheMachine:
    def test_flags_are_read_as_linux_and_macos_print_them(self) -> None:
        assert cpu_features("flags\t\t: fpu avx2 avx512f avx_vnni amx_bf16 amx_tile") == [
            "AVX2", "AVX512", "VNNI", "AMX", "BF16",
        ]  # fmt: skip
        assert cpu_features("Features\t: fp asimd asimddp i8mm bf16") == ["BF16", "DotProd", "I8MM"]
        arm = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 0\nhw.optional.arm.FEAT_I8MM: 1"
        assert cpu_features(arm) == ["DotProd", "I8MM"]
        assert cpu_features("") is None

    def test_a_cache_that_cannot_be_written_is_noted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("FACEDET_HOME", str(tmp_path / "file"))
        cache, (problem,) = diagnosis._cache()
        assert cache["writable"] is False
        assert "FACEDET_HOME" in problem.remedy

    def test_the_cache_is_measured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FACEDET_HOME", str(tmp_path))
        (tmp_path / "scrfd_1g.onnx").write_bytes(bytes(1234))
        expected = dict(path=str(tmp_path), files=1, bytes=1234, writable=True)
        assert diagnosis._cache() == (expected, [])


@pytest.fixture(scope="module")
def broken_av(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed PyAV whose library is gone."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "av").mkdir()
    (folder / "av" / "__init__.py").write_text("raise ImportError('libavcodec.so.61: cannot open')\n")
    (folder / "av-14.0.dist-info").mkdir()
    (folder / "av-14.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: av\nVersion: 14.0\n")
    return folder


def test_a_broken_package_gives_status_1_and_its_remedy(broken_av: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(broken_av)}
    start = (
        "import sys; from facedet_mm.cli import main; from facedet_mm.system.dependencies import FEATURES\n"
        "for name in {*FEATURES} - {'detect', 'video'}: del FEATURES[name]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", start, "doctor", "--json", str(tmp_path / "r.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads((tmp_path / "r.json").read_text())
    assert done.returncode == 1, done.stderr
    assert "BROKEN: av fails: ImportError: libavcodec.so.61: cannot open" in done.stdout
    assert "mend: pip install --force-reinstall av" in done.stdout
    states = {feature["name"]: feature["state"] for feature in report["features"]}
    assert (states["video"], states["detect"]) == ("broken", "works")
    assert report["devices"]["cpu"].startswith("29 of 29 faces")
    assert report["cpu"]["cores"] >= 1


def test_the_versions_are_those_of_the_installed_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagnosis, "probe", lambda names: {name: {"detail": ""} for name in names})
    monkeypatch.setattr(diagnosis, "conflicts", lambda _: [])
    assert main(["doctor", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    packages = {p["name"]: p["version"] for feature in report["features"] for p in feature["packages"]}
    assert packages["numpy"] == importlib.metadata.version("numpy")
    assert packages["scipy"] == importlib.metadata.version("scipy")
    assert installed_versions()["numpy"] == packages["numpy"]


def test_every_missing_dependency_points_to_the_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(error: Exception) -> int:
        def run() -> int:
            raise error

        return guard(run, "facedet detect")

    assert fails(MissingDependencyError("device 'cuda' needs another build")) == 1
    assert "facedet doctor says" in capsys.readouterr().err.splitlines()[1]
    assert fails(missing_dependency("plots", "plot", ImportError("no matplotlib"))) == 1
    assert capsys.readouterr().err.count("facedet doctor") == 1
    assert fails(FaceDetError("a mistake")) == 1
    assert "doctor" not in capsys.readouterr().err
