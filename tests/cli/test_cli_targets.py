"""Outputs are checked against inputs and each other before the first one is written."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_lines import facedet, write_images

from facedet_mm.cli import main
from facedet_mm.errors import FaceDetError
from facedet_mm.system.targets import Targets
from facedet_mm.zoo import asset_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("E/ev/p.txt --wider E", "--wider would overwrite E/ev/p.txt, which is an input"),
        ("a.jpg a_1.jpg --out d --crops d", "--crops and --out would both write"),
        ("a.jpg a_1.jpg --crops .", "--crops would overwrite"),
        ("a.jpg --out d --csv d/a.jpg", "--csv and --out would share a file, d/a.jpg"),
        ("a.jpg --crops d --coco d/a_2.jpg", "--crops and --coco would both write"),
        ("a.jpg --wider w --json w/here/a.txt", "--json and --wider would share a file"),
        ("a.jpg --json m.onnx --model m.onnx", "--json would overwrite m.onnx, which is an input"),
        ("a.jpg --csv m.onnx --weights m.onnx", "--csv would overwrite m.onnx, which is an input"),
        ("a.jpg --out links", "--out would overwrite links/a.jpg, which is an input"),
        ("a.jpg --csv - --json -", "--json and --csv would share a file, -"),
        ("a.jpg --csv - --json /dev/stdout", "--json and --csv would share a file"),
        ("a.jpg --csv d/../d/x --json d/x", "--json and --csv would share a file"),
    ],
)
def test_detect_refuses_to_lose_a_file(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    write_images(here, "a.jpg", "a_1.jpg", "E/ev/p.txt")
    (here / "links").mkdir()
    (here / "links/a.jpg").symlink_to(here / "a.jpg")
    shutil.copy(asset_path("yunet_n_dynamic.onnx"), here / "m.onnx")
    monkeypatch.chdir(here)
    before = contents(here)
    assert main(["detect", *words.split()]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("facedet detect: error: ")
    assert message in err.replace(f"{here}{os.sep}", "")
    assert err.count("\n") == 1
    assert contents(here) == before


@pytest.mark.parametrize(
    "words",
    [
        "bench --image in.jpg --json in.jpg",
        "bench --model m.onnx --json m.onnx",
        "eval pred gt --json pred/ev/p.txt",
        "eval pred gt --plot gt/x.mat",
        "eval pred gt --json x.png --plot x.png",
        "export c.py last.pth -o last.pth",
        "export c.py last.pth -o c.py",
        "export c.py last.pth -o in.jpg --images in.jpg",
        "quantize m.onnx --calibration in.jpg -o in.jpg",
        "quantize m.onnx --calibration in.jpg --json m.onnx",
        "quantize m.onnx --calibration in.jpg -o q --json q",
        "quantize m.onnx --calibration in.jpg -o -",
        "export c.py last.pth -o -",
        "report run --out run/scalars.json",
        "robustness m.onnx --annotations gt --images images --out images",
        "track-eval t.txt gt.txt --json t.txt",
        "track-eval t.txt gt.txt --json gt.txt",
        "doctor --json images",
    ],
)
def test_other_commands_refuse_too(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, "in.jpg", "images/heat_map.png", "c.py", "last.pth", "t.txt", "gt.txt")
    write_images(tmp_path, "pred/ev/p.txt", "gt/x.mat", "run/scalars.json")
    shutil.copy(asset_path("yunet_n_dynamic.onnx"), tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert main(words.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert any(text in err for text in ("would overwrite", "would share a file", "is a folder", "not supported"))
    assert err.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("v.mp4 --out v.mp4", "would overwrite v.mp4, which is an input"),
        ("v.mp4 --out a.jsonl ./a.jsonl", "two files of the output would share a file, a.jsonl"),
        ("v.mp4 --out d/x d/x/", "two files of the output would share a file, d/x"),
        ("v.mp4 --out a.jsonl a.csv", "two files of the output would share a file"),
        ("v.mp4 --out m.csv --model m.onnx", "would overwrite m.csv, which is an input"),
        ("v.mp4 --out m.csv --weights m.onnx", "would overwrite m.csv, which is an input"),
        ("v.mp4 --out links a.jsonl", "two files of the output would share a file"),
        ("v.mp4 --out -", "- is not supported"),
        ("frames --out links", "would overwrite links/000001.jpg, which is an input"),
        ("frames/*.jpg --out links", "would overwrite links/000001.jpg, which is an input"),
        ("frames --out frames", "is the folder of the images that are read"),
    ],
)
def test_video_refuses_to_lose_a_file(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, "frames/000001.jpg", "frames/000002.jpg")
    shutil.copy(asset_path("four_people.mp4"), tmp_path / "v.mp4")
    shutil.copy(asset_path("yunet_n_dynamic.onnx"), tmp_path / "m.onnx")
    links = {
        "a.csv": "a.jsonl", "m.csv": "m.onnx", "links/000001.jpg": "../frames/000001.jpg",
        "links/000003.jpg": "../a.jsonl",
    }  # fmt: skip
    (tmp_path / "links").mkdir()
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "a.jsonl").write_text("old")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert main(["video", *words.split()]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert contents(tmp_path) == before


def test_video_refuses_standard_streams_and_takes_pipes(tmp_path: Path) -> None:
    (image,) = write_images(tmp_path, "a.png")
    log, raw, fifo = tmp_path / "log.txt", tmp_path / "raw.txt", tmp_path / "fifo.jsonl"
    with log.open("w") as stdout:
        done = facedet("video", image, "--out", log, stdout=stdout, stderr=-1)
    assert "where the printed lines go" in done.stderr
    raw.write_bytes(bytes(9))
    with raw.open() as stdin:
        done = facedet("video", "-", "--raw-size", "1x1", "--out", raw, stdin=stdin)
    assert "which is standard input" in done.stderr
    assert raw.read_bytes() == bytes(9)
    os.mkfifo(fifo)
    with ThreadPoolExecutor() as pool:
        text = pool.submit(fifo.read_text)
        assert facedet("video", image, "--out", fifo).returncode == 0
        assert json.loads(text.result()) == {"frame": 1, "time": 0.0, "faces": []}


def test_a_video_prints_its_table_alone(tmp_path: Path) -> None:
    (image,) = write_images(tmp_path, "a.png")
    (tmp_path / "out.csv").symlink_to("/dev/stdout")
    done = facedet("video", image, "--out", tmp_path / "out.csv")
    assert done.stdout.startswith("frame,time,x1")
    assert done.stdout.count("\n") == 1
    assert "1 frames" in done.stderr


def test_a_file_where_the_printed_lines_go_or_the_list_comes_from_is_refused(tmp_path: Path) -> None:
    (image,) = write_images(tmp_path, "a.png")
    log, names = tmp_path / "log", tmp_path / "names"
    names.write_text(f"{image}\n")
    with log.open("w") as stdout:
        done = facedet("detect", image, "--csv", log, stdout=stdout, stderr=-1)
    assert done.returncode == 1
    assert "where the printed lines go" in done.stderr
    with names.open() as stdin:
        done = facedet("detect", "-", "--csv", names, stdin=stdin)
    assert done.returncode == 1
    assert "which is standard input" in done.stderr
    assert names.read_text() == f"{image}\n"


def test_harmless_targets_pass(tmp_path: Path) -> None:
    images = write_images(tmp_path, "a.png", "b_1.png")
    targets = Targets(images)
    targets.add("--out", tmp_path / "A.PNG")  # another file, where case counts
    targets.add_series("--crops", tmp_path / "crops" / "a.png")
    targets.add("--json", tmp_path / "a_1.png")
    targets.add("--csv", None)
    targets.check_series()
    with pytest.raises(FaceDetError, match="would overwrite"):
        targets.add("--coco", images[0])
