"""Scene cuts, keyframes and what stands in for the detector between them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from facedet_mm import build_detector
from facedet_mm.detectors import Detector
from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking import ByteTracker
from facedet_mm.tracking.association import iou_matrix
from facedet_mm.video import keyframes
from facedet_mm.video.face_stream import FaceStream, StreamOptions
from facedet_mm.video.frame import Frame
from facedet_mm.video.keyframes import KeyframePolicy
from facedet_mm.video.optical_flow import FLOW_SIDE, follow_boxes, small_gray
from facedet_mm.video.propagation import Propagator, with_boxes
from facedet_mm.video.scene_cuts import SceneCutDetector
from facedet_mm.video.sources import open_source

CUTS = [105, 271, 402, 453, 554]
"""First frames of the shots of scene_cuts.mp4, found by looking at it."""
STILL = ("again.mkv", "learn.mkv", "want.mkv", "sister.mkv", "portrait.mp4", "classroom.gif")


def texture(seed: int) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (18, 32, 3), np.uint8)
    return cv2.resize(image, (320, 180), interpolation=cv2.INTER_CUBIC)


def cuts_of(path: Path) -> list[int]:
    detector = SceneCutDetector()
    return [frame.number for frame in open_source(path) if detector.update(frame.image)]


class TestSceneCuts:
    def test_all_cuts_of_a_film_are_found_and_no_others(self, data: Path) -> None:
        assert cuts_of(data / "video/scene_cuts.mp4") == CUTS

    @pytest.mark.parametrize("name", STILL)
    def test_clips_of_one_shot_have_none(self, data: Path, name: str) -> None:
        assert cuts_of(data / "video" / name) == []

    def test_light_motion_and_a_flash_are_no_cuts(self) -> None:
        wide = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 16, 3), np.uint8), (640, 180))
        frames = [wide[:, 6 * i : 6 * i + 320] for i in range(40)]  # a pan
        frames += [cv2.convertScaleAbs(frames[-1], alpha=1.4, beta=40), frames[-1]]
        frames += [cv2.convertScaleAbs(frames[-1], alpha=1 - 0.05 * i) for i in range(10)]
        detector = SceneCutDetector()
        cuts = [detector.update(frame) for frame in frames]
        assert not any(cuts)

    def test_after_a_cut_the_changes_of_the_shot_before_do_not_count(self) -> None:
        """A shot that changes a lot must not raise the threshold of the still shot after it."""
        rng = np.random.default_rng(0)

        def frame(signs: np.ndarray, contrast: int) -> np.ndarray:
            small = (128 + contrast * signs[..., None].repeat(3, axis=2)).astype(np.uint8)
            return cv2.resize(small, (320, 180), interpolation=cv2.INTER_NEAREST)

        restless = [frame(rng.choice([-1, 1], (18, 32)), 20) for _ in range(9)]  # changes of 20 gray levels
        signs = rng.choice([-1, 1], (18, 32))
        still = [frame(signs, 70)] * 3  # a cut of 70 levels
        other = [frame(signs * np.where(rng.random((18, 32)) < 0.3, -1, 1), 70)] * 3  # and one of 42, below 3 x 20
        detector = SceneCutDetector()
        cuts = [detector.update(image) for image in restless + still + other]
        assert [i for i, cut in enumerate(cuts) if cut] == [9, 12]

    def test_after_a_reset_nothing_is_compared_with_the_last_video(self) -> None:
        detector = SceneCutDetector()
        detector.update(texture(0))
        detector.reset()
        assert not detector.update(texture(1))


class TestPolicy:
    def test_every_fifth_frame_and_at_once_at_a_cut(self) -> None:
        policy = KeyframePolicy(5)
        shots = [texture(0)] * 8 + [texture(1)] * 8
        asked = [(policy.should_detect(image), policy.cut) for image in shots]
        assert [i for i, (detect, _) in enumerate(asked) if detect] == [0, 5, 8, 13]
        assert [i for i, (_, cut) in enumerate(asked) if cut] == [8]

    def test_a_face_without_a_track_is_looked_at_again_in_the_next_frame(self) -> None:
        policy, image, asked = KeyframePolicy(5), texture(0), []
        for i in range(6):
            asked.append(policy.should_detect(image))
            policy.observe(Faces([[0, 0, 40, 40]], [0.9], track_ids=[-1 if i == 0 else 1]))
        assert asked[:2] == [True, True]
        assert not any(asked[2:5])

    def test_adaptive_detects_more_often_the_faster_a_face_moves(self) -> None:
        def detections(speed: float) -> int:
            policy, image, count = KeyframePolicy("adaptive"), texture(0), 0
            for i in range(60):
                count += policy.should_detect(image)
                policy.observe(Faces([[speed * i, 0, speed * i + 40, 40]], [0.9], track_ids=[1]))
            return count

        slow, medium, fast = (detections(speed) for speed in (0.0, 2.0, 8.0))
        assert slow <= 60 / 10 + 4
        assert slow < medium < fast
        assert fast >= 50

    @pytest.mark.parametrize("interval", [0, -3, 2.5, "often", True])
    def test_other_intervals_are_refused(self, interval) -> None:
        with pytest.raises(FaceDetError, match="interval"):
            KeyframePolicy(interval)


class TestPropagation:
    def test_the_motion_model_goes_on_as_before(self) -> None:
        tracker = ByteTracker()
        propagator = Propagator(tracker)
        for i in range(10):
            faces = tracker.update(Faces([[4 * i, 0, 4 * i + 40, 50]], [0.9], [np.full((5, 2), 4 * i + 20)]))
        propagator.start(texture(0), faces)
        for i in range(10, 13):
            moved = propagator.step(texture(0))
            assert moved.boxes[0, 0] == pytest.approx(4 * i, abs=2.5)
            assert moved.landmarks[0, 0, 0] == pytest.approx(4 * i + 20, abs=2.5)
            assert moved.track_ids.tolist() == [1]

    def test_the_flow_sees_a_turn_that_the_motion_model_does_not(self) -> None:
        tracker, image = ByteTracker(), texture(3)
        propagator = Propagator(tracker, flow=True)
        for i in range(10):
            faces = tracker.update(Faces([[100 + 3 * i, 60, 160 + 3 * i, 120]], [0.9]))
        propagator.start(image, faces)
        for i in range(1, 4):
            moved = propagator.step(np.roll(image, -4 * i, axis=1))
        assert moved.boxes[0, 0] == pytest.approx(127 - 12, abs=2)


@pytest.fixture(scope="module")
def detector(data: Path) -> Detector:
    return build_detector(data / "weights/scrfd_500m_bnkps.onnx", score_thr=0.1, input_size="auto")


@pytest.mark.parametrize("name", ["again.mkv", "sister.mkv", "portrait.mp4", "face-demographics-walking-and-pause.gif"])
def test_with_every_fifth_frame_few_faces_are_missed(data: Path, detector: Detector, name: str) -> None:
    """Recall against detection on every frame, at an IoU of 0.5."""
    frames = list(open_source(data / "video" / name))
    streams = [FaceStream(detector, StreamOptions(keyframes=n, smoothing=False), fps=30) for n in (1, 5)]
    hits = total = 0
    for frame in frames:
        every, fifth = (stream.update(frame) for stream in streams)
        overlap = iou_matrix(every.boxes.T.astype(float), fifth.boxes.T.astype(float))
        hits += int((overlap.max(axis=1, initial=0) >= 0.5).sum())
        total += len(every)
    assert total >= len(frames)
    assert hits / total >= 0.97
    assert streams[1].detections <= len(frames) / 3.5


def test_one_frame_of_five_is_a_keyframe_while_nothing_happens(data: Path) -> None:
    stream = FaceStream(build_detector(score_thr=0.1), StreamOptions(keyframes=5), fps=30)
    for i, frame in enumerate(open_source(data / "video/again.mkv")):
        stream.update(frame)
        if i == 50:
            break
    assert stream.detections <= 51 / 5 + 3


def detections(policy: KeyframePolicy, faces: Faces, frames: int) -> str:
    """For each frame whether the detector runs; it finds the same faces each time."""
    image, runs = np.zeros((90, 160, 3), np.uint8), ""
    for _ in range(frames):
        runs += "x" if policy.should_detect(image) else "."
        policy.observe(faces)
    return runs


@pytest.mark.parametrize(
    ("second", "score", "runs"),
    [
        ([60, 10, 80, 30], 0.9, "x..x.........x.........x"),  # three frames after the first sight, then ten
        ([15, 10, 35, 30], 0.9, "x..x..x..x..x..x..x..x.."),  # overlaps
        ([60, 10, 80, 30], 0.59, "x..x..x..x..x..x..x..x.."),  # fades
    ],
)
def test_adaptive_looks_more_often_at_two_faces_that_overlap_or_fade(second: list, score: float, runs: str) -> None:
    faces = Faces([[10, 10, 30, 30], second], [0.9, score], None, [1, 2])
    assert detections(KeyframePolicy("adaptive"), faces, len(runs)) == runs


@pytest.mark.parametrize(("score", "runs"), [(keyframes.NEW_FACE_SCORE, "xx....xx....x"), (0.01, "x....x....x..")])
def test_a_face_without_a_track_gets_a_second_look_but_no_third(score: float, runs: str) -> None:
    faces = Faces([[10, 10, 30, 30]], np.array([score], np.float32), None, [-1])
    assert detections(KeyframePolicy(5), faces, len(runs)) == runs


def test_the_flow_follows_what_moves_and_grows() -> None:
    before = cv2.resize(texture(3), (1280, 720), interpolation=cv2.INTER_CUBIC)
    growth, shift = 1.05, np.array([9.0, -6.0])
    moved = cv2.warpAffine(before, np.array([[growth, 0, shift[0]], [0, growth, shift[1]]]), (1280, 720))
    small = [small_gray(image) for image in (before, moved)]
    assert max(small[0].shape) == FLOW_SIDE
    boxes = np.array([[400, 200, 560, 400], [700, 300, 820, 440]], np.float32)
    after, trusted = follow_boxes(*small, boxes, 1280)
    assert trusted.tolist() == [True, True]
    np.testing.assert_allclose(after, boxes * growth + np.tile(shift, 2), atol=1.5)


def test_landmarks_keep_their_place_in_a_box_that_moves_and_grows() -> None:
    points = np.array([[[2, 3], [8, 3], [5, 5], [3, 8], [7, 8]]], np.float32)
    faces = Faces([[0, 0, 10, 10]], [0.9], points, [1])
    moved = with_boxes(faces, np.array([0]), np.array([[100, 50, 120, 60]], np.float32))
    np.testing.assert_allclose(moved.landmarks, points * [2, 1] + [100, 50], atol=1e-5)


@pytest.mark.parametrize(("fps", "interval"), [(30, 40), (5, 10), (1, "adaptive")])
def test_ids_outlive_intervals_longer_than_a_track_is_remembered(fps: float, interval) -> None:
    detector = Still()
    stream = FaceStream(detector, StreamOptions(keyframes=interval, score_thr=0.5), fps)
    image = texture(0)
    ids = [stream.update(Frame(image, n, n / fps)).track_ids.tolist() for n in range(1, 121)]
    assert ids == [[1]] * 120
    assert detector.calls < 60


def test_a_face_missed_in_one_look_keeps_its_id() -> None:
    detector = Still(missing=range(1, 3))
    stream = FaceStream(detector, StreamOptions(keyframes=40, score_thr=0.5), 30)
    ids = [stream.update(Frame(texture(0), n, n / 30)).track_ids.tolist() for n in range(1, 161)]
    assert ids[0] == ids[-1] == [1]


class Still:
    """The same face in every look, but for those that miss it."""

    def __init__(self, missing: range = range(0)) -> None:
        self.calls, self._missing = 0, missing

    def detect(self, image: np.ndarray) -> Faces:  # noqa: ARG002
        self.calls += 1
        return Faces.empty() if self.calls - 1 in self._missing else Faces([[50, 50, 90, 100]], [0.9])

    def detect_batch(self, images: list) -> list[Faces]:
        return [self.detect(image) for image in images]


def test_a_face_without_a_track_follows_the_flow() -> None:
    propagator, image = Propagator(ByteTracker(), flow=True), texture(3)
    propagator.start(image, Faces([[100, 60, 160, 120]], [0.6], None, [-1]))
    moved = propagator.step(np.roll(image, 4, axis=1))
    assert moved.track_ids.tolist() == [-1]
    np.testing.assert_allclose(moved.boxes, [[104, 60, 164, 120]], atol=0.5)


def test_the_flow_does_not_trust_points_that_do_not_come_back() -> None:
    small = [small_gray(cv2.resize(texture(seed), (1280, 720))) for seed in (3, 4)]
    boxes = np.array([[400, 200, 560, 400]], np.float32)
    after, trusted = follow_boxes(*small, boxes, 1280)
    assert trusted.tolist() == [False]
    np.testing.assert_array_equal(after, boxes)


def test_the_flow_lets_a_face_grow_by_a_tenth_at_most() -> None:
    before = cv2.resize(texture(3), (1280, 720), interpolation=cv2.INTER_CUBIC)
    growth, center = 1.25, np.array([640.0, 360.0])
    shift = center * (1 - growth)
    after = cv2.warpAffine(before, np.array([[growth, 0, shift[0]], [0, growth, shift[1]]]), (1280, 720))
    box = np.array([[580, 300, 700, 420]], np.float32)
    moved, trusted = follow_boxes(small_gray(before), small_gray(after), box, 1280)
    assert trusted.tolist() == [True]
    np.testing.assert_allclose(moved[:, 2:] - moved[:, :2], [[132, 132]], atol=1e-3)
