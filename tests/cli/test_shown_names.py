"""Names of strangers on the terminal: no escape of theirs arrives there, and an error stays one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from wider_samples import make_sample, write_mat_files, write_submission

from facedet_mm.cli import guard, main
from facedet_mm.errors import FaceDetError
from facedet_mm.zoo import asset_path

EVIL = "a\x1b]0;owned\x07\nfacedet: all fine\r.jpg"
SHOWN = r"a\x1b]0;owned\x07\nfacedet: all fine\r.jpg"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs file names with control characters")


@pytest.mark.parametrize(
    "error", [FaceDetError(f"{EVIL}: broken"), OSError(5, "broken", EVIL), MemoryError(f"{EVIL}: broken")]
)
def test_an_error_is_one_line_without_escapes(error: BaseException, capsys: Any) -> None:
    def run() -> int:
        raise error

    assert guard(run, "facedet") == 1
    text = capsys.readouterr().err
    assert f"{SHOWN}: broken" in text
    assert text.count("\n") == 1
    assert not {"\x1b", "\x07", "\r"} & set(text)


def test_a_usage_error_shows_no_escapes(capsys: Any) -> None:
    assert main_status(["detect", "a.jpg", "--a\x1b[31m"]) == 2
    err = capsys.readouterr().err
    assert r"--a\x1b[31m" in err
    assert "\x1b" not in err


def main_status(argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as ended:
        return int(ended.code or 0)


def test_detect_lists_images_without_their_escapes(tmp_path: Path, capsys: Any) -> None:
    shutil.copy(asset_path("solvay_1927.jpg"), tmp_path / EVIL)
    (tmp_path / f"b{EVIL}").write_bytes(b"no image")
    assert main(["detect", str(tmp_path), "--size", "320"]) == 1
    out, err = capsys.readouterr()
    assert f"{SHOWN}: " in out
    assert f"b{SHOWN}" in err
    assert not {"\x1b", "\x07", "\r"} & set(out + err)


def test_notes_of_eval_and_names_of_track_eval_show_no_escapes(tmp_path: Path, capsys: Any) -> None:
    faces, detections = make_sample(1)
    truth = write_mat_files(tmp_path / "gt", faces)
    folder = write_submission(tmp_path / "found", detections)
    (folder / "0--Event" / f"{EVIL}.txt").write_text("a\n0\n")
    assert main(["eval", str(folder), str(truth)]) == 0
    err = capsys.readouterr().err
    assert r"a\x1b]0;owned" in err
    assert "\x1b" not in err
