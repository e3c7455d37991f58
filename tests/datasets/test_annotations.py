"""Annotation files: three formats, their quirks, and what is said about broken ones."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facedet_mm.datasets.annotations import ATTRIBUTE_NAMES, read_annotations
from facedet_mm.errors import AnnotationError

WIDER = """\
0--Parade/a.jpg
2
10 20 30 40 2 0 1 0 2 1
-5 -6 7 8 0 1 0 1 0 0
1--Party/no face.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Party/b.jpg
1
3 4 0 6 0 0 0 0 0 0
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "annotations.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_wider_faces_become_corners_with_attributes(write):
    first, _, _ = read_annotations(write(WIDER))
    assert first.name == "0--Parade/a.jpg"
    assert first.boxes.dtype == np.float32
    assert first.boxes.tolist() == [[10, 20, 40, 60], [-5, -6, 2, 2]]
    attributes = dict(zip(ATTRIBUTE_NAMES, first.attributes[0].tolist(), strict=True))
    assert attributes == {"blur": 2, "expression": 0, "illumination": 1, "invalid": 0, "occlusion": 2, "pose": 1}
    assert first.landmarks is None
    assert first.landmark_weights is None
    assert first.size is None


def test_a_line_of_zeros_after_faces_is_not_skipped(write):
    with pytest.raises(AnnotationError, match=r"line 4: expected the name of an image"):
        read_annotations(write("a/x.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n0 0 0 0 0 0 0 0 0 0\na/y.jpg\n0\n"))


def test_invalid_faces_and_faces_without_area_are_ignored(write):
    first, _, last = read_annotations(write(WIDER))
    assert first.ignore.tolist() == [False, True]
    assert last.ignore.tolist() == [True]


@pytest.mark.parametrize("zeros", ["0 0 0 0 0 0 0 0 0 0\n", "0 0 0 0 0 0 0 0 0 0 \n", ""])
def test_an_image_without_faces_has_none_with_or_without_its_line_of_zeros(write, zeros):
    annotations = read_annotations(write(f"a/x.jpg\n0\n{zeros}a/y.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n"))
    assert [(a.name, len(a)) for a in annotations] == [("a/x.jpg", 0), ("a/y.jpg", 1)]
    assert annotations[0].boxes.shape == (0, 4)


def test_four_columns_are_enough_for_ones_own_images(write):
    (image,) = read_annotations(write("mine.png\n1\n1.5 2 3 4\n"))
    assert image.boxes.tolist() == [[1.5, 2, 4.5, 6]]
    assert image.ignore.tolist() == [False]
    assert image.attributes is None


@pytest.mark.parametrize("change", [lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t, lambda t: t + "\n \n"])
def test_windows_line_ends_byte_order_marks_and_blank_lines_change_nothing(write, change):
    plain = read_annotations(write(WIDER))
    changed = read_annotations(write(change(WIDER)))
    for a, b in zip(plain, changed, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.attributes, b.attributes)


def test_retinaface_landmarks_have_weight_unless_they_are_minus_one(write):
    points = " ".join(f"{10 + i} {20 + i} {i % 2}.0" for i in range(5))
    nothing = " ".join(["-1.0"] * 15)
    (image,) = read_annotations(write(f"# a/x.jpg\n1 2 30 40 {points} 0.8\n5 6 7 8 {nothing} 0.1\n"))
    assert image.boxes.tolist() == [[1, 2, 31, 42], [5, 6, 12, 14]]
    assert image.landmarks[0].tolist() == [[10 + i, 20 + i] for i in range(5)]
    assert image.landmark_weights.tolist() == [[1] * 5, [0] * 5]


def test_a_single_missing_landmark_loses_only_its_own_weight(write):
    (image,) = read_annotations(write("# a/x.jpg\n1 2 30 40 1 1 0 2 2 0 -1 -1 -1 4 4 0 5 5 0\n"))
    assert image.landmark_weights.tolist() == [[1, 1, 0, 1, 1]]


def test_retinaface_faces_without_landmarks_may_stand_beside_faces_with_them(write):
    points = " ".join(["3 4 0"] * 5)
    first, second = read_annotations(write(f"# a/x.jpg\n1 2 30 40\n# a/y.jpg\n1 2 30 40 {points}\n"))
    assert first.landmark_weights.tolist() == [[0] * 5]
    assert second.landmark_weights.tolist() == [[1] * 5]


