"""``TrackCounter``: which tracks count as different faces."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from facedet_mm.structures import Faces
from facedet_mm.tracking import counting
from facedet_mm.tracking.counting import TrackCounter


def faces(ids: Sequence[int]) -> Faces:
    return Faces([[10 * i, 0, 10 * i + 9, 9] for i in range(len(ids))], [0.9] * len(ids), track_ids=ids)


def count(frames: Sequence[Sequence[int]], fps: float = 25.0, every: int = 1) -> int:
    """Counts the IDs of all frames, of which the detector sees every n-th."""
    counter = TrackCounter(fps)
    for number, ids in enumerate(frames):
        counter.update(faces(ids), number / fps, detected=number % every == 0)
    return counter.count


@pytest.mark.parametrize(
    ("fps", "frames", "counted"),
    [(25, 6, False), (25, 7, True), (30, 7, False), (30, 8, True), (4, 2, True), (60, 14, False)],
)
def test_a_track_counts_after_a_quarter_of_a_second(fps: float, frames: int, counted: bool) -> None:
    assert count([[1, 2]] * frames + [[1]] * 60, fps) == 1 + counted


def test_faces_without_a_track_do_not_count() -> None:
    assert count([[1, -1]] * 50) == 1


def test_a_face_that_is_only_predicted_does_not_count() -> None:
    assert count([[1, 2]] * 10 + [[1]] * 30, every=10) == 1
    assert count([[1, 2]] * 11 + [[1]] * 30, every=10) == 2


def test_in_a_short_video_those_count_that_are_there_throughout() -> None:
    assert count([[1, 2]]) == 2
    assert count([[1, 2], [1], [1]]) == 1
    assert count([]) == 0


def test_a_gap_does_not_count_twice() -> None:
    assert count([[1]] * 20 + [[]] * 5 + [[1]] * 20) == 1


def test_endless_false_alarms_take_no_endless_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_MAX_WAITING", 10)
    counter = TrackCounter(25)
    for track in range(1, 500):
        counter.update(faces([track]), track / 25, detected=True)
    assert counter.count == 0
    assert len(counter._waiting) == 10
