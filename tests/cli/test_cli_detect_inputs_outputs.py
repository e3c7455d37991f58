"""``facedet detect``: folders, patterns and lists in; crops, hidden faces and result files out."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedet_mm import build_detector
from facedet_mm.cli import main
from facedet_mm.datasets import read_predictions
from facedet_mm.io.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.system.concurrency import map_ahead, thread_pool
from facedet_mm.zoo import asset_path

SOLVAY = asset_path("solvay_1927.jpg")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Five of the twenty-nine."""
    return read_image(SOLVAY)[1000:1700, 100:800]


@pytest.fixture
def album(tmp_path: Path, photo: np.ndarray) -> Path:
    """``album/{a.png, b.PNG, notes.txt, .hidden.png, trip/{a.png, c.png}}``; c is dark."""
    folder = tmp_path / "album"
    (folder / "trip").mkdir(parents=True)
    for name, image in {
        "a.png": photo, "b.PNG": photo[:, ::-1], ".hidden.png": photo, "trip/a.png": photo[:400],
        "trip/c.png": np.zeros_like(photo),
    }.items():  # fmt: skip
        (folder / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (folder / "notes.txt").write_text("no image")
    return folder


def images_of(path: Path) -> list[str]:
    return [record["image"] for record in json.loads(path.read_text())]


def names_of(path: Path) -> list[str]:
    return [Path(image).name for image in images_of(path)]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["{}"], ["a.png", "b.PNG"]),
        (["{}", "--recursive"], ["a.png", "b.PNG", "trip/a.png", "trip/c.png"]),
        (["{}/trip", "{}/a.png"], ["trip/a.png", "trip/c.png", "a.png"]),
        (["{}/[ab].*"], ["a.png", "b.PNG"]),
        (["{}/**/a.png"], ["a.png", "trip/a.png"]),
    ],
)
def test_folders_and_patterns_mean_the_images_in_them(album: Path, tmp_path: Path, words, names) -> None:
    out = tmp_path / "f.json"
    assert main(["detect", *(word.format(album) for word in words), "--json", str(out)]) == 0
    assert images_of(out) == [str(album / name) for name in names]


def test_a_list_comes_from_standard_input(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{album}/b.PNG\n\n{album}/trip\r\n"))
    assert main(["detect", "-", "--json", str(tmp_path / "f.json")]) == 0
    assert images_of(tmp_path / "f.json") == [f"{album}/b.PNG", f"{album}/trip/a.png", f"{album}/trip/c.png"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("{}/*.jpg", "album/*.jpg: no file matches this pattern"),
        ("{}/empty", "empty: no images in this folder; --recursive also searches its subfolders"),
    ],
)
def test_nothing_to_do_is_an_error(album: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (album / "empty").mkdir()
    assert main(["detect", word.format(album)]) == 1
    assert message in capsys.readouterr().err


def test_results_mirror_the_folder(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["detect", str(album), "-r", "--out", str(out)]) == 0
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["a.png", "b.PNG", "trip/a.png", "trip/c.png"]
    assert np.array_equal(read_image(out / "trip/c.png"), read_image(album / "trip/c.png"))
    assert not np.array_equal(read_image(out / "a.png"), read_image(album / "a.png"))


@pytest.mark.parametrize("options", [["--batch", "3"], ["--workers", "1"], ["--batch", "2", "--workers", "7"]])
def test_batches_and_workers_change_neither_order_nor_results(album: Path, tmp_path: Path, options, capsys) -> None:
    (album / "aa.png").write_bytes(b"broken")
    words = ["detect", str(album), "-r", "--json"]
    assert main([*words, str(tmp_path / "plain.json")]) == main([*words, str(tmp_path / "other.json"), *options]) == 1
    plain, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "other"))
    assert [r["image"] for r in plain] == [r["image"] for r in other]
    for one, two in zip(plain, other, strict=True):
        assert np.allclose([f["box"] for f in one["faces"]], [f["box"] for f in two["faces"]], atol=0.02)
    assert "1 of 5 images failed" in capsys.readouterr().err


