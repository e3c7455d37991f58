"""MOTChallenge lines from anywhere: what is refused with its line, and that no number costs memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mutations import damaged

from facedet_mm.errors import AnnotationError
from facedet_mm.tracking.evaluation import write_numbered_anew
from facedet_mm.tracking.mot import read_detections, read_rows

GOOD = "1,-1,10,20,40,50,0.9,-1,-1,-1\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes, name: str = "a.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1,-1,nan,20,40,50,0.9", "'nan' is not a finite number"),
        ("1,-1,10,inf,40,50,0.9", "'inf' is not a finite number"),
        ("1,-1,10,20,1e39,50,0.9", "is not a finite number in float32"),
        ("1,-1,3e38,20,3e38,50,0.9", "a box ends beyond the range of float32"),
        ("1,-1,10,20,-40,50,0.9", "a box has the size -40 × 50"),
        ("1,-1,10,20,40,-1e-3,0.9", "a box has the size 40 × -0.001"),
        ("1,-1,1_0,20,40,50,0.9", "'1_0' is not a plain decimal number"),
        ("1,-1,１,20,40,50,0.9", "'１' is not a plain decimal number"),
        ("1,9223372036854775808,10,20,40,50,0.9", "'9223372036854775808' is not a whole number from -1 to"),
        ("1,-2,10,20,40,50,0.9", "'-2' is not a whole number from -1 to"),
        ("1,1.5,10,20,40,50,0.9", "'1.5' is not a whole number"),
        ("1,nan,10,20,40,50,0.9", "'nan' is not a finite number"),
        ("-1,-1,10,20,40,50,0.9", "1 to 1,000,000,000"),
        ("0,-1,10,20,40,50,0.9", "1 to 1,000,000,000"),
        ("1000000000000000000,-1,10,20,40,50,0.9", "1 to 1,000,000,000"),
        ("1,-1,10,20,40,50,0.9,nan", "'nan' is not a finite number"),
    ],
)
def test_an_odd_line_is_refused_with_its_number_by_both_readers(write, line: str, problem: str) -> None:
    path = write(f"{GOOD}\n{line}\n")
    for read in (read_detections, lambda file: list(read_rows(file))):
        with pytest.raises(AnnotationError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}, line 3: ")
        assert problem in str(caught.value)


def test_numbers_as_numpy_writes_them_are_read(write) -> None:
    rows = list(read_rows(write("1.000e+00,3.0e+00,1e1,2e1,4e1,5e1,1.0e+00\n2,9223372036854775807,0,0,0,0,-5\r\n")))
    assert [(row.line, row.frame, row.track_id, row.box, row.others) for row in rows] == [
        (1, 1, 3, (10, 20, 40, 50), (1,)),
        (2, 2, 2**63 - 1, (0, 0, 0, 0), (-5,)),
    ]


def test_files_are_numbered_anew_for_trackeval(write, tmp_path: Path) -> None:
    """TrackEval makes a list as long as the last frame and an array as long as the largest ID."""
    truth = write("5,1000000000000,1,2,3,4,1,1,0.5\n900000000,7,1.25,2,3,4,1,1,1\n", "gt.txt")
    tracks = write("7,3,1,2,3,4,0.9\n5,3,1,2,3,4,0.8,-1,-1,-1\n", "tracks.txt")
    assert write_numbered_anew(truth, tracks, tmp_path / "a", tmp_path / "b") == 3
    assert np.loadtxt(tmp_path / "a", delimiter=",")[:, :3].tolist() == [[1, 2, 1], [3, 1, 1.25]]
    assert (tmp_path / "b").read_text() == "2,1,1.0,2.0,3.0,4.0,0.9\n1,1,1.0,2.0,3.0,4.0,0.8,-1.0,-1.0,-1.0\n"


def test_a_face_without_a_track_cannot_be_scored(write, tmp_path: Path) -> None:
    truth, tracks = write("1,1,1,2,3,4,1,1,1\n", "gt.txt"), write(f"1,2,1,1,1,1,1\n{GOOD}", "tracks.txt")
    with pytest.raises(AnnotationError, match=r"tracks\.txt, line 2: expected a track ID from 0, not -1"):
        write_numbered_anew(truth, tracks, tmp_path / "a", tmp_path / "b")


def test_damaged_files_are_read_as_finite_boxes_or_refused(write) -> None:
    read = 0
    for data in damaged((GOOD + "2,-1,1.5,2,3,4,1\n30,7,-5,6,7e1,8,0.25,-1,-1,-1\n").encode(), 500):
        try:
            found = read_detections(write(data))
        except AnnotationError:
            continue
        read += 1
        for faces in found.values():
            assert np.isfinite(faces.boxes).all()
            assert (faces.boxes[:, 2:] >= faces.boxes[:, :2]).all()
    assert 20 < read < 480
