"""Results in open streams, and standard output and error that are closed or full."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import facedet, write_images

from facedet_mm.cli import main
from facedet_mm.zoo import asset_path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs the streams of POSIX")
SOLVAY = asset_path("solvay_1927.jpg")


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command line in which ``facedet`` is this program."""
    line = command.replace("facedet ", f"{sys.executable} -m facedet_mm ")
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path, "b.png")
    (tmp_path / "a.jpg").symlink_to(SOLVAY)
    return tmp_path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "-"])
def test_a_log_is_added_to_and_not_replaced(folder: Path, name: str) -> None:
    if not os.path.exists("/proc/self/fd") and name.startswith("/proc"):
        pytest.skip("no such folder here")
    (folder / "link").symlink_to("/dev/stdout")
    (folder / "log").write_text("before\n")
    done = shell(f"facedet detect a.jpg --csv {name} >> log; echo after >> log", folder)
    text = (folder / "log").read_text()
    assert done.stderr.startswith("a.jpg: 29 faces\n")
    assert text.startswith("before\nimage,x1,")
    assert text.endswith("\nafter\n")
    assert len(rows_of(text.partition("\n")[2])) == 30
    assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "b.png", "link", "log"]


@pytest.mark.parametrize("name", ["/dev/stdout", "-"])
@pytest.mark.parametrize("option", ["--csv", "--json", "--coco"])
def test_results_go_into_a_pipe_and_the_summary_to_standard_error(folder: Path, name: str, option: str) -> None:
    done = shell(f"facedet detect a.jpg b.png {option} {name} | cat", folder)
    assert "2 images, 29 faces" in done.stderr
    assert not (folder / "-").exists()
    if option == "--csv":
        assert len(rows_of(done.stdout)) == 29
    else:
        document = json.loads(done.stdout)
        assert len(document if option == "--json" else document["images"]) == 2


def test_another_open_stream_gets_the_rows(folder: Path) -> None:
    (folder / "log").write_text("before\n")
    done = shell("facedet detect a.jpg --csv /dev/fd/3 3>> log", folder)
    assert done.returncode == 0
    assert done.stdout.startswith("a.jpg: 29 faces")
    assert (folder / "log").read_text().startswith("before\nimage,x1,")
    done = shell("facedet detect a.jpg --csv /dev/fd/99", folder)
    assert done.returncode == 1
    assert done.stderr.startswith("facedet detect: error: cannot write /dev/fd/99: Bad file descriptor")


@pytest.mark.parametrize("command", ["bench --seconds 0 --sizes 64", "doctor"])
def test_other_commands_print_their_json_and_nothing_else(command: str, tmp_path: Path) -> None:
    done = facedet(*command.split(), "--json", "-", cwd=tmp_path)
    assert json.loads(done.stdout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["detect a.jpg b.png --json f.json --csv f.csv", "bench --seconds 0 --json f.json"])
@pytest.mark.parametrize(
    ("redirection", "reason"),
    [(">&-", "closed"), (">/dev/full", "No space left on device"), (">&- 2>&- <&-", None), (">/dev/full 2>&1", None)],
)
def test_without_standard_output_the_files_are_written(
    folder: Path, words: str, redirection: str, reason: str | None
) -> None:
    done = shell(f"facedet {words} {redirection}", folder)
    assert done.returncode == 1
    command = words.split()[0]
    assert done.stderr == (f"facedet {command}: error: standard output: {reason}\n" if reason else "")
    assert len(json.loads((folder / "f.json").read_text())) == (2 if command == "detect" else 4)
    assert not (folder / "f.csv").exists() or len(rows_of((folder / "f.csv").read_text())) == 29


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_without_standard_error_the_others_are_done(folder: Path, redirection: str) -> None:
    done = shell(f"facedet detect gone.jpg a.jpg b.png --json f.json -q {redirection}", folder)
    assert (done.returncode, done.stdout) == (1, "2 images, 29 faces\n")
    assert len(json.loads((folder / "f.json").read_text())) == 2


@pytest.mark.parametrize(
    "words", ["models list", "models info yunet_n", "models fetch scrfd_1g", "doctor", "--version", "completion bash"]
)
@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >/dev/full"])
def test_no_command_needs_its_streams(tmp_path: Path, words: str, redirection: str) -> None:
    done = shell(f"FACEDET_HOME=home facedet {words} {redirection}", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_with_closed_standard_error_the_status_is_that_of_the_work(folder: Path) -> None:
    assert shell("facedet detect a.jpg 2>&-", folder).returncode == 0


def test_a_reader_that_goes_away_ends_the_run_and_the_results_are_kept(folder: Path) -> None:
    write_images(folder, *(f"{i:04}.png" for i in range(400)))
    done = shell(f"facedet detect {folder} --json f.json --workers 1 | head -1", folder)
    assert done.stdout.count("\n") == 1
    assert done.stderr.count("\n") <= 1  # how many images are done
    assert "Traceback" not in done.stderr
    assert json.loads((folder / "f.json").read_text())


def test_a_full_device_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(folder / "a.jpg"), "--csv", "/dev/full", "--json", str(folder / "f.json")]) == 1
    assert "facedet detect: error: cannot write /dev/full: No space left on device" in capsys.readouterr().err
