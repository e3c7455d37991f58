"""The doctor's smoke tests in their separate process, and its look at the folder of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from facedet_mm.doctor.report import check_cache
from facedet_mm.doctor.smoke_tests import run_smoke_tests


class TestTheProcess:
    def test_a_module_that_ends_its_process_is_told_from_those_before_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "kills.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
        (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
        results = run_smoke_tests(["json", "leaves", "kills", "csv"])
        assert results["json"] == {"detail": ""}
        assert results["leaves"]["error"].startswith("SystemExit")
        assert "-9" in results["kills"]["error"]
        assert "csv" not in results

    def test_a_file_in_the_current_folder_does_not_pass_for_a_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "cv2.py").write_text("raise RuntimeError('the wrong one')\n")
        monkeypatch.chdir(tmp_path)
        assert run_smoke_tests(["cv2"]) == {"cv2": {"detail": ""}}

    def test_a_device_that_finds_too_few_faces_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from facedet_mm import Faces
        from facedet_mm.detectors.onnx import OnnxDetector
        from facedet_mm.doctor import smoke_tests

        monkeypatch.setattr(OnnxDetector, "detect", lambda *_, **__: Faces.empty())
        with pytest.raises(RuntimeError, match="found 0 instead of 29 faces"):
            smoke_tests.check("device:cpu")


class TestTheFolderOfModels:
    def test_that_cannot_be_written_is_noted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("FACEDET_HOME", str(tmp_path / "file"))
        cache, (problem,) = check_cache()
        assert cache["writable"] is False
        assert not problem.broken
        assert "FACEDET_HOME" in problem.remedy

    def test_is_measured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FACEDET_HOME", str(tmp_path))
        (tmp_path / "scrfd_1g.onnx").write_bytes(bytes(1234))
        assert check_cache() == (dict(path=str(tmp_path), files=1, bytes=1234, writable=True), [])

    def test_that_is_not_made_yet_is_writable_where_it_can_be_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FACEDET_HOME", str(tmp_path / "not" / "yet"))
        assert check_cache() == (dict(path=str(tmp_path / "not" / "yet"), files=0, bytes=0, writable=True), [])

    def test_without_a_home_folder_is_a_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FACEDET_HOME", "~nobody-of-that-name/models")
        cache, (problem,) = check_cache()
        assert (cache["path"], cache["writable"], problem.broken) == (None, False, False)