def test_csv_coco_and_wider_hold_what_the_json_holds(album: Path, tmp_path: Path) -> None:
    files = [f"--{name}={tmp_path / name}" for name in ("json", "csv", "coco", "wider")]
    assert main(["detect", str(album), "-r", "--quiet", *files]) == 0
    records = json.loads((tmp_path / "json").read_text())
    expected = [(record["image"], face) for record in records for face in record["faces"]]
    assert len(expected) > 10

    rows = list(csv.DictReader((tmp_path / "csv").open()))
    assert [row["image"] for row in rows] == [image for image, _ in expected]
    for row, (_, face) in zip(rows, expected, strict=True):
        assert [float(row[key]) for key in ("x1", "y1", "x2", "y2")] == face["box"]
        assert float(row["score"]) == face["score"]
        assert [float(row["nose_x"]), float(row["nose_y"])] == face["landmarks"][2]

    coco = json.loads((tmp_path / "coco").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    assert list(names.values()) == [record["image"] for record in records]
    for row, (image, face) in zip(coco["annotations"], expected, strict=True):
        x, y, w, h = row["bbox"]
        assert names[row["image_id"]] == image
        assert np.allclose([x, y, x + w, y + h], face["box"], atol=0.02)

    scored = read_predictions(tmp_path / "wider")
    assert sorted(scored.names) == ["album/a", "album/b", "trip/a", "trip/c"]
    assert len(scored.scores) == len(expected)


def test_crops_have_a_margin_and_keep_inside_the_image(tmp_path: Path, photo: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "five.png"), photo)
    assert main(["detect", str(tmp_path / "five.png"), "--crops", str(tmp_path / "c"), "--margin", "0.5"]) == 0
    faces = build_detector().detect(photo)
    for number, expected in enumerate(faces.crop(photo, 0.5), start=1):
        assert np.array_equal(read_image(tmp_path / "c" / f"five_{number}.png"), expected)
    assert len(list((tmp_path / "c").iterdir())) == len(faces) == 5


def test_aligned_crops_have_the_eyes_where_arcface_wants_them(tmp_path: Path, photo: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "five.png"), photo)
    assert main(["detect", str(tmp_path / "five.png"), "--crops", str(tmp_path / "c"), "--align", "224"]) == 0
    crops = sorted((tmp_path / "c").iterdir())
    assert len(crops) == 5
    for crop in crops:
        image = cv2.copyMakeBorder(read_image(crop), 112, 112, 112, 112, cv2.BORDER_CONSTANT)
        best = build_detector().detect(image)[0]
        assert np.abs(best.landmarks[0][:2] - 112 - [[76.6, 103.4], [147.1, 103.0]]).max() < 20


def test_hidden_faces_are_not_found_again_and_are_not_framed(tmp_path: Path, photo: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "five.png"), photo)
    assert main(["detect", str(tmp_path / "five.png"), "--out", str(tmp_path / "o"), "--anonymize", "blur"]) == 0
    hidden = read_image(tmp_path / "o" / "five.png")
    assert len(build_detector(score_thr=0.3).detect(hidden)) == 0
    faces = build_detector().detect(photo)
    outside = np.ones(photo.shape[:2], bool)
    for x1, y1, x2, y2 in faces.boxes + np.array([-30, -30, 30, 30]):
        outside[int(max(y1, 0)) : int(y2), int(max(x1, 0)) : int(x2)] = False
    assert np.array_equal(hidden[outside], photo[outside])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--align", "112"], "--align needs --crops DIR"),
        (["--anonymize", "fill"], "--anonymize needs --out DIR"),
        (["--csv", "."], "--csv . is a folder; give a file"),
        (["--coco", "."], "--coco . is a folder; give a file"),
        (["--crops", "c", "--align", "9999"], "from 1 to 8192, not 9999"),
    ],
)
def test_options_that_make_no_sense_are_explained(options, message: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detect", str(SOLVAY), *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--batch", "0"], ["--margin", "-1"], ["--workers", "x"], ["--tiles", "1.5"]])
def test_numbers_out_of_range_are_usage_errors(options, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["detect", str(SOLVAY), *options])
    assert stop.value.code == 2
    assert options[1] in capsys.readouterr().err


