"""``facedet bench`` and ``facedet completion``."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facedet_mm.benchmark import timing
from facedet_mm.cli import COMMANDS, main
from facedet_mm.detectors import OnnxDetector
from facedet_mm.structures import Faces


def test_the_table_holds_every_combination_and_times_an_image_not_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=100.0, perf_counter=lambda: clock.now)

    def slow(self: OnnxDetector, images: list[np.ndarray]) -> list[Faces]:
        clock.now += 0.004 * len(images) * (2 if self.options.input_size == "auto" else 1)
        return [Faces.empty()] * len(images)

    monkeypatch.setattr(OnnxDetector, "detect_batch", slow)
    monkeypatch.setattr(timing, "time", clock)
    options = ["--sizes", "320", "auto", "--batches", "1", "4", "--threads", "1", "2", "--seconds", "0.02"]
    assert main(["bench", *options, "--json", str(tmp_path / "t.json")]) == 0
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [(r["threads"], r["size"], r["batch"]) for r in rows] == [
        (threads, size, batch) for threads in (1, 2) for size in ("320", "auto") for batch in (1, 4)
    ]
    for row in rows:
        assert row["median_ms"] == pytest.approx(8 if row["size"] == "auto" else 4)
        assert row["p95_ms"] == pytest.approx(row["median_ms"])
        assert row["faces"] > 5
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 8
    assert printed[2].split()[:3] == ["320", "1", "1"]


def test_a_missing_image_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--image", "gone.jpg"]) == 1
    assert capsys.readouterr().err == "facedet bench: error: gone.jpg: no such file\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "facedet.bash"
    script.write_text(capsys.readouterr().out)

    def complete(*words: str) -> set[str]:
        line = f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; " + (
            "$(complete -p facedet | sed 's/.*-F \\([^ ]*\\).*/\\1/') facedet; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        return set(done.stdout.split())

    assert complete("facedet", "''") == set(COMMANDS)
    assert complete("facedet", "detect", "--an") == {"--anonymize"}
    assert complete("facedet", "detect", "--anonymize", "p") == {"pixelate"}
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "photos").mkdir()
    assert complete("facedet", "detect", "pho") == {"photo.jpg", "photos"}
    assert complete("facedet", "detect", "--json", "pho") == {"photo.jpg", "photos"}
    assert complete("facedet", "detect", "--out", "pho") == {"photos"}
    assert complete("facedet", "models", "fetch", "scrfd_1") == {"scrfd_10g", "scrfd_10g_kps", "scrfd_1g"}
