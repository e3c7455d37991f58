"""Turned faces in videos: found as upright ones are, and hardly dearer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from video_samples import write_video

from facedet_mm import Faces, build_detector
from facedet_mm.cli import main
from facedet_mm.detectors import DetectorOptions
from facedet_mm.detectors.base import LetterboxDetector
from facedet_mm.detectors.views import View
from facedet_mm.video.face_stream import FaceStream, StreamOptions
from facedet_mm.video.frame import Frame
from facedet_mm.video.rotation_memory import RotationMemory
from facedet_mm.zoo import asset_path

IMAGE = np.zeros((90, 160, 3), np.uint8)


class Turning:
    """Finds one face for each angle in a script, if it looks there; with ``'auto'`` it looks everywhere."""

    def __init__(self, script: list[Sequence[float]], rotations: Any = "auto", log: list[Any] | None = None) -> None:
        self.script, self.log = script, [] if log is None else log
        self.options = DetectorOptions(rotations=rotations)

    def replace(self, **changes: Any) -> Turning:
        return Turning(self.script, changes["rotations"], self.log)

    def detect_with_degrees(self, image: np.ndarray) -> tuple[Faces, np.ndarray]:
        frame, looked = int(image[0, 0, 0]), self.options.rotations
        self.log.append((frame, looked))
        seen = [angle for angle in self.script[frame] if looked == "auto" or angle in looked]
        boxes = [[50 * i, 10, 50 * i + 30, 40] for i in range(len(seen))]
        return Faces(np.reshape(boxes, (-1, 4)), np.full(len(seen), 0.9)), np.array(seen, float)

    def detect(self, image: np.ndarray) -> Faces:
        return self.detect_with_degrees(image)[0]

    def detect_batch(self, images: Sequence[np.ndarray]) -> list[Faces]:
        return [self.detect(image) for image in images]


def run(script: list[Sequence[float]], fps: float = 10, cuts: Sequence[int] = ()) -> tuple[list[int], list[Any]]:
    """Returns the number of faces of each frame, and (frame, rotations) of each look."""
    detector = Turning(script)
    memory = RotationMemory(detector, 0.5)
    counts = []
    for i in range(len(script)):
        if i in cuts:
            memory.reset()
        counts.append(len(memory.detect(np.full_like(IMAGE, i), i / fps)))
    return counts, detector.log


def searches(log: list[Any]) -> list[int]:
    return [frame for frame, rotations in log if rotations == "auto"]


def test_an_angle_is_remembered_and_checked_every_two_seconds() -> None:
    counts, log = run([[90.0]] * 45)
    assert counts == [1] * 45
    assert searches(log) == [0, 20, 40]
    assert {rotations for _, rotations in log} == {"auto", (90.0,)}
    assert len(log) == 45


def test_a_turn_is_noticed_on_its_first_frame() -> None:
    counts, log = run([[0.0, 0.0]] * 5 + [[90.0, 90.0]] * 5)
    assert counts == [2] * 10
    assert searches(log) == [0, 5]
    assert log[-1] == (9, (90.0,))


def test_an_empty_scene_costs_one_search_every_two_seconds() -> None:
    _, log = run([[]] * 33, fps=8)
    assert searches(log) == [0, 16, 32]
    _, log = run([[90.0]] * 3 + [[]] * 30, fps=8)
    assert searches(log) == [0, 3, 19]
    assert log[-1][1] == (90.0,)


def test_a_face_that_flickers_is_searched_for_less_and_less() -> None:
    _, log = run([[0.0], []] * 50, fps=25)
    gaps = np.diff(searches(log))
    assert gaps.tolist() == sorted(gaps)
    assert len(gaps) <= 6


def test_a_new_shot_is_searched_at_once() -> None:
    counts, log = run([[90.0]] * 5 + [[180.0]] * 5, cuts=[5])
    assert counts == [1] * 10
    assert log[5] == (5, "auto")
    assert len(log) == 10


def test_a_stream_searches_at_a_cut() -> None:
    detector = Turning([[90.0]] * 5 + [[180.0]] * 5)
    stream = FaceStream(detector, StreamOptions(score_thr=0.5), fps=10)
    for i in range(10):
        shot = np.random.default_rng(i // 5).integers(0, 256, (9, 16, 3), np.uint8)
        image = cv2.resize(shot, (160, 90), interpolation=cv2.INTER_NEAREST)
        image[0, 0, 0] = i
        stream.update(Frame(image, number=i + 1, time=i / 10))
    before, after = [(i, (90.0,)) for i in range(1, 5)], [(i, (180.0,)) for i in range(6, 10)]
    assert detector.log == [(0, "auto"), *before, (5, "auto"), *after]


def test_several_angles_are_kept_and_upright_only_while_it_has_faces() -> None:
    _, log = run([[0.0, 90.0]] * 5 + [[90.0]] * 10)
    assert log[4] == (4, (0.0, 90.0))
    assert log[-1] == (14, (90.0,))


def test_an_angle_that_was_a_mistake_is_dropped_after_a_quarter_of_a_second() -> None:
    _, log = run([[0.0, 90.0, 90.0, 90.0, 90.0]] + [[90.0] * 4] * 10)
    assert searches(log) == [0]
    assert [rotations for _, rotations in log[1:5]] == [(0.0, 90.0)] * 3 + [(90.0,)]


def test_weak_faces_change_nothing() -> None:
    detector = Turning([[90.0]] * 5)
    memory = RotationMemory(detector, 0.95)
    for i in range(5):
        memory.detect(np.full_like(IMAGE, i), i / 10)
    assert [rotations for _, rotations in detector.log] == ["auto"] + [(0.0,)] * 4


def test_a_detector_that_tells_no_angles_searches_each_frame() -> None:
    class Plain:
        options = DetectorOptions(rotations="auto")

        def replace(self, **changes: Any) -> Plain:  # noqa: ARG002
            return self

        def detect(self, image: np.ndarray) -> Faces:  # noqa: ARG002
            return Faces([[10, 10, 40, 40]], [0.9])

        def detect_batch(self, images: Sequence[np.ndarray]) -> list[Faces]:
            return [self.detect(image) for image in images]

    stream = FaceStream(Plain(), StreamOptions(tracker=None, score_thr=0.5), fps=10)
    assert [len(stream.update(Frame(IMAGE, number=i + 1, time=i / 10))) for i in range(3)] == [1, 1, 1]


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(asset_path("four_people.mp4"))), []
    while (answer := capture.read())[0]:
        frames.append(cv2.resize(answer[1], (640, 480)))
    return frames[:90]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[View]:
    """The views that detectors look at from now on."""
    views: list[View] = []
    look = LetterboxDetector._look

    def count(self: LetterboxDetector, wanted: Any) -> Any:
        views.extend(view for _, view, _ in wanted)
        return look(self, wanted)

    monkeypatch.setattr(LetterboxDetector, "_look", count)
    return views


def track(frames: list[np.ndarray], rotations: Any) -> tuple[list[int], FaceStream]:
    """Returns the number of tracked faces on each frame."""
    options = StreamOptions()
    score_thr = options.detector_score_thr
    detector = build_detector(input_size="auto", rotations=rotations, score_thr=score_thr, close_ups=False)
    stream = FaceStream(detector, options, fps=30)
    ids = [stream.update(Frame(image, i + 1, i / 30)).track_ids for i, image in enumerate(frames)]
    return [int((row > 0).sum()) for row in ids if row is not None], stream


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_people_of_a_turned_clip_are_tracked_as_upright_ones(
    quarters: int, clip: list[np.ndarray], looked: list[View]
) -> None:
    upright, _ = track(clip, 0)
    assert len(looked) == len(clip)
    looked.clear()
    counts, stream = track([np.ascontiguousarray(np.rot90(image, quarters)) for image in clip], "auto")
    assert stream.tracks.count == 4
    assert min(counts[2:]) >= 4
    assert abs(sum(counts) - sum(upright)) <= 0.02 * sum(upright)
    area = sum(np.prod(view.letterbox.canvas) for view in looked) / (len(clip) * 640 * 512)
    assert area < 1.1


def test_a_clip_that_turns_half_way_loses_nobody(clip: list[np.ndarray], looked: list[View]) -> None:
    turned = [np.rot90(image, 2) for image in clip[45:]]
    counts, stream = track([*clip[:45], *map(np.ascontiguousarray, turned)], "auto")
    assert np.mean(np.array(counts) >= 4) > 0.95
    turns = [view.turn.degrees % 360 if view.turn else 0.0 for view in looked if max(view.letterbox.resized) == 640]
    assert set(turns[:45]) == {0.0}
    assert set(turns[-40:]) == {180.0}
    assert stream.tracks.count <= 8


def test_the_command_finds_turned_people(clip: list[np.ndarray], tmp_path: Path) -> None:
    video = write_video(tmp_path / "turned.mp4", [np.ascontiguousarray(np.rot90(image)) for image in clip[:20]])
    found = []
    for rotations in ("0", "auto", "270"):
        out = tmp_path / f"{rotations}.txt"
        assert main(["video", str(video), "--out", str(out), "--rotations", rotations]) == 0
        found.append(len(out.read_text().splitlines()))
    assert found[0] < 10
    assert min(found[1:]) >= 70
