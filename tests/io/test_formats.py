"""Text forms of faces: read back with other people's readers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from facedet_mm import Faces
from facedet_mm.io.formats import (
    CSV_COLUMNS,
    ImageFaces,
    coco_document,
    csv_rows,
    csv_text,
    face_records,
    json_record,
    mot_lines,
)

LANDMARKS = np.arange(20).reshape(2, 5, 2) + 0.126
FACES = Faces([[10.004, 20, 30, 50], [0, 1.5, 2.25, 4]], [0.9, 0.1234567], LANDMARKS, [3, -1])
PLAIN = Faces(FACES.boxes, FACES.scores)


def table(rows: list) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text([CSV_COLUMNS, *rows]))))


def test_a_csv_row_has_the_face_under_its_headings() -> None:
    first, second = table(csv_rows("a.jpg", FACES))
    assert [first[name] for name in ("image", "x1", "y1", "x2", "y2", "score", "track_id")] == [
        "a.jpg", "10.0", "20.0", "30.0", "50.0", "0.9", "3",
    ]  # fmt: skip
    assert (first["left_eye_x"], first["left_eye_y"], first["right_mouth_y"]) == ("0.13", "1.13", "9.13")
    assert (second["x2"], second["score"], second["track_id"], second["nose_x"]) == ("2.25", "0.123457", "", "14.13")


def test_csv_cells_without_landmarks_or_tracks_are_empty() -> None:
    rows = csv_rows("a.jpg", PLAIN)
    assert {len(row) for row in rows} == {len(CSV_COLUMNS)} == {17}
    assert {value for name, value in table(rows)[0].items() if name not in CSV_COLUMNS[:6]} == {""}
    assert csv_rows("a.jpg", Faces.empty(landmarks=True)) == csv_rows("a.jpg", Faces.empty()) == []


@pytest.mark.parametrize("name", ['a, "b".jpg', "zwei\nZeilen.jpg", "a\rb.jpg", "a\r\n", "日本.png", " ", "\ud800.jpg"])
def test_every_file_name_survives_csv_and_json(name: str) -> None:
    text = csv_text([CSV_COLUMNS, *csv_rows(name, PLAIN)])
    expected = name.encode("utf-8", "backslashreplace").decode()
    assert [row["image"] for row in csv.DictReader(io.StringIO(text))] == [expected] * 2
    text.encode("utf-8")
    assert json.loads(json.dumps(json_record(ImageFaces(name, 4, 3, PLAIN))))["image"] == name


def test_the_track_id_is_empty_for_every_face_without_a_track() -> None:
    expected = {"untracked": ["", ""], "tracked": ["3", ""]}
    for name, faces in (("untracked", PLAIN), ("tracked", FACES)):
        assert [row["track_id"] for row in table(csv_rows("a.jpg", faces))] == expected[name]


def test_lines_of_a_csv_end_alike_whatever_is_in_them() -> None:
    text = csv_text([("a\rb", 1), ("c\r\nd", 2), ("e", "f\r\n")])
    assert text == '"a\rb",1\n"c\r\nd",2\ne,"f\r\n"\n'
    assert [row[0] for row in csv.reader(io.StringIO(text, newline=""))] == ["a\rb", "c\r\nd", "e"]


def test_a_json_record_holds_the_image_and_only_the_columns_that_there_are() -> None:
    record = json_record(ImageFaces("a.jpg", 640, 480, FACES))
    assert (record["image"], record["width"], record["height"]) == ("a.jpg", 640, 480)
    assert record["faces"][0]["box"] == [10.0, 20.0, 30.0, 50.0]
    assert record["faces"][0]["landmarks"][4] == [8.13, 9.13]
    assert [face["track_id"] for face in record["faces"]] == [3, -1]
    assert face_records(PLAIN)[1] == {"box": [0.0, 1.5, 2.25, 4.0], "score": 0.123457}
    assert face_records(Faces.empty()) == []


def test_mot_lines_are_in_the_order_of_the_challenge() -> None:
    lines = [line.split(",") for line in mot_lines(12, FACES)]
    assert [[float(cell) for cell in line] for line in lines] == [
        [12, 3, 10, 20, 20, 30, 0.9, -1, -1, -1],
        [12, -1, 0, 1.5, 2.25, 2.5, 0.123457, -1, -1, -1],
    ]
    assert [line[:2] for line in lines] == [["12", "3"], ["12", "-1"]]
    assert mot_lines(1, PLAIN)[0].startswith("1,-1,")
    assert mot_lines(1, Faces.empty()) == []


def test_a_coco_file_links_faces_to_images_and_numbers_them_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco_api = pytest.importorskip("pycocotools.coco", reason="NEEDS pycocotools")
    images = [("a.jpg", FACES), ("empty.jpg", Faces.empty()), ("b/c.jpg", FACES[1:]), ("d.jpg", PLAIN)]
    document = coco_document(ImageFaces(name, 64, 48, faces) for name, faces in images)
    (tmp_path / "coco.json").write_text(json.dumps(document))
    coco = coco_api.COCO(tmp_path / "coco.json")
    capsys.readouterr()
    assert [image["file_name"] for image in coco.loadImgs([1, 2, 3, 4])] == [name for name, _ in images]
    assert [coco.getAnnIds(imgIds=i) for i in (1, 2, 3, 4)] == [[1, 2], [], [3], [4, 5]]
    assert coco.loadAnns(3)[0]["bbox"] == [0.0, 1.5, 2.25, 2.5]
    (category,) = coco.loadCats(coco.getCatIds())
    assert (category["name"], len(category["keypoints"])) == ("face", 5)
    assert [len(annotation.get("keypoints", [])) for annotation in coco.loadAnns([1, 3, 4])] == [15, 15, 0]
    assert coco.loadAnns(1)[0]["keypoints"][:6] == [0.13, 1.13, 2, 2.13, 3.13, 2]
