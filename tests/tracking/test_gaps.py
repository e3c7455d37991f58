"""Gaps between two sightings of a track are filled on a straight line."""

from __future__ import annotations

import numpy as np
import pytest

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking.gaps import GapFiller, fill_gaps


def at(x: float, track: int = 1, score: float = 0.9, landmarks: bool = False) -> Faces:
    points = [np.full((5, 2), x)] if landmarks else None
    return Faces([[x, 0, x + 10, 10]], [score], points, [track])


def lefts(frames: list[Faces], track: int = 1) -> list[float | None]:
    return [next((float(f.boxes[i, 0]) for i in range(len(f)) if f.track_ids[i] == track), None) for f in frames]


def test_missed_frames_lie_on_the_line_between_the_sightings() -> None:
    frames = list(
        fill_gaps([at(0, landmarks=True), Faces.empty(), Faces.empty(), at(30, score=0.6, landmarks=True)], 2)
    )
    assert lefts(frames) == pytest.approx([0, 10, 20, 30])
    assert [float(f.landmarks[0, 0, 0]) for f in frames] == pytest.approx([0, 10, 20, 30])
    assert [float(f.scores[0]) for f in frames] == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_a_longer_gap_stays() -> None:
    assert lefts(list(fill_gaps([at(0), *[Faces.empty()] * 3, at(40)], 2))) == [0, None, None, None, 40]


def test_each_track_fills_its_own_gap_and_others_stay_as_they_are() -> None:
    both = Faces.concatenate([at(0, 1), at(100, 2)])
    frames = list(fill_gaps([both, at(110, 2), Faces.concatenate([at(20, 1), at(120, 2)])], 5))
    assert lefts(frames, 1) == pytest.approx([0, 10, 20])
    assert lefts(frames, 2) == pytest.approx([100, 110, 120])
    assert [len(f) for f in frames] == [2, 2, 2]


def test_untracked_faces_are_never_joined() -> None:
    assert [len(f) for f in fill_gaps([at(0, -1), Faces.empty(), at(20, -1)], 5)] == [1, 0, 1]


def test_frames_come_late_by_the_gap_and_all_come() -> None:
    filler = GapFiller(3)
    assert [len(filler.push(at(i))) for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert lefts(filler.flush()) == [3, 4, 5]
    assert filler.flush() == []
    assert lefts(list(fill_gaps((at(i) for i in range(50)), 7))) == list(range(50))


@pytest.mark.parametrize("gap", [0, -1, 1.5, True])
def test_a_gap_that_is_no_number_of_frames_is_refused(gap) -> None:
    with pytest.raises(FaceDetError, match="max_gap"):
        GapFiller(gap)


def test_faces_without_ids_are_refused() -> None:
    with pytest.raises(FaceDetError, match="track IDs"):
        GapFiller(2).push(Faces([[0, 0, 9, 9]], [0.9]))


def test_a_gap_of_one_frame_and_a_sighting_without_landmarks() -> None:
    frames = list(fill_gaps([at(0, landmarks=True), Faces.empty(), at(20)], 1))
    assert lefts(frames) == pytest.approx([0, 10, 20])
    assert frames[1].landmarks is None
