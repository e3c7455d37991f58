"""``facedet doctor``: its output, its status, and the errors that point to it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from facedet_mm.cli import guard, main
from facedet_mm.doctor import report
from facedet_mm.doctor.problems import Problem
from facedet_mm.errors import FaceDetError, MissingDependencyError
from facedet_mm.system.dependencies import missing_dependency


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
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(broken_av), *sys.path])}
    start = (
        "import sys; from facedet_mm.cli import main; from facedet_mm.system.dependencies import FEATURES\n"
        "for name in {*FEATURES} - {'detect', 'plot'}: del FEATURES[name]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", start, "doctor", "--json", str(tmp_path / "r.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    written = json.loads((tmp_path / "r.json").read_text())
    assert done.returncode == 1, done.stderr
    assert "BROKEN: av fails: ImportError: libavcodec.so.61: cannot open" in done.stdout
    assert "fix: pip install --force-reinstall --no-deps av==14.0\n" in done.stdout
    states = {feature["name"]: feature["state"] for feature in written["features"]}
    assert (states["detect"], states["plot"]) == ("broken", "works")
    assert written["devices"]["cpu"].startswith("29 of 29 faces")
    assert written["cpu"]["cores"] >= 1


def test_the_versions_are_those_of_the_installed_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "run_smoke_tests", lambda names: {name: {"detail": ""} for name in names})
    monkeypatch.setattr(report, "find_conflicts", lambda _: [])
    assert main(["doctor", "--json", "-"]) == 0
    written = json.loads(capsys.readouterr().out)
    packages = {p["name"]: p["version"] for feature in written["features"] for p in feature["packages"]}
    assert packages["numpy"] == importlib.metadata.version("numpy")
    assert packages["scipy"] == importlib.metadata.version("scipy")


@pytest.mark.parametrize(("broken", "status", "label"), [(True, 1, "BROKEN"), (False, 0, "note")])
def test_only_what_is_broken_changes_the_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: bool, status: int, label: str
) -> None:
    problem = Problem("numpy and scipy do not fit", "pip install scipy", broken)
    monkeypatch.setattr(report, "run_smoke_tests", lambda names: {name: {"detail": ""} for name in names})
    monkeypatch.setattr(report, "find_conflicts", lambda _: [problem])
    assert main(["doctor"]) == status
    assert f"\n{label}: numpy and scipy do not fit\n  fix: pip install scipy\n" in capsys.readouterr().out


def test_a_missing_feature_is_shown_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "run_smoke_tests", lambda names: {name: {"detail": ""} for name in names})
    monkeypatch.setattr(report, "installed_versions", lambda: {"matplotlib": "3.10.0"})
    assert main(["doctor"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    plot, openvino = "pip install 'facedet-mm[plot]'", "pip install 'facedet-mm[openvino]'"
    assert f"plot incomplete plots and report pages jinja2 missing, matplotlib 3.10.0 {plot}" in output
    assert f"openvino missing device openvino: the fastest on CPUs openvino missing {openvino}" in output


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
