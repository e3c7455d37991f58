"""Submission files: what is written, what is read, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facedet_mm.datasets import Predictions, read_predictions, write_prediction_file
from facedet_mm.datasets.predictions import image_key
from facedet_mm.errors import AnnotationError, FaceDetError


def put(folder: Path, content: str | bytes, name: str = "0--Parade/a.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_written_file_has_name_count_and_lines_in_descending_score(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_prediction_file(path, "a", [[1, 2, 4, 6], [10.5, 20, 30, 40.25]], [0.25, 0.5])
    assert path.read_text() == "a\n2\n10.5 20.0 19.5 20.25 0.5\n1.0 2.0 3.0 4.0 0.25\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_an_image_without_detections_has_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "0--Parade" / "a.txt"
    write_prediction_file(path, "a", np.zeros((0, 4)), [])
    assert path.read_text() == "a\n0\n"
    predictions = read_predictions(tmp_path)
    assert predictions.boxes.shape == (0, 4)
    assert predictions.offsets.tolist() == [0, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    arrays(np.float32, (3, 5), elements=st.floats(-2048, 2048, width=32, allow_subnormal=False)),
    st.permutations(range(3)),
)
def test_float32_arrays_come_back_unchanged_from_a_file(tmp_path: Path, rows: np.ndarray, order: list[int]) -> None:
    rows[np.abs(rows) < 1e-3] = 0
    rows[:, 4] = [0.1, 0.2, 0.30000001]
    write_prediction_file(tmp_path / "0--Parade/a.txt", "a", rows[order][:, :4], rows[order][:, 4])
    predictions = read_predictions(tmp_path)
    np.testing.assert_array_equal(predictions.boxes[::-1], rows[:, :4].astype(np.float64))
    np.testing.assert_array_equal(predictions.scores[::-1], rows[:, 4].astype(np.float64))


def test_equal_scores_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_prediction_file(path, "a", [[i, 0, i, 0] for i in range(300)], [0.5, 0.25] * 150)
    written = [float(line.split()[0]) for line in path.read_text().splitlines()[2:]]
    assert written == [*range(0, 300, 2), *range(1, 300, 2)]


@pytest.mark.parametrize(
    ("boxes", "scores"), [([[0, 0, 1, np.nan]], [0.5]), ([[0, 0, 1, 1]], [np.inf]), ([[-np.inf, 0, 1, 1]], [0.1])]
)
def test_a_detection_that_is_not_finite_is_not_written(tmp_path: Path, boxes: list, scores: list) -> None:
    with pytest.raises(AnnotationError, match=r"party/a: detection 0 is not finite"):
        write_prediction_file(tmp_path / "a.txt", "party/a", boxes, scores)
    assert list(tmp_path.iterdir()) == []


def test_boxes_and_scores_of_different_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"boxes must be \(N, 4\) and scores \(N,\), not \(1, 4\) and \(2,\)"):
        write_prediction_file(tmp_path / "a.txt", "a", [[0, 0, 1, 1]], [0.5, 0.5])


def test_a_file_where_a_folder_should_be_is_an_error_of_the_user(tmp_path: Path) -> None:
    put(tmp_path, "", "0--Parade")
    with pytest.raises(FaceDetError, match="cannot write"):
        write_prediction_file(tmp_path / "0--Parade/a.txt", "a", [], [])


@pytest.mark.parametrize("name", ["two\nlines.jpg", "two\r\nlines.jpg", "two\rlines.jpg", "\n.jpg"])
def test_a_name_with_line_breaks_makes_a_file_that_is_read(tmp_path: Path, name: str) -> None:
    write_prediction_file(tmp_path / "party" / f"{name[:-4]}.txt", name, [[10, 10, 50, 60]], [0.9])
    predictions = read_predictions(tmp_path)
    assert predictions.names == (f"party/{name[:-4]}",)
    assert predictions.boxes.tolist() == [[10, 10, 50, 60]]


def test_a_read_box_is_corners_in_pixels(tmp_path: Path) -> None:
    put(tmp_path, "0--Parade/a.jpg\n2\n1 2 3 4 0.5\n-1.5 0 2 2 1e-3\n")
    predictions = read_predictions(tmp_path)
    assert predictions.names == ("0--Parade/a",)
    assert predictions.boxes.tolist() == [[1, 2, 4, 6], [-1.5, 0, 0.5, 2]]
    assert predictions.scores.tolist() == [0.5, 0.001]


@pytest.mark.parametrize(
    "content",
    ["a\r\n1\r\n1 2 3 4 0.5\r\n", "a\n1\n1\t2\t3\t4\t0.5", "a\n1 \n 1  2 3 4 0.5 \n\n \n", "\ufeffa\n1\n1 2 3 4 0.5\n"],
    ids=["Windows line ends", "tabs, no last line end", "blanks and blank lines at the end", "byte order mark"],
)
def test_harmless_variations_of_the_format_are_read(tmp_path: Path, content: str) -> None:
    put(tmp_path, content)
    predictions = read_predictions(tmp_path)
    assert predictions.boxes.tolist() == [[1, 2, 4, 6]]
    assert predictions.scores.tolist() == [0.5]


def test_files_are_told_apart_by_place_and_name_not_by_their_first_line(tmp_path: Path) -> None:
    put(tmp_path, "wrong\n1\n1 1 1 1 0.1\n", "1--B c/ä.b.jpg.txt")
    put(tmp_path, "wrong\n0\n", "0--A/x_1.TXT")
    put(tmp_path, "notes, not predictions", "0--A/readme.md")
    put(tmp_path, "hidden", "0--A/._x_1.txt")
    put(tmp_path, "log of the run", "log.txt")
    assert read_predictions(tmp_path).names == ("0--A/x_1", "1--B c/ä.b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a\.txt is empty"),
        ("\n\n", r"a\.txt is empty"),
        ("a\n", r"a\.txt ends after its first line"),
        ("a\nmany\n1 2 3 4 5\n", r"a\.txt:2: expected the number of boxes, not 'many'"),
        ("a\n2\n1 2 3 4 0.5\n", r"a\.txt:2: says 2 boxes, but 1 lines follow"),
        ("a\n0\n0 0 0 0 0\n", r"a\.txt:2: says 0 boxes, but 1 lines follow"),
        ("a\n2\n1 2 3 4 0.5\n1 2 3 4\n", r"a\.txt:4: expected 5 numbers \(x y w h score\), found 4: '1 2 3 4'"),
        ("a\n2\n1 2 3 4\n1 2 3 4 5 6\n", r"a\.txt:3: expected 5 numbers"),
        ("a\n5\n" + "1 2 3 4\n" * 5, r"a\.txt:3: expected 5 numbers .* found 4"),
        ("a\n1\n1,2,3,4,0.5\n", r"a\.txt:3: expected 5 numbers .* found 1"),
        ("a\n1\n1 2 x 4 0.5\n", r"a\.txt:3: 'x' is not a number"),
        ("a\n2\n1 2 3 4 0.5\n1 2 3 4 nan\n", r"a\.txt:4: 'nan' is not a finite number"),
        ("a\n1\n1 2 inf 4 0.5\n", r"a\.txt:3: 'inf' is not a finite number"),
        (b"a\n1\n\xff\xfe1 2 3 4 0.5\n", r"a\.txt:3: .* is not a number"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    put(tmp_path, content)
    with pytest.raises(AnnotationError, match=message):
        read_predictions(tmp_path)


def test_images_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = [f"{i * 7 % 5}--Event/{i * 11 % 40:02}" for i in range(40)]
    for name in names:
        put(tmp_path, "a\n0\n", f"{name}.txt")
    assert read_predictions(tmp_path).names == tuple(sorted(names))


def test_two_files_for_one_image_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a\n0\n")
    put(tmp_path, "a\n0\n", "0--Parade/a.jpg.txt")
    with pytest.raises(AnnotationError, match=r"0--Parade/a comes twice: .*a\.jpg\.txt and .*a\.txt"):
        read_predictions(tmp_path)


def test_a_missing_folder_and_one_without_predictions_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="nowhere is not a folder"):
        read_predictions(tmp_path / "nowhere")
    put(tmp_path, "a\n0\n", "deep/0--Parade/a.txt")
    with pytest.raises(AnnotationError, match=r"holds no prediction file; expected .*<event>/<image>\.txt"):
        read_predictions(tmp_path)


def test_predictions_are_built_from_arrays_image_by_image() -> None:
    predictions = Predictions.from_images(
        [
            ("val/images/0--A/x.jpg", np.float32([[0, 0, 1, 1]]), np.float32([0.5])),
            ("0--A/y.png", [], []),
            ("0--A\\z.JPG", [[1, 1, 2, 2], [2, 2, 3, 3]], [1, 0]),
        ]
    )
    assert [(name, boxes.tolist(), scores.tolist()) for name, boxes, scores in predictions] == [
        ("0--A/x", [[0, 0, 1, 1]], [0.5]),
        ("0--A/y", [], []),
        ("0--A/z", [[1, 1, 2, 2], [2, 2, 3, 3]], [1, 0]),
    ]


def test_an_image_that_comes_twice_in_arrays_is_an_error() -> None:
    with pytest.raises(AnnotationError, match="0--A/x comes twice"):
        Predictions.from_images([("0--A/x.jpg", [], []), ("0--A/x.png", [], [])])


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/data/WIDER_val/images/0--Parade/0_Parade_1.jpg", "0--Parade/0_Parade_1"),
        ("0--Parade/0_Parade_1", "0--Parade/0_Parade_1"),
        ("a/v1.2.txt", "a/v1.2"),
        ("a/b.JPEG.txt", "a/b"),
        ("b.jpg", "b"),
    ],
)
def test_the_key_of_an_image_is_event_and_name_without_suffix(path: str, key: str) -> None:
    assert image_key(path) == key


def test_the_key_of_an_image_has_no_suffix_whatever_its_format() -> None:
    suffixes = ".avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp"
    for suffix in re.findall(r"\S+", suffixes):
        assert image_key(f"a/b{suffix}") == image_key(f"a/b{suffix.upper()}") == "a/b"
    assert image_key("a/b.v2") == "a/b.v2"
