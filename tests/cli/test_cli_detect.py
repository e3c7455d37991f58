"""``facedet detect`` and its two tool scripts: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedet_mm import build_detector
from facedet_mm.cli import main
from facedet_mm.datasets import read_predictions
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

SOLVAY = asset_path("solvay_1927.jpg")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Five of the twenty-nine."""
    return cv2.imread(str(SOLVAY))[1000:1700, 100:800]


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def run_tool(root: Path, name: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / name), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_json_images_and_lines_hold_what_the_detector_finds(
    tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write(tmp_path / "few.png", photo)
    status = main(["detect", str(few), str(SOLVAY), "--out", str(tmp_path / "out"), "--json", str(tmp_path / "f.json")])
    assert status == 0
    detector = build_detector()
    expected = [detector.detect(few), detector.detect(SOLVAY)]
    records = json.loads((tmp_path / "f.json").read_text())
    assert [(r["image"], r["width"], r["height"]) for r in records] == [(str(few), 700, 700), (str(SOLVAY), 3000, 2171)]
    for record, faces in zip(records, expected, strict=True):
        assert np.allclose([face["box"] for face in record["faces"]], faces.boxes, atol=0.006)
        assert np.allclose([face["score"] for face in record["faces"]], faces.scores, atol=6e-5)
        assert np.allclose([face["landmarks"] for face in record["faces"]], faces.landmarks, atol=0.006)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{few}: {len(expected[0])} faces")
    assert len(expected[0]) <= 5
    x1, y1, x2, y2 = expected[0].boxes[0].round().astype(int)
    assert lines[1] == f"  {expected[0].scores[0]:.2f}  ({x1}, {y1}) to ({x2}, {y2})"
    assert lines[1 + len(expected[0])].startswith(f"{SOLVAY}: {len(expected[1])} faces")
    for name, source in (("few.png", photo), ("solvay_1927.jpg", read_image(SOLVAY))):
        annotated = read_image(tmp_path / "out" / name)
        assert annotated.shape == source.shape
        assert np.abs(annotated.astype(int) - source).max() > 100


def test_bad_files_are_reported_and_the_others_are_done(
    tmp_path: Path, photo: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.jpg", photo)
    bad = {
        "missing.jpg": (None, "no such file"),
        "text.jpg": (b"hello", "not an image"),
        "empty.jpg": (b"", "empty file (0 bytes)"),
        "cut.jpg": (good.read_bytes()[:9000], "truncated JPEG"),
        "cut.png": (cv2.imencode(".png", photo)[1].tobytes()[:9000], "truncated PNG"),
        "cut.bmp": (cv2.imencode(".bmp", photo)[1].tobytes()[:9000], "damaged, truncated or oversized BMP"),
    }
    for name, (content, _) in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in bad]
    status = main(["detect", *paths, str(good), "--json", str(tmp_path / "f.json")])
    out, err = capfd.readouterr()
    assert status == 1
    assert out.startswith(f"{good}: ")
    assert all(line.startswith("facedet detect: ") for line in err.splitlines())
    for name, (_, message) in bad.items():
        assert f"facedet detect: error: {tmp_path / name}: {message}" in err
    assert err.endswith("facedet detect: 6 of 7 images failed\n")
    assert [record["image"] for record in json.loads((tmp_path / "f.json").read_text())] == [str(good)]


def test_odd_images_are_detected(tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    gray = photo[..., 0]
    images = {
        "16 bit.png": photo.astype(np.uint16) * 257,
        "gray.png": gray,
        "rgba.png": np.dstack([photo, gray]),
        "größe 臉 1.png": photo,
        "one.png": photo[:1, :1],
        "flat.png": np.tile(photo[:10], (1, 29, 1))[:, :20000],
        "thin.png": np.tile(photo[:, :10], (29, 1, 1))[:20000],
    }
    paths = [write(tmp_path / name, image) for name, image in images.items()]
    status = main(["detect", *map(str, paths), "--out", str(tmp_path / "out"), "--json", str(tmp_path / "f.json")])
    lost = "the images in --out are 8-bit color without metadata; lost: 16 bits per channel, transparency"
    assert (status, capsys.readouterr().err) == (0, f"facedet detect: note: {lost}\n")
    faces = {Path(r["image"]).name: r["faces"] for r in json.loads((tmp_path / "f.json").read_text())}
    assert len(faces["rgba.png"]) == 5
    assert faces["16 bit.png"] == faces["rgba.png"] == faces["größe 臉 1.png"]
    assert len(faces["gray.png"]) == 5
    assert faces["flat.png"] == faces["thin.png"] == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(images)
    assert read_image(tmp_path / "out/flat.png").shape == (10, 20000, 3)


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path: Path, photo: np.ndarray) -> None:
    paths = [
        write(tmp_path / folder / name, np.roll(photo, shift, axis=1))
        for shift, (folder, name) in enumerate([("a", "x.png"), ("b", "x.png"), ("c", "X.PNG"), ("d", "x_2.png")])
    ]
    assert main(["detect", *map(str, paths), "--out", str(tmp_path / "out"), "--score-thr", "1"]) == 0
    names = ["x.png", "x_2.png", "X_3.PNG", "x_2_2.png"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)
    for path, name in zip(paths, names, strict=True):
        assert np.array_equal(read_image(tmp_path / "out" / name), read_image(path))


def test_the_originals_are_never_overwritten(
    tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "x.png", photo)
    before = path.read_bytes()
    assert main(["detect", str(path), "--out", str(tmp_path)]) == 1
    assert f"would overwrite {path}" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_an_image_that_its_format_cannot_hold_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = tmp_path / "wide.jpg"  # a JPEG holds at most 65500 pixels a side
    write(tmp_path / "png.png", np.zeros((2, 66000, 3), np.uint8)).rename(wide)

    def refuse(*_: object) -> None:
        raise cv2.error("no")

    for _ in range(2):  # OpenCV says so by its result or by an exception, as its version likes
        assert main(["detect", str(wide), "--out", str(tmp_path / "out")]) == 1
        assert "wide.jpg: OpenCV can't write a 66000 x 2 image as .jpg" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        monkeypatch.setattr(cv2, "imencode", refuse)


@pytest.mark.parametrize("name", ["noname", "x.exr", "x.heic"])
def test_formats_that_opencv_does_not_write_become_png(tmp_path: Path, photo: np.ndarray, name: str) -> None:
    write(tmp_path / "png.png", photo).rename(tmp_path / name)
    assert main(["detect", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 0
    assert read_image(tmp_path / "out" / f"{Path(name).stem}.png").shape == photo.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nope"], "unknown model 'nope'"),
        (["--model", "scrfd_2.5g"], "scrfd_2.5g needs weights"),
        (["--model", "gone.onnx"], "gone.onnx: no such model file"),
        (["--device", "tpu"], "device must be"),
        (["--json", "."], "--json . is a folder"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_1(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(SOLVAY), *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"facedet detect: error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: INPUT"),
        (["x.jpg", "--size", "big"], "a side like 640, WxH like 640x480, auto or original, not 'big'"),
        (["x.jpg", "--size", "650"], "must be a multiple of 32; nearest is 640 x 640"),
        (["x.jpg", "--size", "640x100"], "must be a multiple of 32; nearest is 640 x 96"),
        (["x.jpg", "--score-thr", "50"], "must be a number from 0 to 1, not '50'"),
        (["x.jpg", "--iou-thr", "nan"], "must be a number from 0 to 1, not 'nan'"),
    ],
)
def test_wrong_usage_is_explained_with_status_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["detect", *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_out_that_is_a_file_stops_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["detect", str(SOLVAY), "--out", str(tmp_path / "file")]) == 1
    assert f"cannot write {tmp_path / 'file' / 'solvay_1927.jpg'}" in capsys.readouterr().err


def test_the_size_option_reaches_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    counts = []
    for size in ("64", "640x480", "auto", "original"):
        assert main(["detect", str(SOLVAY), "--size", size, "--score-thr", "0.6"]) == 0
        counts.append(int(capsys.readouterr().out.split(": ")[1].split()[0]))
    assert counts[0] < 10
    assert counts[1:3] == [29, 29]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path, photo: np.ndarray) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    Path(os.fsdecode(path)).write_bytes(cv2.imencode(".png", photo)[1].tobytes())
    code = "import sys; from facedet_mm.cli import main; sys.exit(main(sys.argv[1:]))"
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code, "detect", path], capture_output=True, timeout=60, env=strict)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"5 faces" in done.stdout


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["detect", "--help"])
    assert stop.value.code == 0
    assert "facedet detect photo.jpg" in capsys.readouterr().out


