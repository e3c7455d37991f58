"""What the command line accepts and how it explains what it does not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from command_lines import write_images

from facedet_mm.cli import COMMANDS, main
from facedet_mm.cli.losses import losses
from facedet_mm.zoo import asset_path


def usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *sorted(set(COMMANDS) - {"models", "data"}),
        "data check",
        "data browse",
        "models list",
        "models info",
        "models fetch",
    ],
)
def test_an_unknown_option_shows_the_usage_of_its_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed = {
        "eval": "p g", "export": "c p -o x", "quantize": "m --calibration i",
        "robustness": "m --annotations a --images i",
        "track-eval": "r g", "completion": "bash", "doctor": "", "bench": "", "models list": "",
    }.get(command, "x")  # fmt: skip
    error = usage_error([*command.split(), *needed.split(), "--nonsense"], capsys)
    assert error.startswith(f"usage: facedet {command} [-h]")
    assert error.splitlines()[-1] == f"facedet {command}: error: unrecognized arguments: --nonsense"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("detect a.jpg --mode x", "--model"), ("detect a.jpg --recur", "--recursive"), ("bench --sec 1", "--seconds"),
        ("detect a.jpg --scorethr 1", "--score-thr"), ("models fetch scrfd_1g --accept", "--accept-license"),
    ],
)  # fmt: skip
def test_abbreviations_are_refused(words: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"did you mean {meant}?" in usage_error(words.split(), capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["detect", "a.jpg", "--out", ""], ["detect", "a.jpg", "--json="], ["detect", "a.jpg", "--crops", ""],
        ["detect", "a.jpg", "--wider", ""], ["bench", "--image", ""], ["eval", "", "gt"],
        ["eval", "p", "g", "--json", ""],
        ["export", "c", "p", "-o", ""], ["quantize", "m", "--calibration", "x", "-o", ""],
        ["report", "run", "--out", ""],
        ["robustness", "m", "--annotations", "a", "--images", ""], ["track-eval", "", "gt"], ["doctor", "--json", ""],
        ["video", "a.mp4", "--out", ""], ["models", "info", ""],
        ["data", "check", ""], ["data", "convert", "a", "", "--to", "coco"],
    ],
)  # fmt: skip
def test_empty_names_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert usage_error(words, capsys).rstrip().endswith("must not be empty")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("rtsp://me:secret@camera/1", "rtsp://… is an address"), ("https://x.org/a.jpg", "download it first"),
        ("clip.MP4", "for a video: facedet video "), ("0", "for a camera: facedet video 0"),
    ],
)  # fmt: skip
def test_inputs_for_other_commands_get_a_hint(
    word: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.MP4").write_bytes(asset_path("four_people.mp4").read_bytes())
    assert main(["detect", word]) == 1
    error = capsys.readouterr().err
    assert hint in error
    assert "facedet video" in error
    assert "secret" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("detect a.png --model scrfd_2.5g", "or pass --weights ….onnx or --weights ….pth;"),
        ("detect a.png --model m.py", "pass --weights ….pth\n"),
        ("bench --model m.onnx --weights w.onnx", "leave --weights w.onnx out\n"),
        ("models fetch scrfd_1g", "run facedet models fetch scrfd_1g --accept-license\n"),
    ],
)
def test_errors_name_options_and_not_arguments_of_python(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEDET_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", None)
    assert main(words.split()) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "='" not in error


def test_the_five_best_faces_are_listed_and_the_others_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(asset_path("solvay_1927.jpg"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": 29 faces")
    scores = [float(line.split()[0]) for line in lines[1:6]]
    assert scores == sorted(scores, reverse=True)
    assert lines[6:] == ["  and 24 more"]


def test_what_annotated_images_lose_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((40, 40, 4), np.uint16)
    for name, array in {
        "a.png": image,
        "b.png": image,
        "c.tif": image[..., 0],
        "d.png": np.zeros((9, 9), np.uint8),
    }.items():
        (tmp_path / name).write_bytes(cv2.imencode(name[1:], array)[1].tobytes())
    jpeg = cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    exif, profile = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0", b"ICC_PROFILE\0\x01\x01" + bytes(128)
    segments = b"".join(
        b"\xff" + bytes([marker]) + (len(data) + 2).to_bytes(2, "big") + data
        for marker, data in ((0xE1, exif), (0xE2, profile))
    )
    (tmp_path / "e.jpg").write_bytes(jpeg[:2] + segments + jpeg[2:])
    assert losses(tmp_path / "d.png") == set()
    assert losses(tmp_path / "e.jpg") == {"EXIF data", "color profile"}
    assert main(["detect", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == (
        "facedet detect: note: the images in --out are 8-bit color without metadata; "
        "lost: 16 bits per channel, EXIF data, color profile, transparency\n"
    )
    assert main(["detect", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