def test_ctrl_c_leaves_no_half_written_results(album: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from facedet_mm.detectors import OnnxDetector

    real, calls = OnnxDetector.detect_batch, []

    def interrupted(self: OnnxDetector, images: list[np.ndarray]) -> list[Faces]:
        calls.append(images)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(OnnxDetector, "detect_batch", interrupted)
    results = tmp_path / "results"
    status = main(["detect", str(album), "-r", "--json", str(results / "f.json"), "--csv", str(results / "f.csv")])
    assert status == 130
    assert list(results.iterdir()) == []
    assert "interrupted" in capsys.readouterr().err


class TestMapAhead:
    def test_results_come_in_order_and_no_more_than_asked_for_wait(self) -> None:
        begun, lock, release = [], threading.Lock(), threading.Event()

        def work(i: int) -> int:
            with lock:
                begun.append(i)
            release.wait(5)
            return i * i

        drawn = []
        with thread_pool(3) as pool:
            results = map_ahead(pool, work, (drawn.append(i) or i for i in range(20)), ahead=4)
            release.set()
            assert next(results) == 0
            assert len(drawn) == 5
            assert [*results] == [i * i for i in range(1, 20)]

    def test_an_error_comes_at_its_turn_and_stops_the_rest(self) -> None:
        def work(i: int) -> int:
            if i == 2:
                raise ValueError("two")
            return i

        got = []
        with thread_pool(1) as pool, pytest.raises(ValueError, match="two"):
            got.extend(map_ahead(pool, work, range(100), ahead=3))
        assert got == [0, 1]

    def test_what_has_not_begun_when_an_error_comes_is_forgotten(self) -> None:
        begun: list[int] = []
        with contextlib.suppress(RuntimeError), thread_pool(1) as pool:
            blocker = threading.Event()
            pool.submit(blocker.wait, 5)
            waiting = [pool.submit(begun.append, i) for i in range(3)]
            threading.Timer(0.2, blocker.set).start()
            raise RuntimeError
        assert begun == []
        assert all(task.cancelled() for task in waiting)


def test_images_that_are_read_are_written_over_by_no_output(tmp_path: Path, photo: np.ndarray, capsys) -> None:
    for name in ("photo.png", "photo_1.png", "photo_2.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", photo)[1].tobytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["detect", str(tmp_path), "--crops", str(tmp_path), "-q"]) == 1
    assert "--crops would overwrite" in capsys.readouterr().err
    assert all(path.read_bytes() == data for path, data in before.items())
    for option in ("--json", "--csv", "--coco"):
        assert main(["detect", str(tmp_path), option, str(tmp_path / "photo.png")]) == 1
        assert f"{option} would overwrite" in capsys.readouterr().err
    assert main(["detect", str(tmp_path), "--json", str(tmp_path / "r"), "--csv", str(tmp_path / "r")]) == 1
    assert "--json and --csv would share a file" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_two_images_of_one_wider_file_are_refused(tmp_path: Path, photo: np.ndarray, capsys) -> None:
    for folder in ("p", "q"):
        (tmp_path / folder / "event").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "event" / "1.png"), photo)
    words = [str(tmp_path / "p/event"), str(tmp_path / "q/event"), "--wider", str(tmp_path / "w")]
    assert main(["detect", *words]) == 1
    assert "two images would get" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_results_go_into_a_pipe_and_through_a_link(album: Path, tmp_path: Path) -> None:
    fifo, link, got = tmp_path / "fifo", tmp_path / "link.json", list[str]()
    os.mkfifo(fifo)
    link.symlink_to(tmp_path / "real.json")
    (tmp_path / "real.json").write_text("old")
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    assert main(["detect", str(album / "a.png"), "--csv", str(fifo), "--json", str(link), "-q"]) == 0
    reader.join(10)
    assert got[0].startswith("image,")
    assert link.is_symlink()
    assert names_of(tmp_path / "real.json") == ["a.png"]


def test_a_list_may_end_its_names_with_zeros(album: Path, tmp_path: Path, monkeypatch) -> None:
    names = b"".join(bytes(album / name) + b"\0" for name in ("a.png", "b.PNG"))
    monkeypatch.setattr("sys.stdin", type("Pipe", (), {"buffer": io.BytesIO(names)}))
    assert main(["detect", "-", "--json", str(tmp_path / "f.json"), "-q"]) == 0
    assert names_of(tmp_path / "f.json") == ["a.png", "b.PNG"]


def test_a_pattern_that_fits_a_folder_means_its_images(album: Path, tmp_path: Path) -> None:
    assert main(["detect", f"{album.parent}/alb*", "--json", str(tmp_path / "f.json"), "-q"]) == 0
    assert names_of(tmp_path / "f.json") == ["a.png", "b.PNG"]


@pytest.mark.parametrize("name", ["loop.png", "a" * 300 + ".png", "nul\0.png"])
def test_names_that_no_file_can_have_are_reported_and_skipped(album: Path, tmp_path: Path, name: str, capsys) -> None:
    if name == "loop.png":
        (album / name).symlink_to(album / name)
    words = [str(album / "a.png"), str(album / name), "--json", str(tmp_path / "f.json"), "-q"]
    assert main(["detect", *words]) == 1
    assert name[:8].replace("\0", r"\x00") in capsys.readouterr().err
    assert names_of(tmp_path / "f.json") == ["a.png"]


def test_too_little_memory_is_one_line(album: Path, capsys) -> None:
    assert main(["detect", str(album / "a.png"), "--size", "1048576"]) == 1
    assert "not enough memory" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_standard_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "facedet_mm", "models", "list"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["facedet models: error: standard output: No space left on device"]