def test_image_demo_is_the_same_command(root: Path, tmp_path: Path, photo: np.ndarray) -> None:
    path = write(tmp_path / "x.png", photo)
    done = run_tool(root, "image_demo.py", path, tmp_path / "gone.jpg", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{path}: 5 faces -> ")
    assert "gone.jpg: no such file" in done.stderr
    assert (tmp_path / "out/x.png").is_file()


def test_wider_predict_writes_what_the_detector_finds(root: Path, tmp_path: Path, photo: np.ndarray) -> None:
    images = tmp_path / "images"
    paths = [
        write(images / "0--Parade" / "0_Parade_1.jpg", photo),
        write(images / "0--Parade" / "0_Parade_2.jpg", photo[:, ::-1]),
        *(write(images / "9--Press" / f"9_Press_{i}.jpg", photo[:, : 100 * i]) for i in range(3, 8)),
        write(images / "9--Press" / "9_Press_8.jpg", np.zeros_like(photo)),
    ]
    (images / "9--Press" / "9_Press_2.jpg").write_bytes(paths[0].read_bytes()[:5000])
    (images / "9--Press" / "notes.txt").write_text("no image")
    done = run_tool(root, "wider_predict.py", "--images", images, "--out", tmp_path / "out", "--size", "auto")
    assert done.returncode == 1
    assert re.fullmatch(r"8 images, \d+ faces\n", done.stdout)
    assert "9_Press_2.jpg: truncated JPEG" in done.stderr
    assert "Traceback" not in done.stderr
    found = {name: (boxes, scores) for name, boxes, scores in read_predictions(tmp_path / "out")}
    assert list(found) == [f"{path.parent.name}/{path.stem}" for path in paths]
    detector = build_detector(score_thr=0.02, iou_thr=0.45, input_size="auto")
    for path in paths:
        expected = detector.detect(path)
        boxes, scores = found[f"{path.parent.name}/{path.stem}"]
        assert np.allclose(boxes, expected.boxes, atol=1e-3)
        assert np.allclose(scores, expected.scores, atol=1e-6)
    assert len(found["0--Parade/0_Parade_1"][1]) > 3
    assert (tmp_path / "out/0--Parade/0_Parade_1.txt").read_text().startswith("0_Parade_1.jpg\n")


@pytest.mark.parametrize(("folder", "message"), [("gone", "gone: no such file"), (".", "no images in this folder")])
def test_wider_predict_without_images_says_so(root: Path, tmp_path: Path, folder: str, message: str) -> None:
    done = run_tool(root, "wider_predict.py", "--images", tmp_path / folder, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
