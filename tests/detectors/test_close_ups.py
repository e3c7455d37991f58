"""The second look at a small view: faces that fill the image are found, and hardly any time is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from exported_files import of_one_size

from facedet_mm import Faces, build_detector
from facedet_mm.detectors import OnnxDetector
from facedet_mm.detectors.preprocess import fit
from facedet_mm.detectors.strategy import Strategy
from facedet_mm.detectors.turns import Turn
from facedet_mm.detectors.views import Look, Seen, View, ViewPlan
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
SCRFD = "weights/scrfd_500m_bnkps.onnx"
MARGINS = (0, 0.1, 0.25, 0.5, 1)
NOTHING = Seen(Faces.empty(landmarks=True), close_up=False)
TRACE = NOTHING._replace(close_up=True)


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


@pytest.fixture(scope="module")
def close_ups(solvay: np.ndarray) -> dict[float, list[np.ndarray]]:
    """The 29 faces of the photograph, with margins in sides of the face, clipped to the photograph."""
    faces = OnnxDetector(YUNET, score_thr=0.6).detect(solvay)
    assert len(faces) == 29
    crops: dict[float, list[np.ndarray]] = {}
    for margin in MARGINS:
        crops[margin] = []
        for box in faces.boxes:
            around = margin * np.tile(box[2:] - box[:2], 2) * [-1, -1, 1, 1]
            x1, y1, x2, y2 = np.clip(box + around, 0, solvay.shape[1::-1] * 2).round().astype(int)
            crops[margin].append(solvay[y1:y2, x1:x2])
    return crops


def looks(strategy: Strategy, size: tuple[int, int], *answers: list[Seen]) -> list[Look]:
    """What a search looks at, when it sees these answers and then nothing."""
    search, result = strategy.search(*size), []
    look = next(search)
    for answer in [*answers, *[None] * 9]:
        result.append(look)
        try:
            look = search.send(answer or [NOTHING] * len(look.views))
        except StopIteration:
            return result
    raise AssertionError("the search does not end")


def spied(monkeypatch: pytest.MonkeyPatch, detector: Any) -> list[View]:
    """Returns the list of the views that the detector looks at, which grows."""
    seen: list[View] = []
    look = type(detector)._look

    def spy(self: Any, views: Any) -> Any:
        seen.extend(view for _, view, _ in views)
        return look(self, views)

    monkeypatch.setattr(type(detector), "_look", spy)
    return seen


def largest(faces: Faces, image: np.ndarray) -> float:
    """Side of the largest face as a share of the image's."""
    sides = np.sqrt(np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1))
    return float(sides.max(initial=0)) / np.sqrt(image.shape[0] * image.shape[1])


