"""``--attributes`` and the filters of ``detect`` and ``video``: what is written, left out and said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from video_samples import write_video

from facedet_mm import Faces
from facedet_mm.cli import detect, main
from facedet_mm.detectors import DetectorOptions
from facedet_mm.imaging.alignment import ARCFACE_TEMPLATE
from facedet_mm.imaging.attributes import ATTRIBUTE_NAMES
from facedet_mm.video import pipeline

TURNED = np.array(ARCFACE_TEMPLATE)
TURNED[:, 0] += [90, 90, 102, 90, 90]
FOUND = Faces(
    [[10, 10, 110, 110], [0, 20, 30, 50], [120, 20, 190, 110]], [0.9, 0.8, 0.7],
    [np.array(ARCFACE_TEMPLATE), np.array(ARCFACE_TEMPLATE) / 4 + 20, TURNED],
)  # fmt: skip


class FakeDetector:
    """Finds the same faces in every image."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        self.options = DetectorOptions(score_thr=0.1)

    def replace(self, **_: Any) -> FakeDetector:
        return self

    def detect(self, image: Any) -> Faces:  # noqa: ARG002
        return self.faces

    def detect_batch(self, images: list[Any]) -> list[Faces]:
        return [self.faces] * len(images)


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(detect, "open_detector", lambda _: FakeDetector(FOUND))
    monkeypatch.setattr(pipeline, "open_detector", lambda _: FakeDetector(FOUND))
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    return tmp_path / "photo.png"


def test_attributes_are_printed_and_in_json_and_csv(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [photo.with_name(name) for name in ("f.json", "f.csv", "f.jsonl")]
    assert main(["detect", str(photo), "--attributes", "--json", str(files[0]), "--csv", str(files[1])]) == 0
    out = capsys.readouterr().out.splitlines()
    expected = FOUND.attributes(cv2.imread(str(photo))).to_dict()
    (record,) = json.loads(files[0].read_text())
    assert [face["attributes"] for face in record["faces"]] == [
        {name: expected[name][i] for name in ATTRIBUTE_NAMES} for i in range(3)
    ]
    rows = list(csv.DictReader(files[1].open()))
    assert [[row[name] for name in ATTRIBUTE_NAMES] for row in rows] == [
        [str(expected[name][i]) for name in ATTRIBUTE_NAMES] for i in range(3)
    ]
    assert out[1].startswith("  0.90  (10, 10) to (110, 110)  roll 0  pitch ")
    assert out[1].endswith("  size 100")
    assert out[2].endswith("  size 30  cut by the border")
    assert (
        main(["detect", str(photo), "--attributes", "--min-size", "80", "--max-yaw", "20", "--json", str(files[2])])
        == 0
    )
    (face,) = json.loads(files[2].read_text())["faces"]
    assert face["attributes"] == {name: expected[name][0] for name in ATTRIBUTE_NAMES}
    assert main(["detect", str(photo), "--attributes", "--min-size", "75", "--json", str(files[2])]) == 0
    assert [face["attributes"]["size"] for face in json.loads(files[2].read_text())["faces"]] == [100.0, 79.4]
    assert main(["detect", str(photo), "--csv", str(files[1])]) == 0
    assert "yaw" not in files[1].read_text()


def test_attributes_without_landmarks_are_empty_cells(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detect, "open_detector", lambda _: FakeDetector(Faces(FOUND.boxes, FOUND.scores)))
    table = photo.with_name("f.csv")
    assert main(["detect", str(photo), "--attributes", "--csv", str(table), "--json", "-"]) == 0
    assert list(json.loads(capsys.readouterr().out)[0]["faces"][0]["attributes"]) == list(ATTRIBUTE_NAMES[3:])
    row = next(csv.DictReader(table.open()))
    assert (row["yaw"], row["size"]) == ("", "100.0")
    assert main(["detect", str(photo), "--max-yaw", "20"]) == 1
    assert "the yaw of a face is known from its landmarks, and this model predicts none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "kept", "said"),
    [
        (["--min-size", "40"], [0, 2], "1 face left out by --min-size"),
        (["--max-yaw", "20"], [0, 1], "1 face left out by --max-yaw"),
        (["--min-sharpness", "1"], [], "3 faces left out by --min-sharpness"),
        (["--min-size", "40", "--max-yaw", "20"], [0], "1 face left out by --min-size, 1 by --max-yaw"),
        (["--max-roll", "90"], [0, 1, 2], ""),
    ],
)
def test_faces_that_are_left_out_are_in_no_output_and_counted_in_one_line(
    photo: Path, option: list[str], kept: list[int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = photo.with_name("crops")
    assert main(["detect", str(photo), *option, "--json", "-", "--crops", str(crops)]) == 0
    output = capsys.readouterr()
    (record,) = json.loads(output.out)
    assert [face["box"] for face in record["faces"]] == FOUND.boxes[kept].tolist()
    assert "attributes" not in str(record)
    assert len(list(crops.glob("*"))) == len(kept)
    lines = [line for line in output.err.splitlines() if "left out" in line]
    assert lines == ([f"facedet detect: {said}"] if said else [])
    assert output.err.splitlines()[0] == f"{photo}: {len(kept)} face{'' if len(kept) == 1 else 's'}"


def test_faces_that_are_left_out_stay_visible_and_the_line_says_so(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photo.with_name("out")
    hide = ["--anonymize", "fill", "--margin", "0", "--out", str(out)]
    assert main(["detect", str(photo), "--min-size", "40", *hide]) == 0
    assert "1 face left out by --min-size; they are not made unrecognizable" in capsys.readouterr().err
    hidden, image = cv2.imread(str(out / "photo.png")), cv2.imread(str(photo))
    assert (hidden[22:48, :9] == image[22:48, :9]).all()
    assert (hidden[50:70, 50:70] == 0).all()


def test_a_video_leaves_out_faces_after_tracking(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = photo.with_name("v.mkv"), photo.with_name("f.jsonl")
    write_video(clip, [cv2.imread(str(photo))] * 10)
    assert main(["video", str(clip), "--out", str(out), "--min-size", "40", "--max-yaw", "20"]) == 0
    output = capsys.readouterr()
    assert output.err == "facedet video: 10 faces left out by --min-size, 10 by --max-yaw\n"
    assert "10 frames, 1.0 faces per frame, 3 tracks" in output.out
    faces = [json.loads(line)["faces"] for line in out.read_text().splitlines()]
    assert [len(of_frame) for of_frame in faces] == [1] * 10
    assert main(["video", str(clip), "--fill-gaps", "3", "--min-size", "40"]) == 0
    assert "10 faces left out by --min-size" in capsys.readouterr().err