def test_labelv2_has_corners_and_the_size_of_the_image(write):
    text = "# a/my photo 2.jpg 640 480\n1 2 30 40\n-3 5 3 9 1\n# a/y.jpg 10 20\n"
    first, second = read_annotations(write(text))
    assert (first.name, first.size, second.size) == ("a/my photo 2.jpg", (640, 480), (10, 20))
    assert first.boxes.tolist() == [[1, 2, 30, 40], [-3, 5, 3, 9]]
    assert first.ignore.tolist() == [False, True]
    assert len(second) == 0


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        (WIDER.replace("10 20 30 40", "10 20 x 40"), 3, "x y w h"),
        (WIDER.replace("10 20 30 40", "10 20 nan 40"), 3, "x y w h"),
        (WIDER.replace("10 20 30 40", "10 20 30"), 3, "x y w h"),
        (WIDER.replace("a.jpg\n2\n", "a.jpg\n3\n"), 5, "face 3 of the 3 that line 2 announces"),
        (WIDER.replace("a.jpg\n2\n", "a.jpg\n1\n"), 4, "the name of an image"),
        (WIDER.replace("a.jpg\n2\n", "a.jpg\ntwo\n"), 2, "the number of faces of 0--Parade/a.jpg"),
        (WIDER.replace("a.jpg\n2\n", "a.jpg\n-2\n"), 2, "the number of faces of 0--Parade/a.jpg"),
        (WIDER.replace("0--Parade/a.jpg", "0--Parade"), 1, "the name of an image"),
        (WIDER.removesuffix("3 4 0 6 0 0 0 0 0 0\n"), 9, "expected 1 faces of 1--Party/b.jpg, found 0"),
        (WIDER.removesuffix("1\n3 4 0 6 0 0 0 0 0 0\n"), 8, "the number of faces of 1--Party/b.jpg"),
        ("# a/x.jpg\n1 2 3\n", 2, "x y w h"),
        ("# a/x.jpg\n1 2 3 4\n# a\n", 3, "'# event/image.jpg'"),
        ("# a/x.jpg 10 10\n1 2 3 4\n# a/y.jpg\n", 3, "'# event/image.jpg width height'"),
        ("# a/x.jpg 10 10\n1 2 3 4\n\n1 2 3 4 5 6\n", 4, "x1 y1 x2 y2"),
        ("# a/x.jpg 99 99\n50 60 9 9\n40 40 8 8\n", 2, "corners x1 y1 x2 y2 with x2 ≥ x1"),
    ],
)
def test_a_broken_line_is_named_with_what_was_expected(write, text, line, expected):
    path = write(text)
    with pytest.raises(AnnotationError) as error:
        read_annotations(path)
    assert str(error.value).startswith(str(path))
    assert re.search(rf"line {line}\b", str(error.value))
    assert expected in str(error.value)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe\x00binary", "résumé".encode("latin-1")])
def test_a_file_without_text_or_annotations_is_refused(write, content):
    with pytest.raises(AnnotationError, match=r"annotations\.txt"):
        read_annotations(write(content))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nothing.txt", tmp_path):
        with pytest.raises(AnnotationError, match=re.escape(str(path))):
            read_annotations(path)


def test_the_reader_needs_no_torch():
    code = (
        "import sys, facedet_mm.datasets.annotations as a; assert not {'torch', 'mmdet', 'mmengine'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_examples_of_the_documentation_are_three_formats_of_the_same_faces(write):
    text = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    examples = [block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if "beach 01.jpg" in block]
    assert len(examples) == 3
    for example in examples:
        first = read_annotations(write(example))[0]
        assert first.name == "holiday/beach 01.jpg"
        assert first.boxes.tolist() == [[120, 84, 160, 136], [310, 90, 319, 101]]
        if first.landmarks is not None:
            assert first.landmarks[0, 2].tolist() == [140, 114]
            assert first.landmark_weights.tolist() == [[1] * 5, [0] * 5]


def test_the_official_files_hold_what_their_authors_published(data, tmp_path):
    with zipfile.ZipFile(data / "wider" / "wider_face_split.zip") as archive:
        archive.extractall(tmp_path)
    train = read_annotations(tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt")
    val = read_annotations(tmp_path / "wider_face_split" / "wider_face_val_bbx_gt.txt")
    assert (len(train), len(val), sum(map(len, val))) == (12_880, 3_226, 39_708)
    # The training file holds 159,424 lines of ten numbers, four of them the zeros of images without faces.
    assert sum(map(len, train)) == 159_420
    assert sum(len(image) == 0 for image in train) == 4


def test_the_three_formats_agree_on_the_validation_faces(data, tmp_path):
    with zipfile.ZipFile(data / "wider" / "wider_face_split.zip") as archive:
        archive.extract("wider_face_split/wider_face_val_bbx_gt.txt", tmp_path)
    wider = {a.name: a for a in read_annotations(tmp_path / "wider_face_split" / "wider_face_val_bbx_gt.txt")}
    retinaface = read_annotations(data / "wider" / "label_val.txt")
    scrfd = read_annotations(data / "wider" / "labelv2_val.txt")
    same = 0
    for image in [*retinaface, *scrfd]:
        official = set(map(tuple, wider[image.name].boxes.tolist()))
        same += len(official & set(map(tuple, image.boxes.tolist())))
    assert same > 0.999 * sum(map(len, [*retinaface, *scrfd]))


def test_landmarks_of_the_real_training_file_lie_inside_their_faces(data):
    images = read_annotations(data / "wider" / "label_train_excerpt.txt")
    assert images[0].landmarks[0, 2].tolist() == pytest.approx([515.031, 412.83])
    for image in images:
        annotated = image.landmark_weights > 0
        centers = image.landmarks.mean(axis=1)[annotated.all(axis=1)]
        boxes = image.boxes[annotated.all(axis=1)]
        assert ((centers > boxes[:, :2]) & (centers < boxes[:, 2:])).all()
