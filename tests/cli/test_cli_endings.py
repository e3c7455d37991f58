"""``facedet detect`` that is stopped: what was done is kept in valid files, and nothing else is left."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from pathlib import Path

import cv2
import pytest
from command_lines import facedet_ending, write_images

from facedet_mm.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of POSIX")
IMAGES = [f"{i:02}.png" for i in range(30)]
ENDINGS = {
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "error": "raise MemoryError",
}


def names(records: list[dict[str, object]]) -> list[str]:
    return [Path(str(record["image"])).name for record in records]


@pytest.mark.parametrize("ending", list(ENDINGS))
@pytest.mark.parametrize("old", [False, True], ids=["new files", "files of an earlier run"])
def test_what_was_done_is_kept(tmp_path: Path, ending: str, old: bool) -> None:
    write_images(tmp_path / "in", *IMAGES)
    out = tmp_path / "out"
    files = {"--json": out / "a.json", "--csv": out / "a.csv", "--coco": out / "c.json"}
    if old:
        out.mkdir()
        for path in files.values():
            path.write_text("of an earlier run")
    words = [word for option in files.items() for word in option]
    done = facedet_ending(ENDINGS[ending], 20, "detect", tmp_path / "in", *words, "--workers", "1")
    assert done.returncode == (1 if ending == "error" else 130)
    assert "Traceback" not in done.stderr
    found = names(json.loads(files["--json"].read_text()))
    assert 10 < len(found) < 20
    assert found == IMAGES[: len(found)]
    assert f"facedet detect: stopped after {len(found)} of 30 images, which are in {files['--json']}" in done.stderr
    assert names(list(csv.DictReader(files["--csv"].open()))) == found
    assert names([{"image": i["file_name"]} for i in json.loads(files["--coco"].read_text())["images"]]) == found
    assert sorted(out.iterdir()) == sorted(files.values())


def test_an_end_before_the_first_image_leaves_an_earlier_result(tmp_path: Path) -> None:
    write_images(tmp_path / "in", *IMAGES)
    (tmp_path / "old.csv").write_text("old")
    words = ["--csv", tmp_path / "old.csv", "--json", tmp_path / "new.json"]
    done = facedet_ending(ENDINGS["SIGTERM"], 1, "detect", tmp_path / "in", *words)
    assert done.returncode == 130
    assert (tmp_path / "old.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "old.csv"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_after_sigkill_a_new_file_is_valid_and_the_next_run_removes_the_rest(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path / "in", *IMAGES)
    out, kill = tmp_path / "out", "os.kill(os.getpid(), signal.SIGKILL)"
    new, old = out / f"new{suffix}", out / "old.csv"
    out.mkdir()
    old.write_text("old")
    option = "--csv" if suffix == ".csv" else "--json"
    if option == "--json":
        words = [option, new, "--csv", old]
    else:
        words = [option, new]
    done = facedet_ending(kill, 20, "detect", tmp_path / "in", *words, "--workers", "1")
    assert done.returncode == -signal.SIGKILL
    text = new.read_text()
    records = {
        ".json": lambda: json.loads(text),
        ".jsonl": lambda: [json.loads(line) for line in text.splitlines()],
        ".csv": lambda: list(csv.DictReader(text.splitlines())),
    }[suffix]()
    assert len(records) > 10
    assert old.read_text() == "old"
    new.unlink()
    left = [path.name for path in out.iterdir() if path != old]
    assert len(left) == (option == "--json")
    assert all(name.startswith(".facedet-") for name in left)
    assert facedet_ending("pass", 1, "detect", tmp_path / "in", *words).returncode == 0
    assert {path.name for path in out.iterdir()} == {new.name, "old.csv"} if left else {new.name}


def test_a_full_disk_leaves_valid_files(tmp_path: Path) -> None:
    write_images(tmp_path / "in", *IMAGES)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))"
    words = ["--json", tmp_path / "a.json"]
    done = facedet_ending(limit, 1, "detect", tmp_path / "in", *words, "--workers", "1")
    assert done.returncode == 1
    assert f"error: cannot write {tmp_path / 'a.json'}: File too large" in done.stderr
    found = names(json.loads((tmp_path / "a.json").read_text()))
    assert 5 < len(found) < 30
    assert found == IMAGES[: len(found)]


def test_results_arrive_while_they_are_made(tmp_path: Path) -> None:
    write_images(tmp_path / "in", *IMAGES)
    path = tmp_path / "a.csv"
    look = f"sys.stderr.write(str(len(open({str(path)!r}).readlines())))"
    done = facedet_ending(look, 20, "detect", tmp_path / "in", "--csv", path, "--workers", "1")
    assert done.returncode == 0
    assert int(done.stderr) > 10


def test_an_image_that_cannot_be_written_does_not_lose_the_others(tmp_path: Path, capsys) -> None:
    from facedet_mm.zoo import asset_path

    photo = cv2.imread(str(asset_path("solvay_1927.jpg")))[1000:1700, 100:800]
    long = "n" * 250 + ".png"  # its crops would have names of 256 bytes
    for name in ("a.png", long, "z.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", photo)[1].tobytes())
    words = ["--json", str(tmp_path / "f.json"), "--crops", str(tmp_path / "crops"), "-q"]
    assert main(["detect", str(tmp_path), *words]) == 1
    records = json.loads((tmp_path / "f.json").read_text())
    assert [len(record["faces"]) for record in records] == [5, 5, 5]
    out, err = capsys.readouterr()
    assert "2 images, 15 faces" in out
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"facedet detect: error: cannot write {tmp_path / 'crops'}{os.sep}nnn")
    assert lines[0].endswith("File name too long")
    assert len(list((tmp_path / "crops").iterdir())) == 10


def test_a_full_disk_ends_the_run_instead_of_failing_image_by_image(tmp_path: Path, capsys, monkeypatch) -> None:
    write_images(tmp_path / "in", *IMAGES)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facedet_mm.system.files.os.open", full)
    assert main(["detect", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("No space left on device") == 1
