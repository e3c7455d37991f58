"""The tool that tracks MOTChallenge files: what it writes, and what it says when it can't."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facedet_mm import FaceDetError, Faces
from facedet_mm.errors import AnnotationError
from facedet_mm.tracking.mot import read_detections, write_tracks

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/track_mot.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def line(frame, x, score=0.9) -> str:
    return f"{frame},-1,{x},20,40,50,{score},-1,-1,-1\n"


@pytest.fixture
def video(tmp_path) -> Path:
    """Detections of one face that moves, of a false alarm and of one that vanishes for 32 frames."""
    path = tmp_path / "det" / "clip one.txt"
    path.parent.mkdir()
    lines = [line(frame, 10 + frame) for frame in range(3, 9)] + [line(40, 18), line(41, 18), line(5, 400)]
    path.write_text("".join(lines))
    return path


def test_a_folder_of_detections_becomes_a_folder_of_tracks(video, tmp_path):
    (video.parent / "empty frames.txt").write_text(line(1, 0) + line(30, 0))
    done = run("--det", video.parent, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "empty frames.txt").read_text() == (
        "1,1,0.00,20.00,40.00,50.00,0.90,-1,-1,-1\n30,1,0.00,20.00,40.00,50.00,0.90,-1,-1,-1\n"
    )
    rows = np.loadtxt(tmp_path / "out" / "clip one.txt", delimiter=",")
    # the face comes back after the buffer of 30 frames: a new track, confirmed by its second sight
    assert rows[:, :3].tolist() == [[f, 1, 10 + f] for f in range(3, 9)] + [[41, 2, 18]]


def test_the_frame_rate_scales_how_long_a_face_is_remembered(video, tmp_path):
    done = run("--det", video, "--out", tmp_path / "out", "--fps", "60")
    assert done.returncode == 0
    rows = np.loadtxt(tmp_path / "out" / video.name, delimiter=",")
    assert rows[:, 1].tolist() == [1] * 8
    assert rows[-2:, 0].tolist() == [40, 41]


def test_the_preset_of_the_authors_reproduces_their_file(data, tmp_path):
    name = "MOT17-09.txt"
    done = run("--det", data / "mot" / "det" / name, "--out", tmp_path, "--preset", "bytetrack")
    assert done.returncode == 0
    ours, theirs = (np.loadtxt(path / name, delimiter=",") for path in (tmp_path, data / "mot" / "bytetrack"))
    ours, theirs = (rows[np.lexsort((rows[:, 3], rows[:, 2], rows[:, 0]))] for rows in (ours, theirs))
    np.testing.assert_allclose(ours[:, [0, 2, 3, 4, 5, 6]], theirs[:, [0, 2, 3, 4, 5, 6]], atol=0.0101)
    assert (
        len(np.unique(ours[:, 1])) == len(np.unique(theirs[:, 1])) == len(np.unique(ours[:, 1] * 1000 + theirs[:, 1]))
    )


def test_the_default_preset_writes_the_detectors_boxes(data, tmp_path):
    name = "MOT17-09.txt"
    assert run("--det", data / "mot" / "det" / name, "--out", tmp_path).returncode == 0
    found = np.loadtxt(data / "mot" / "det" / name, delimiter=",")
    given = {tuple(row) for row in found[:, [0, 2, 3, 4, 5]].round(1).tolist()}
    tracked = np.loadtxt(tmp_path / name, delimiter=",")[:, [0, 2, 3, 4, 5]].round(1).tolist()
    assert len(tracked) > 2000
    assert {tuple(row) for row in tracked} <= given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,-1,2,3\n", "line 1: expected frame,id,x,y,w,h,score, not '1,-1,2,3'"),
        (line(1, 5) + "\n2,-1,a,1,1,1,0.5\n", "line 3: not a number in '2,-1,a,1,1,1,0.5'"),
        ("1.5,-1,1,1,1,1,0.5\n", "line 1: frame numbers are whole numbers from 1"),
        ("0,-1,1,1,1,1,0.5\n", "line 1: frame numbers are whole numbers from 1"),
        ("nan,-1,1,1,1,1,0.5\n", "line 1: frame numbers are whole numbers from 1"),
        ("1,-1,1,1,1,1,37.2\n", "line 1: scores are from 0 to 1, not 37.2"),
        ("1,-1,1,1,1,1,nan\n", "line 1: scores are from 0 to 1, not nan"),
        ("", "contains no detections; expected lines frame,id,x,y,w,h,score"),
        ("\n \n", "contains no detections"),
    ],
)
def test_a_malformed_file_is_reported_with_its_line(tmp_path, text, message):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(AnnotationError) as caught:
        read_detections(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_an_image_is_no_detection_file(tmp_path):
    path = tmp_path / "image.txt"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(AnnotationError, match="is not a text file"):
        read_detections(path)


def test_a_bad_file_is_left_out_and_the_others_are_tracked(video, tmp_path):
    (video.parent / "bad.txt").write_text("garbage\n")
    done = run("--det", video.parent, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "bad.txt, line 1: expected frame,id,x,y,w,h,score" in done.stderr
    assert "1 of 2 files failed" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [video.name]


def test_mistakes_are_named_in_a_line_without_a_traceback(video, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "file").write_text("")
    for arguments, status, message in (
        (["--det", tmp_path / "gone", "--out", tmp_path / "out"], 1, "gone: no such file or folder"),
        (["--det", tmp_path / "none", "--out", tmp_path / "out"], 1, "none: no .txt files"),
        (["--det", video, "--out", video.parent], 1, "which is an input; choose another place"),
        (["--det", video, "--out", tmp_path / "file"], 1, "cannot write"),
        (["--det", video, "--out", tmp_path / "out", "--fps", "0"], 1, "frame_rate must be a positive number"),
        (["--det", video, "--out", tmp_path / "out", "--preset", "best"], 2, "invalid choice: 'best'"),
    ):
        done = run(*arguments)
        assert done.returncode == status
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_detections_far_apart_in_time_do_not_take_for_ever(tmp_path):
    path = tmp_path / "det.txt"
    path.write_text(line(1, 5) + line(900_000_000, 5))
    done = run("--det", path, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert len((tmp_path / "out" / "det.txt").read_text().splitlines()) == 1


def test_faces_without_a_track_are_not_written(tmp_path):
    boxes = [[0, 0, 10, 20], [5, 5, 10, 10]]
    frames = [(1, Faces(boxes, [0.5, 0.25], track_ids=[-1, 3])), (2, Faces(boxes, [0.5, 0.25]))]
    assert write_tracks(tmp_path / "out.txt", frames) == 1
    assert (tmp_path / "out.txt").read_text() == "1,3,5.00,5.00,5.00,5.00,0.25,-1,-1,-1\n"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "out.txt").write_text("old")

    def frames():
        yield 1, Faces([[0, 0, 1, 1]], [0.5], track_ids=[1])
        raise FaceDetError("stopped")

    with pytest.raises(FaceDetError, match="stopped"):
        write_tracks(tmp_path / "out.txt", frames())
    assert (tmp_path / "out.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
