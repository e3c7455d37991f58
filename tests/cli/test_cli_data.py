"""``facedet data`` as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from own_data import BOXES, POINTS, WRITERS, coco, draw_images, write_coco, write_yolo

from facedet_mm.cli import main
from facedet_mm.datasets.annotations import read_dataset
from facedet_mm.io.images import read_image


@pytest.mark.parametrize("kind", WRITERS)
def test_check_tells_what_is_there(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = WRITERS[kind](tmp_path)
    assert main(["data", "check", str(place)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    landmarks = 0 if kind == "voc" else 1
    assert ": 2 images, 2 faces, 0 of them to ignore, " + f"{landmarks} with landmarks; images in {tmp_path}" in first
    assert last == "nothing is wrong"


def faulty(change: Any, folder: Path) -> Path:
    document = coco()
    change(document, folder)
    path = folder / "faces.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("change", "kind", "line"),
    [
        (lambda d, _: d["annotations"][1].update(bbox=[9, 9, 0, 4]), "box has no area: 1", "[1]: a.png: box 9 9 9 13"),
        (
            lambda d, _: d["annotations"][1].update(bbox=[200, 9, 5, 4]),
            "box is outside of the image: 1",
            "annotations[1]: a.png: box 200 9 205 13 in an image of 200 x 100",
        ),
        (
            lambda d, _: d["annotations"][1].update(bbox=d["annotations"][0]["bbox"]),
            "box comes twice: 1",
            "faces.json, annotations[0]",
        ),
        (
            lambda d, _: d["annotations"][0].update(bbox=[150, 60, 9, 9]),
            "landmarks are outside of the box: 1",
            "annotations[0]: a.png: box 150 60 159 69",
        ),
        (lambda d, _: d["images"][1].update(width=300), "image has another size: 1", "has 200 x 100 pixels, the annot"),
        (lambda _, f: (f / "images/b.jpg").unlink(), "image is missing: 1", "images[1]: "),
        (lambda _, f: (f / "images/b.jpg").write_text("x"), "image can't be read: 1", "b.jpg: not an image"),
        (
            lambda d, _: d["images"][1].update(file_name="a.jpg"),
            "images have one name for the evaluation: 1",
            "a.jpg and a.png are both a",
        ),
        (lambda d, _: d.update(annotations=[]), "whole data set: 1", "none of the 2 images has a face"),
        (
            lambda d, _: d["annotations"][0].update(keypoints=[v for p in POINTS[::-1] for v in (*p, 2)]),
            "whole data set: 1",
            "the left eye is right of the right eye",
        ),
    ],
)
def test_check_names_each_fault(
    tmp_path: Path, change: Any, kind: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_images(tmp_path / "images")
    path = faulty(change, tmp_path)
    assert main(["data", "check", str(path)]) == 1
    out = capsys.readouterr().out
    heading, *faults = [part for part in out.split("\n\n")[1].splitlines() if part]
    if "a.jpg" in line:
        assert kind in out
        assert line in out
    else:
        assert heading.startswith(kind)
        assert line in faults[0]
        assert str(path) in faults[0] or kind == "whole data set: 1"


def test_check_finds_truncated_images_only_by_decoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_coco(tmp_path)
    image = tmp_path / "images/b.jpg"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8))
    image.write_bytes(image.read_bytes()[:-900])
    assert main(["data", "check", str(path)]) == 0
    assert main(["data", "check", str(path), "--decode"]) == 1
    assert f"images[1]: {image}: " in capsys.readouterr().out


def test_check_shows_a_few_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/0.png"), np.zeros((9, 9, 3), np.uint8))
    path = tmp_path / "faces.txt"
    path.write_text("".join(f"# a/{i}.png\n1 2 3 4\n" for i in range(50)))
    assert main(["data", "check", str(path), "--most", "3"]) == 1
    out = capsys.readouterr().out
    assert "image is missing: 49; put the images there" in out
    assert out.count("does not exist") == 3
    assert "… and 46 more (--most N shows more)" in out


def test_a_malformed_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = faulty(lambda d, _: d["annotations"][0].update(bbox=[1]), tmp_path)
    assert main(["data", "check", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"facedet data: error: {path}, annotations[0]: expected 4 numbers, bbox [x, y, width, height], found '[1]'\n"
    )


def test_stats_print_write_and_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_yolo(tmp_path)
    assert main(["data", "stats", str(path), "--json", "-", "--plot", str(tmp_path / "sizes.png")]) == 0
    out, err = capsys.readouterr()
    numbers = json.loads(out)
    assert (numbers["images"], numbers["faces"], numbers["faces_with_landmarks"]) == (2, 2, 1)
    assert numbers["face_size"][0] == 40
    assert "faces with landmarks            1" in err
    plot = read_image(tmp_path / "sizes.png")
    assert (plot < 200).any()


def test_stats_never_overwrite_the_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_coco(tmp_path)
    before = path.read_text()
    assert main(["data", "stats", str(path), "--json", str(path)]) == 1
    assert "would overwrite" in capsys.readouterr().err
    assert path.read_text() == before
    assert (
        main(
            ["data", "browse", str(path), "--out", str(tmp_path / "images/a.png"), "--images", str(tmp_path / "images")]
        )
        == 1
    )
    assert "would overwrite" in capsys.readouterr().err


def test_convert_tells_what_is_lost_and_copies_images_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_coco(tmp_path)
    assert main(["data", "convert", str(path), str(tmp_path / "voc"), "--to", "voc"]) == 0
    out, err = capsys.readouterr()
    assert out == f"wrote {tmp_path}/voc from 2 images, 2 faces, 0 of them to ignore, 1 with landmarks\n"
    assert err == f"facedet data: note: {tmp_path}/voc: landmarks of 1 faces are left out: Pascal VOC has none\n"
    assert not (tmp_path / "voc/JPEGImages").exists()
    assert main(["data", "convert", str(path), str(tmp_path / "yolo"), "--to", "yolo", "--copy-images"]) == 0
    np.testing.assert_allclose(read_dataset(tmp_path / "yolo").images[0].boxes, BOXES, atol=1e-4)
    assert (tmp_path / "yolo/images/a.png").read_bytes() == (tmp_path / "images/a.png").read_bytes()


def test_options_of_reading_count_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = coco()
    document["categories"] = [dict(id=3, name="head"), dict(id=4, name="hand")]
    document["annotations"][0]["keypoints"] = [1, 2, 2] * 17
    (tmp_path / "faces.json").write_text(json.dumps(document))
    out = tmp_path / "out.json"
    words = ["data", "convert", str(tmp_path / "faces.json"), str(out), "--to", "coco"]
    assert main(words) == 1
    assert "--category" in capsys.readouterr().err
    assert main([*words, "--category", "head"]) == 1
    assert "--no-landmarks" in capsys.readouterr().err
    assert main([*words, "--category", "head", "--no-landmarks"]) == 0
    assert json.loads(out.read_text())["categories"] == [dict(id=1, name="face", supercategory="person")]


def test_split_writes_two_parts(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    document = json.loads(path.read_text())
    document["images"] = [dict(id=i, file_name=f"{i % 5}/{i}.png", width=200, height=100) for i in range(20)]
    path.write_text(json.dumps(document))
    words = ["data", "split", str(path), str(tmp_path / "parts"), "--val", "0.4", "--by", "folder"]
    assert main(words) == 0
    parts = [read_dataset(tmp_path / f"parts/{name}.json") for name in ("train", "val")]
    assert [len(part.images) for part in parts] == [12, 8]
    assert main(words) == 1, "nothing is overwritten"
    shutil.rmtree(tmp_path / "parts")
    assert main([*words, "--to", "scrfd"]) == 0
    assert len(read_dataset(tmp_path / "parts/val.txt").images) == 8


@pytest.mark.parametrize("share", ["0", "1", "x", "nan"])
def test_a_share_that_is_none_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "split", "a", "b", "--val", share])
    assert "--val" in capsys.readouterr().err


def test_browse_draws_boxes_and_landmarks_where_they_are(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    out = tmp_path / "sheet.png"
    assert main(["data", "browse", str(path), "--out", str(out), "--side", "200", "--columns", "2"]) == 0
    sheet = read_image(out)
    assert sheet.shape == (218, 400, 3)
    x1, y1, x2, y2 = BOXES[1]
    for x, y in ((x1, y1), (x2, y2), (x1, (y1 + y2) // 2)):
        assert sheet[y, x].tolist() == [80, 200, 0]
    for (x, y), color in zip(
        POINTS, ((255, 128, 0), (0, 128, 255), (0, 255, 255), (255, 0, 255), (0, 0, 255)), strict=True
    ):
        assert sheet[y, x].tolist() == list(color)
    assert (sheet[:100, 200:] == 90).all(), "the other image has no faces"


def test_browse_shows_why_an_image_is_missing(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    (tmp_path / "images/b.jpg").unlink()
    assert main(["data", "browse", str(path), "--out", str(tmp_path / "sheet.png")]) == 0
    assert (read_image(tmp_path / "sheet.png")[:320, 320:] > 200).any()


def test_browse_scales_boxes_with_their_image(tmp_path: Path) -> None:
    path, out = write_coco(tmp_path), tmp_path / "sheet.png"
    assert main(["data", "browse", str(path), "--out", str(out), "--side", "400"]) == 0
    (_, _, x2, y2), sheet = BOXES[1], read_image(out)
    assert sheet[2 * y2, 2 * x2].tolist() == [80, 200, 0]
    assert sheet[y2, x2].tolist() == [90, 90, 90]


@pytest.mark.parametrize("words", ["--out sheet.docx", "--count 1000 --side 5000"])
def test_a_sheet_that_can_not_be_is_refused(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "browse", str(write_coco(tmp_path)), *words.split()]) == 1
    assert capsys.readouterr().err.count("\n") == 1