class TestAreFound:
    @pytest.mark.parametrize("size", ["auto", 640, 1280])
    def test_by_scrfd(self, size: Any, close_ups: dict[float, list[np.ndarray]], data: Path) -> None:
        detector = OnnxDetector(data / SCRFD, input_size=size, score_thr=0.5)
        for margin, images in close_ups.items():
            least = 0.5 / (1 + 2 * margin)
            assert [largest(detector.detect(image), image) > least for image in images] == [True] * 29

    @pytest.mark.parametrize("size", ["auto", 640])
    def test_by_yunet(self, size: Any, close_ups: dict[float, list[np.ndarray]]) -> None:
        detector = OnnxDetector(YUNET, input_size=size, score_thr=0.5)
        for margin, images in close_ups.items():
            least = 0.5 / (1 + 2 * margin)
            assert [largest(detector.detect(image), image) > least for image in images] == [True] * 29

    def test_leave_boxes_and_landmarks_of_the_first_look_alone(
        self, close_ups: dict[float, list[np.ndarray]], data: Path
    ) -> None:
        detector = OnnxDetector(data / SCRFD, input_size=640, score_thr=0.5)
        compared = 0
        for image in close_ups[0.5]:
            once, twice = detector.replace(close_ups=False).detect(image), detector.detect(image)
            for box, score, landmarks in zip(once.boxes, once.scores, once.landmarks, strict=True):
                row = int(np.abs(twice.boxes - box).max(axis=1).argmin())
                assert np.array_equal(twice.boxes[row], box)
                assert np.array_equal(twice.landmarks[row], landmarks)
                assert twice.scores[row] == score
                compared += 1
        assert compared >= 20

    def test_not_without_the_second_look(self, close_ups: dict[float, list[np.ndarray]], data: Path) -> None:
        detector = OnnxDetector(data / SCRFD, input_size=640, score_thr=0.5, close_ups=False)
        assert sum(len(detector.detect(image)) for image in close_ups[0]) <= 2

    @pytest.mark.parametrize("degrees", [0, 90])
    def test_in_turned_views_too(self, degrees: int, close_ups: dict[float, list[np.ndarray]], data: Path) -> None:
        detector = OnnxDetector(data / SCRFD, input_size="auto", score_thr=0.5, rotations=[360 - degrees])
        images = [np.ascontiguousarray(np.rot90(image, degrees // 90)) for image in close_ups[0.25]]
        assert sum(largest(detector.detect(image), image) > 0.3 for image in images) == 29

    def test_in_a_batch_as_one_by_one(self, close_ups: dict[float, list[np.ndarray]], solvay: np.ndarray) -> None:
        detector = OnnxDetector(YUNET, input_size="auto", score_thr=0.5)
        images = [solvay, *close_ups[0][:5], cv2.resize(solvay, (500, 363)), *close_ups[1][:5]]
        for together, image in zip(detector.detect_batch(images), images, strict=True):
            alone = detector.detect(image)
            assert len(together) == len(alone) >= 1
            assert np.allclose(together.boxes, alone.boxes, atol=1e-2)
            assert np.allclose(together.scores, alone.scores, atol=1e-4)

    def test_by_a_file_of_one_size(
        self, close_ups: dict[float, list[np.ndarray]], data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("facedet_mm.detectors.rewriting.disproof", lambda *_: "it needs its size")
        detector = OnnxDetector(data / "weights/scrfd_500m_bnkps_640.onnx", score_thr=0.5)
        assert detector.network.fixed_size == (640, 640)
        views = spied(monkeypatch, detector)
        assert all(len(detector.detect(image)) for image in close_ups[0.1])
        assert {view.letterbox.canvas for view in views} == {(640, 640)}
        assert len(views) == 2 * 29

    def test_by_a_small_file_of_one_size(self, solvay: np.ndarray, tmp_path: Path, monkeypatch: Any) -> None:
        """Its input is smaller than the views of a free file."""
        monkeypatch.setattr("facedet_mm.detectors.rewriting.disproof", lambda *_: "it needs its size")
        onnx.save(of_one_size(onnx.load(YUNET), 96, 96), tmp_path / "small.onnx")
        detector = OnnxDetector(tmp_path / "small.onnx", input_size=96, score_thr=0.5, rotations="auto")
        face = solvay[1080:1300, 2060:2240]
        for turn in range(4):
            assert len(detector.detect(np.ascontiguousarray(np.rot90(face, turn)))) == 1


class TestTheGate:
    def test_opens_for_close_ups_and_for_few_other_images(
        self, close_ups: dict[float, list[np.ndarray]], data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector = OnnxDetector(data / SCRFD, input_size="auto", score_thr=0.5)
        views = spied(monkeypatch, detector)
        others = sorted((data / "wider/WIDER_val/images").glob("*/*.jpg"))[::10]
        for path in others:
            detector.detect(path)
        assert len(others) >= 40
        assert 0 < len(views) - len(others) <= 0.2 * len(others)
        views.clear()
        for image in close_ups[0]:
            detector.detect(image)
        assert len(views) == 2 * 29

    def test_asks_for_one_small_view_after_a_trace(self) -> None:
        strategy = Strategy(ViewPlan([640]), 0.5, 0.4, close_ups=True)
        assert len(looks(strategy, (1000, 800), [NOTHING])) == 1
        assert len(looks(Strategy(ViewPlan([640]), 0.5, 0.4), (1000, 800), [TRACE])) == 1
        (_, (views, score_thr)) = looks(strategy, (1000, 800), [TRACE])
        (view,) = views
        assert view.letterbox.resized == (128, 102)
        assert view.letterbox.canvas == (128, 128)
        assert view.least_side == 250
        assert score_thr is None

    @pytest.mark.parametrize("sizes", [[320, 640], [640, 320]])
    def test_asks_what_the_smallest_view_saw(self, sizes: list[int]) -> None:
        strategy = Strategy(ViewPlan(sizes), 0.5, 0.4, close_ups=True)
        small = sizes.index(320)
        answer = [NOTHING, NOTHING]
        answer[1 - small] = TRACE
        assert len(looks(strategy, (1000, 800), answer)) == 1
        assert len(looks(strategy, (1000, 800), answer[::-1])) == 2

    def test_is_always_open_above_640_and_never_needed_below_256(self) -> None:
        assert len(looks(Strategy(ViewPlan([1280]), 0.5, 0.4, close_ups=True), (1000, 800), [NOTHING])) == 2
        assert len(looks(Strategy(ViewPlan([192]), 0.5, 0.4, close_ups=True), (1000, 800), [TRACE])) == 1

    def test_tiles_and_mirrored_views_get_none(self) -> None:
        plan = ViewPlan([640], (500, 500), mirror=True)
        count = len(plan.views(1000, 800))
        _, (views, _) = looks(Strategy(plan, 0.5, 0.4, close_ups=True), (1000, 800), [TRACE] * count)
        assert [view.region for view in views] == [(0, 0, 1000, 800)]

    def test_a_turned_view_gets_a_turned_one(self) -> None:
        plan = ViewPlan([640], rotations=(0.0, 90.0))
        _, (views, _) = looks(Strategy(plan, 0.5, 0.4, close_ups=True), (1000, 800), [NOTHING, TRACE])
        assert [view.turn for view in views] == [Turn((128, 102), 90)]

    def test_only_large_faces_of_the_small_view_count(self) -> None:
        view = ViewPlan([640]).close_up(View((0, 0, 1000, 800), fit(1000, 800, 640)))
        faces, _ = view.placed(Faces([[0, 0, 249, 249], [0, 0, 251, 251]], [0.9, 0.8]))
        assert faces.scores.tolist() == pytest.approx([0.8])


def test_turned_off_the_result_is_that_of_the_first_look(solvay: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build_detector(input_size="auto", close_ups=False)
    views = spied(monkeypatch, detector)
    image = solvay[1100:1350, 2050:2300]
    faces = detector.detect(image)
    assert len(views) == 1
    views.clear()
    assert detector.replace(close_ups=True).detect(image) == faces
    assert len(views) == 2
