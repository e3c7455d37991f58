"""Timing of detectors, against a clock that the test moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from facedet_mm.benchmark import timing


class Slow:
    """Takes a second per image, and a minute for each of the first two calls."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock, self.calls = clock, list[list[str]]()

    def detect_batch(self, images: list[str]) -> None:
        self.clock.now += 60 if len(self.calls) < 2 else len(images)
        self.calls.append(images)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = SimpleNamespace(now=100.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(timing, "time", clock)
    return Slow(clock)


def test_the_first_calls_do_not_count_and_the_time_starts_after_them(slow: Any) -> None:
    assert list(timing.detection_times(slow, ["a"], 1, seconds=3, warm_up=2, min_calls=1)) == [1000.0] * 3
    assert len(slow.calls) == 5


def test_a_least_number_of_calls_counts_however_long_they_take(slow: Any) -> None:
    assert list(timing.detection_times(slow, ["a"], 2, seconds=0, warm_up=2, min_calls=4)) == [2000.0] * 4


def test_images_are_taken_in_turn(slow: Any) -> None:
    list(timing.detection_times(slow, ["a", "b", "c"], 2, seconds=0, warm_up=0, min_calls=3))
    assert slow.calls == [["a", "b"], ["c", "a"], ["b", "c"]]
