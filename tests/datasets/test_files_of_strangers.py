"""Annotation, MAT and prediction files from anywhere: odd numbers, odd shapes, odd names, and damaged copies."""

from __future__ import annotations

import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from mutations import damaged
from scipy.io import loadmat, savemat
from wider_samples import SETTINGS, cell, make_sample, write_mat_files, write_submission

from facedet_mm.datasets import GroundTruth, Predictions, read_ground_truth, read_predictions, write_prediction_file
from facedet_mm.datasets.annotations import read_annotations
from facedet_mm.datasets.attributes import read_annotated_faces
from facedet_mm.datasets.mat_format import read_variables
from facedet_mm.datasets.predictions import image_key
from facedet_mm.errors import AnnotationError
from facedet_mm.evaluation import evaluate

FACES = {"0--A/x": (np.array([[1.0, 2, 30, 40], [50, 60, 9, 9]]), dict.fromkeys(SETTINGS, np.array([True, False])))}
ODD_NUMBERS = ["3.5e38", "-3.5e38", "1.8e308", "1e400", "nan", "inf", "1_0", "１", "٣", "0x1"]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("number", ODD_NUMBERS)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a/x.jpg\n1\n1 2 {} 4 0 0 0 0 0 0\n", 3),
        ("a/x.jpg\n1\n1 2 3 4\na/y.jpg\n1\n{} 2 3 4\n", 6),
        ("# a/x.jpg\n1 2 3 {}\n", 2),
        ("# a/x.jpg\n1 2 3 4 1 1 0 2 2 0 3 {} 0 4 4 0 5 5 0 0.5\n", 2),
        ("# a/x.jpg 9 9\n1 2 {} 4\n", 2),
        ("a/x.jpg\n1\n1 2 3 4 0 0 0 0 {} 0\n", 3),
    ],
)
def test_an_odd_number_of_an_annotation_is_refused_with_its_line(
    tmp_path: Path, number: str, text: str, line: int
) -> None:
    path = tmp_path / "faces.txt"
    path.write_text(text.format(number), encoding="utf-8")
    with pytest.raises(AnnotationError, match=rf"faces\.txt, line {line}: expected a face as finite decimal numbers"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a/x.jpg\n1\n3e38 2 3e38 4\n", 3),  # its right edge is infinite
        ("a/x.jpg\n1\n1 2 3 4 1.9 0 0 0 0 0\n", 3),
        ("a/x.jpg\n1\n1 2 3 4 1e30 0 0 0 0 0\n", 3),
        ("a/x.jpg\n１\n1 2 3 4\n", 2),
        ("a/x.jpg\n" + "9" * 5000 + "\n1 2 3 4\n", 2),
        ("# a/x.jpg 9 9\n1 2 3 4\n# a/y.jpg 9 " + "9" * 5000 + "\n", 3),
        ("a/x\x1b[2J.jpg\n1\n1 2 3 4\n", 1),
        ("# a/x\x00.jpg\n1 2 3 4\n", 1),
    ],
)
def test_other_odd_lines_are_refused(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "faces.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match=rf"faces\.txt, line {line}: expected "):
        read_annotations(path)


@pytest.mark.parametrize("path", ["../x.jpg", "a/b/../x.jpg", "..\\x.jpg"])
def test_the_key_of_an_image_never_leads_out_of_a_folder(path: str) -> None:
    with pytest.raises(AnnotationError, match=r"must have a name, not \.\."):
        image_key(path)
    assert image_key("/x.jpg") == "x"


@pytest.mark.parametrize("value", [3.5e38, 1e308, -1e308, np.inf, np.nan])
def test_faces_whose_area_would_overflow_are_refused_instead_of_scored(tmp_path: Path, value: float) -> None:
    with pytest.raises(AnnotationError, match="0--A/x: a face is not finite in float32"):
        GroundTruth.from_images([("0--A/x.jpg", [[0, 0, 9, 9], [0, 0, value, 9]], [False, False])])
    write_mat_files(tmp_path, FACES)
    save_boxes(tmp_path, np.array([[1.0, 2, 30, 40], [0, 0, value, 9]]))
    with pytest.raises(AnnotationError, match=r"wider_face_val\.mat: .*0--A/x is not finite in float32"):
        read_ground_truth(tmp_path)


def test_the_largest_float32_still_scores() -> None:
    largest = float(np.finfo(np.float32).max)
    truth = GroundTruth.from_images([("a/x", [[0, 0, 9, 60], [-largest, 0, largest, largest]], [False, True])])
    found = Predictions.from_images([("a/x", [[0, 0, 9, 60], [-largest, -1e38, largest, largest]], [0.9, 0.8])])
    assert evaluate(found, truth).ap["easy"] == 1


def save_boxes(folder: Path, boxes: object, events: tuple[str, ...] = ("0--A",), names: tuple = ("x",)) -> None:
    """Replaces the file of the boxes by one of the given images of each event."""
    savemat(
        folder / "wider_face_val.mat",
        {
            "event_list": cell(list(events)),
            "file_list": cell([cell(list(names))] * len(events)),
            "face_bbx_list": cell([cell([boxes] * len(names))] * len(events)),
        },
    )


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.ones((4, 5)), r"the boxes of 0--A/x are float64 \(4, 5\), not numbers \(n, 4\)"),
        (np.ones((4, 2)), r"\(4, 2\)"),
        (np.ones((2, 8)), r"\(2, 8\)"),
        (np.ones((1, 2, 4)), r"\(1, 2, 4\)"),
        ("abcd", "not numbers"),
        (np.ones((2, 4)) * 1j, "real numbers"),
        (cell([1.0, 2.0, 3.0, 4.0]).reshape(1, 4), "not numbers"),
    ],
)
def test_boxes_of_another_shape_are_refused_instead_of_reordered(tmp_path: Path, boxes: object, message: str) -> None:
    write_mat_files(tmp_path, FACES)
    save_boxes(tmp_path, boxes)
    with pytest.raises(AnnotationError, match=rf"wider_face_val\.mat.*{message}"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize(
    ("events", "names"), [(("0--A", "0--A"), ("x",)), (("0--A",), ("x", "x")), (("0--A",), ("x", "x.jpg"))]
)
def test_an_image_that_comes_twice_in_a_mat_file_is_refused(tmp_path: Path, events: tuple, names: tuple) -> None:
    write_mat_files(tmp_path, FACES)
    save_boxes(tmp_path, np.ones((1, 4)), events, names)
    with pytest.raises(AnnotationError, match=r"image 0--A/x comes twice: .*wider_face_val\.mat, image 1 and .* 2"):
        read_ground_truth(tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write_mat_files(tmp_path, FACES)
    save_boxes(tmp_path, np.ones((1, 4)), names=(7.0,))
    with pytest.raises(AnnotationError, match=r"wider_face_val\.mat: .*expected a name, not 7\.0"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize("index", [1.9, np.nan, np.inf, 1e300, True, "1", 1j])
def test_an_index_that_is_no_whole_number_is_refused(tmp_path: Path, index: object) -> None:
    write_mat_files(tmp_path, FACES)
    value = np.array([[index]]) if not isinstance(index, str) else index
    savemat(tmp_path / "wider_easy_val.mat", {"gt_list": cell([cell([value])])})
    if index is True:  # stored as the number 1
        assert read_ground_truth(tmp_path).settings["easy"].tolist() == [True, False]
        return
    with pytest.raises(AnnotationError, match=r"wider_easy_val\.mat"):
        read_ground_truth(tmp_path)


def test_labels_of_other_images_are_refused_even_if_there_are_as_many(tmp_path: Path) -> None:
    save_boxes(write_mat_files(tmp_path, {}), np.ones((2, 4)), names=("x", "y"))
    for setting in SETTINGS:
        savemat(tmp_path / f"wider_{setting}_val.mat", {"gt_list": cell([cell([np.ones((1, 1))] * 2)])})
    content = {name: value for name, value in loadmat(tmp_path / "wider_face_val.mat").items() if name[0] != "_"}
    labels = cell([cell([np.zeros((1, 1)), np.zeros((3, 1))])])
    names = ("blur", "expression", "illumination", "occlusion", "pose")
    savemat(tmp_path / "wider_face_val.mat", {**content, **{f"{name}_label_list": labels for name in names}})
    with pytest.raises(AnnotationError, match=r"blur_label_list has 4 labels for 4 faces, or they are those of other"):
        read_annotated_faces(tmp_path)
    half = cell([cell([np.full((2, 1), 0.5)] * 2)])
    savemat(tmp_path / "wider_face_val.mat", {**content, **{f"{name}_label_list": half for name in names}})
    with pytest.raises(AnnotationError, match=r"blur: 0\.5 is not a whole number"):
        read_annotated_faces(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_variables_are_those_that_scipy_reads(tmp_path: Path, compressed: bool) -> None:
    values = {
        "doubles": np.arange(12.0).reshape(3, 4),
        "singles": np.float32([[0.5, np.inf]]),
        "bytes": np.uint8([[1], [2], [255]]),
        "large": np.int64([[-(2**62), 3]]),
        "cube": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
        "empty": np.zeros((0, 4)),
        "cells": cell(["é 日本", cell([np.ones((2, 2)), "", np.zeros((0, 0))])]),
        "text": "0--Parade",
        "other": np.ones((1, 1)) * 1j,
    }
    savemat(tmp_path / "a.mat", values, do_compression=compressed)
    found = read_variables((tmp_path / "a.mat").read_bytes(), values.keys() - {"other"}, 1 << 20)
    theirs = loadmat(tmp_path / "a.mat")
    assert found.keys() == values.keys() - {"other"}
    for name, value in found.items():
        assert_same(value, theirs[name])


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    if theirs.dtype.kind == "U":
        assert ours.item() == (theirs.item() if theirs.size else "")
        return
    assert ours.shape == theirs.shape
    for one, other in zip(ours.ravel(), theirs.ravel(), strict=True):
        assert_same(one, other) if theirs.dtype == object else np.testing.assert_equal(one, other)


def nested_cells(depth: int) -> bytes:
    """A MAT file whose variable is a cell in a cell in a cell, …"""
    data = b""
    for level in range(depth):
        name = b"gt_list\0" if level == depth - 1 else b""
        head = struct.pack("<IIIIIIiiII", 6, 8, 1, 0, 5, 8, 1, 1, 1, 7 if name else 0) + name
        data = struct.pack("<II", 14, len(head) + len(data)) + head + data
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + data


def compressed_zeros(count: int) -> bytes:
    packed = zlib.compress(bytes(count), 9)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (nested_cells(12_000), "its cells are nested more than 6 deep"),  # ends scipy's reader by a crash
        (compressed_zeros(100 << 20), "unpacks to far more"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF", "cut short"),
        (b"\x89HDF\r\n" * 40, "no MAT file of version 5 to 7"),
        (b"", "no MAT file"),
    ],
)
def test_a_mat_file_made_to_break_its_reader_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    write_mat_files(tmp_path, FACES)
    (tmp_path / "wider_easy_val.mat").write_bytes(data)
    code = "import sys; from facedet_mm.datasets import read_ground_truth as r; r(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1  # neither a crash nor the end of memory
    last = done.stderr.splitlines()[-1]
    assert last.startswith("facedet_mm.errors.AnnotationError: ")
    assert "wider_easy_val.mat cannot be read as a MAT file" in last
    assert message in last


@pytest.mark.parametrize("number", [*ODD_NUMBERS, "1\x0b2"])
def test_an_odd_number_of_a_prediction_is_refused_with_its_line(tmp_path: Path, number: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text(f"x.jpg\n2\n1 2 3 4 0.5\n1 2 {number} 4 0.5\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"x\.txt:4: "):
        read_predictions(tmp_path)


@pytest.mark.parametrize("count", ["1_0", "+1", "１", "1.0", "9" * 5000])
def test_an_odd_number_of_boxes_is_refused(tmp_path: Path, count: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text(f"x.jpg\n{count}\n" + "1 2 3 4 0.5\n" * 10, encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"x\.txt:2: expected the number of boxes"):
        read_predictions(tmp_path)


def test_links_in_a_circle_among_predictions_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").symlink_to("x.txt")
    with pytest.raises(AnnotationError, match=r"x\.txt"):
        read_predictions(tmp_path)


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\rb.jpg", "a\x1b[31m.jpg", "a\u2028b.jpg", "a\x85.jpg"])
def test_a_name_with_control_characters_leaves_the_lines_of_its_file_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "e" / f"{name}.txt"
    write_prediction_file(path, name, [[1, 2, 3, 4]], [0.5])
    first, count, box = path.read_text().splitlines()
    assert (first, count, box) == (name.encode("unicode_escape").decode(), "1", "1.0 2.0 2.0 2.0 0.5")
    assert read_predictions(tmp_path).names == (f"e/{name[:-4]}",)


@pytest.mark.parametrize(("box", "score"), [([0, 0, 1e39, 1], 0.5), ([-3e38, 0, 3e38, 1], 0.5), ([0, 0, 1, 1], -1e300)])
def test_numbers_that_the_reader_refuses_are_not_written(tmp_path: Path, box: list, score: float) -> None:
    with pytest.raises(AnnotationError, match="a: detection 1 is beyond the range of float32"):
        write_prediction_file(tmp_path / "a.txt", "a", [[0, 0, 1, 1], box], [0.9, score])
    assert list(tmp_path.iterdir()) == []


WIDER = b"0--A/x.jpg\n2\n10 20 30 40 2 0 1 0 2 1\n-5 -6 7 8 0 1 0 1 0 0\n1--B/y.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
RETINAFACE = b"# 0--A/x.jpg\n1 2 30 40 1 1 0 2 2 0 -1 -1 -1 4 4 0 5 5 0 0.8\n5 6 7 8\n# 1--B/y.jpg\n1 2 3 4\n"
SCRFD = b"# 0--A/x.jpg 640 480\n1 2 30 40\n-3 5 3 9 1\n# 1--B/y.jpg 10 20\n"


@pytest.mark.parametrize("valid", [WIDER, RETINAFACE, SCRFD], ids=["wider", "retinaface", "scrfd"])
def test_damaged_annotations_are_read_as_finite_numbers_or_refused(tmp_path: Path, valid: bytes) -> None:
    path = tmp_path / "faces.txt"
    read = 0
    for data in damaged(valid, 400):
        path.write_bytes(data)
        try:
            images = read_annotations(path)
            GroundTruth.from_images((image.name, image.boxes, image.ignore) for image in images)
        except AnnotationError:
            continue
        read += 1
        assert all(np.isfinite(image.boxes).all() for image in images)
    assert 20 < read < 380


def test_damaged_predictions_are_scored_or_refused(tmp_path: Path) -> None:
    truth = GroundTruth.from_images([("a/x", [[1, 2, 31, 42], [5, 6, 12, 74]], [False, False])])
    (tmp_path / "a").mkdir()
    scored = 0
    for data in damaged(b"x.jpg\n3\n1 2 30 40 0.9\n5.5 6 7 68 0.25\n-1 -2 300 4 1e-3\n", 400):
        (tmp_path / "a/x.txt").write_bytes(data)
        try:
            result = evaluate(read_predictions(tmp_path), truth)
        except AnnotationError:
            continue
        scored += 1
        assert all(0 <= ap <= 1 for ap in result.ap.values())
    assert 20 < scored < 380


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_mat_files_are_read_or_refused(tmp_path: Path, compressed: bool) -> None:
    faces, _ = make_sample(3, images=4)
    write_mat_files(tmp_path, faces)
    path = tmp_path / "wider_face_val.mat"
    if compressed:
        savemat(path, {k: v for k, v in loadmat(path).items() if k[0] != "_"}, do_compression=True)
    read = 0
    for data in damaged(path.read_bytes(), 300):
        path.write_bytes(data)
        try:
            truth = read_ground_truth(tmp_path)
        except AnnotationError:
            continue
        read += 1
        assert np.isfinite(truth.boxes).all()
    assert read > 5


def test_damaged_submissions_of_a_whole_set_name_the_file(tmp_path: Path) -> None:
    _, detections = make_sample(5)
    folder = write_submission(tmp_path, detections)
    next(folder.glob("*/*.txt")).write_bytes(b"x\n1\n" + b"9" * 400 + b" 1 1 1 1\n")
    with pytest.raises(AnnotationError, match=r"\.txt:3: .* is not a finite number"):
        read_predictions(folder)
