"""The search for turned faces: on a turned photograph, on WIDER FACE, and step by step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from facedet_mm import Faces, build_detector
from facedet_mm.cli import main
from facedet_mm.detectors import DetectorOptions, OnnxDetector
from facedet_mm.detectors.rotation import find_turned, strength
from facedet_mm.detectors.views import Seen, ViewPlan
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
SCRFD = "weights/scrfd_500m_bnkps.onnx"


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


@pytest.fixture(scope="module")
def people(solvay: np.ndarray) -> np.ndarray:
    """Boxes of the 29 faces."""
    faces = OnnxDetector(YUNET, score_thr=0.6).detect(solvay)
    assert len(faces) == 29
    return faces.boxes


def turned(image: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image turned counterclockwise on a canvas that holds it, by OpenCV, and the (2, 3) matrix."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    cosine, sine = np.abs(matrix[0, :2])
    size = round(height * sine + width * cosine), round(height * cosine + width * sine)
    matrix[:, 2] += (np.array(size) - (width, height)) / 2
    return cv2.warpAffine(image, matrix, size), matrix


def hits(faces: Faces, boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns (B,): how many faces lie on each box that is turned by ``matrix``."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    found = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    return (np.linalg.norm(centers[:, None] - found, axis=2) < sides[:, None] / 2).sum(1)


def counting(monkeypatch: pytest.MonkeyPatch, detector: Any) -> list[int]:
    """Returns a list that gets the pixels of every input that the detector's network takes."""
    pixels: list[int] = []
    look = type(detector)._look

    def spy(self: Any, views: Any) -> Any:
        pixels.extend(math.prod(view.letterbox.canvas) for _, view, _ in views)
        return look(self, views)

    monkeypatch.setattr(type(detector), "_look", spy)
    return pixels


class TestAuto:
    @pytest.mark.parametrize("size", ["auto", 640])
    @pytest.mark.parametrize("name", [SCRFD, ""])
    def test_finds_the_photograph_at_any_angle_and_each_face_once(
        self, name: str, size: Any, solvay: np.ndarray, people: np.ndarray, request: pytest.FixtureRequest
    ) -> None:
        path = request.getfixturevalue("data") / name if name else YUNET
        detector = OnnxDetector(path, input_size=size, score_thr=0.5, rotations="auto")
        for degrees in range(0, 360, 15 if size == "auto" else 75):
            image, matrix = turned(solvay, degrees)
            found = hits(detector.detect(image), people, matrix)
            assert (found > 0).sum() >= 28, degrees
            assert found.max() == 1, degrees

    def test_boxes_and_landmarks_are_those_of_the_upright_photograph(self, solvay: np.ndarray) -> None:
        upright = OnnxDetector(YUNET, input_size="auto", score_thr=0.7).detect(solvay)
        found = OnnxDetector(YUNET, input_size="auto", score_thr=0.7, rotations="auto").detect(
            np.ascontiguousarray(np.rot90(solvay))
        )
        width = solvay.shape[1]
        x1, y1, x2, y2 = upright.boxes.T
        boxes = np.c_[y1, width - x2, y2, width - x1]
        order, wanted = np.lexsort(found.boxes.T.round()), np.lexsort(boxes.T.round())
        assert len(found) == len(upright)
        assert found.boxes[order] == pytest.approx(boxes[wanted], abs=0.5)
        points = np.stack([upright.landmarks[..., 1], width - upright.landmarks[..., 0]], axis=-1)
        assert found.landmarks[order] == pytest.approx(points[wanted], abs=0.5)

    @pytest.mark.parametrize("name", [SCRFD, ""])
    def test_finds_what_quarter_turns_of_wider_face_hide(self, name: str, data: Path) -> None:
        detector = OnnxDetector(data / name if name else YUNET, input_size="auto", rotations="auto")
        upright = detector.replace(rotations=0)
        total = found = 0
        for path in sorted((data / "wider/WIDER_val/images").glob("*/*.jpg"))[::29]:
            image = read_image(path)
            boxes = upright.detect(image).boxes
            for quarters in (1, 2, 3) if len(boxes) else ():
                matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
                for i in range(quarters):
                    width = image.shape[i % 2 == 0]
                    matrix = np.array([[0, 1, 0], [-1, 0, width]]) @ np.vstack([matrix, [0, 0, 1]])
                faces = detector.detect(np.ascontiguousarray(np.rot90(image, quarters)))
                total += len(boxes)
                found += int((hits(faces, boxes, matrix) > 0).sum())
        assert total > 120
        assert found / total > 0.9  # of all images: see docs/benchmarks.md

    def test_costs_little_on_upright_images(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        detector = OnnxDetector(YUNET, input_size="auto", rotations="auto")
        upright = detector.replace(rotations=0)
        pixels = counting(monkeypatch, detector)
        images = [read_image(path) for path in sorted((data / "wider/WIDER_val/images").glob("*/*.jpg"))[::10]]
        before = [upright.detect(image) for image in images]
        plain = sum(pixels)
        pixels.clear()
        after = [detector.detect(image) for image in images]
        assert plain < sum(pixels) < 1.6 * plain
        assert sum(map(len, before)) <= sum(map(len, after)) <= 1.05 * sum(map(len, before))

    def test_mixed_faces_of_one_image_are_all_found(self, solvay: np.ndarray) -> None:
        part = solvay[1030:1330, 2020:2270]
        image = np.hstack([part, part[::-1, ::-1]])
        upright = OnnxDetector(YUNET, input_size="auto", score_thr=0.7)
        half = len(upright.detect(part))
        assert len(upright.replace(rotations=[0, 180]).detect(image)) == 2 * half > 0
        assert len(upright.replace(rotations="auto").detect(image)) == 2 * half

    def test_in_a_batch_as_one_by_one(self, solvay: np.ndarray) -> None:
        detector = OnnxDetector(YUNET, input_size="auto", score_thr=0.7, rotations="auto")
        small = cv2.resize(solvay, (1500, 1088))
        images = [small, *(turned(small, degrees)[0] for degrees in (45, 90, 200)), np.zeros((50, 40, 3), np.uint8)]
        for together, image in zip(detector.detect_batch(images), images, strict=True):
            alone = detector.detect(image)
            assert len(together) == len(alone)
            assert np.allclose(together.boxes, alone.boxes, atol=1e-2)
            assert np.allclose(together.scores, alone.scores, atol=1e-4)

    def test_scores_below_the_wanted_one_are_not_returned(self, solvay: np.ndarray) -> None:
        detector = OnnxDetector(YUNET, input_size="auto", rotations="auto", score_thr=0.9)
        for degrees in (0, 90):
            assert detector.detect(turned(solvay, degrees)[0]).scores.min() > 0.9

    def test_strength_counts_what_a_probe_reports(self) -> None:
        faces = Faces(np.zeros((3, 4)), [0.9, 0.5, 0.3])
        assert strength(faces, 4) == pytest.approx(0.9**4 + 0.5**4)


class TestAngles:
    @pytest.mark.parametrize("size", ["auto", 640])
    @pytest.mark.parametrize("angles", [(0, 90), (0, 30, 60, 90), (45,)])
    def test_of_a_list_each_costs_at_most_one_look(
        self, angles: tuple[int, ...], size: Any, solvay: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector = OnnxDetector(YUNET, input_size=size, close_ups=False)
        pixels = counting(monkeypatch, detector)
        for image in (solvay, solvay[:, :700]):
            pixels.clear()
            detector.detect(image)
            one = sum(pixels)
            pixels.clear()
            detector.replace(rotations=angles).detect(image)
            assert sum(pixels) <= len(angles) * one

    @pytest.mark.parametrize("degrees", [33, 90, 200])
    def test_given_are_looked_at(self, degrees: float, solvay: np.ndarray, people: np.ndarray) -> None:
        image, matrix = turned(solvay, degrees)
        detector = OnnxDetector(YUNET, input_size=960, score_thr=0.7, rotations=-degrees)
        assert (hits(detector.detect(image), people, matrix) == 1).sum() >= 28
        assert (hits(detector.replace(rotations=0).detect(image), people, matrix) == 1).sum() < 25

    def test_are_taken_as_degrees_below_360_without_doubles(self) -> None:
        assert DetectorOptions(rotations=[0, 360, -90, 270.0, -1e-20]).rotations == (0.0, 270.0)
        assert DetectorOptions(rotations=45).rotations == (45.0,)
        assert DetectorOptions(rotations="auto").rotations == "auto"

    @pytest.mark.parametrize("angles", [math.nan, math.inf, "a", [], (), [0, "b"], [[0]], None, True, 10**400])
    def test_that_are_none_are_refused(self, angles: Any) -> None:
        with pytest.raises(FaceDetError, match=r"^rotations must be auto, or degrees such as 0,90,180,270, not "):
            DetectorOptions(rotations=angles)
        with pytest.raises(FaceDetError, match=r"^rotations must be"):
            build_detector().replace(rotations=angles)

    @pytest.mark.parametrize("text", ["nan", "inf", "a", "", "0,,90", "90,", "auto,0"])
    def test_that_are_none_are_refused_on_the_command_line(self, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            main(["detect", str(asset_path("solvay_1927.jpg")), f"--rotations={text}"])
        assert end.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == (
            f"facedet detect: error: argument --rotations: must be auto, or degrees such as 0,90,180,270, not {text!r}"
        )


class TestAFileWithNmsInside:
    """It has one face in every input, whatever it shows, and drops scores up to 0.6."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        constants = [
            numpy_helper.from_array(np.array([[[8, 8, 24, 24]]], np.float32), "boxes"),
            numpy_helper.from_array(np.array([[0.7]], np.float32), "scores"),
        ]
        graph = helper.make_graph(
            [helper.make_node("Identity", [c.name], [f"{c.name}.out"]) for c in constants],
            "decoded",
            [helper.make_tensor_value_info("image", 1, [1, 3, "h", "w"])],
            [
                helper.make_tensor_value_info("boxes.out", 1, [1, 1, 4]),
                helper.make_tensor_value_info("scores.out", 1, [1, 1]),
            ],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(model, {"facedet_mm": '{"score_thr": 0.6}'})
        onnx.save(model, tmp_path / "decoded.onnx")
        return tmp_path / "decoded.onnx"

    def test_is_probed_at_its_own_threshold(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        detector = OnnxDetector(path, rotations="auto")
        asked: list[float] = []
        infer = type(detector)._infer

        def spy(self: Any, blob: Any, letterboxes: Any, score_thr: float) -> Any:
            asked.append(score_thr)
            return infer(self, blob, letterboxes, score_thr)

        monkeypatch.setattr(type(detector), "_infer", spy)
        assert len(detector.detect(np.zeros((480, 640, 3), np.uint8))) >= 1
        assert len(asked) > 3
        assert set(asked) == {0.6}

    @pytest.mark.parametrize("rotations", [0, "auto"])
    def test_refuses_a_lower_one_of_the_user(self, path: Path, rotations: Any) -> None:
        detector = OnnxDetector(path, rotations=rotations, score_thr=0.5, close_ups=False)
        with pytest.raises(ModelError, match=r"the NMS inside keeps scores above 0\.6.*score_thr=0\.5"):
            detector.detect(np.zeros((480, 640, 3), np.uint8))

    @pytest.mark.parametrize(("free", "views"), [(True, 2), (False, 1)])
    def test_gets_the_second_look_for_close_ups_where_it_is_cheap(
        self, path: Path, free: bool, views: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not free:
            model = onnx.load(path)
            for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
                side.dim_value = 640
            onnx.save(model, path)
            monkeypatch.setattr("facedet_mm.detectors.rewriting.disproof", lambda *_: "it needs its size")
        detector = OnnxDetector(path)
        assert (detector.network.fixed_size is None) == free
        pixels = counting(monkeypatch, detector)
        detector.detect(np.zeros((480, 640, 3), np.uint8))
        assert len(pixels) == views


class TestSteps:
    """The search where the upright look shows nothing, one look at a time."""

    def search(self, *answers: dict[float, float]) -> list[list[float]]:
        """Returns the angles of each look; each answer is the score of a face at some angles."""
        plan = ViewPlan(["auto"])
        upright = plan.views(640, 480)
        search = find_turned(plan, [(upright[0], Seen(Faces.empty(), False))], 1)
        look, looks = next(search), []
        for answer in [*answers, *[{}] * 9]:
            looks.append([view.turn.degrees if view.turn else 0.0 for view in look.views])
            scores = [answer.get(degrees, 0.0) for degrees in looks[-1]]
            sizes = [view.letterbox.resized for view in look.views]
            boxes = [[w / 2 - 9, h / 2 - 9, w / 2 + 9, h / 2 + 9] for w, h in sizes]
            found = [Faces([box], [score]) for box, score in zip(boxes, scores, strict=True)]
            seen = [Seen(faces[faces.scores > 0], close_up=False) for faces in found]
            try:
                look = search.send(seen)
            except StopIteration:
                return looks
        raise AssertionError("the search does not end")

    def test_nothing_is_looked_at_in_full_where_no_probe_shows_anything(self) -> None:
        assert self.search() == [[90, 180, 270], [90, 180, 270], [45, 135, 225, 315]]

    def test_a_weak_sighting_is_kept_when_the_next_probes_show_less(self) -> None:
        looks = self.search({}, {180.0: 0.45}, {}, {180.0: 0.8})
        assert looks[3:] == [[180, 202, 158], [180]]

    def test_a_stronger_sighting_of_the_next_probes_counts(self) -> None:
        looks = self.search({}, {180.0: 0.4}, {225.0: 0.45}, {225.0: 0.8})
        assert looks[3:] == [[225, 247, 203], [225]]

    def test_a_sighting_that_its_crop_does_not_confirm_is_dropped(self) -> None:
        assert len(self.search({}, {180.0: 0.45}, {}, {})) == 4

    def test_a_good_sighting_ends_the_probes(self) -> None:
        assert self.search({}, {180.0: 0.8}, {180.0: 0.8}) == [[90, 180, 270], [90, 180, 270], [180, 202, 158], [180]]

    def test_a_tilt_of_a_quarter_turn_needs_twice_the_strength(self) -> None:
        assert self.search({}, {90.0: 0.8}, {90.0: 0.7, 112.0: 0.8})[3] == [90]
        assert self.search({}, {90.0: 0.8}, {90.0: 0.6, 112.0: 0.8})[3] == [112]

    def test_a_face_that_the_upright_probe_shows_as_well_does_not_count(self) -> None:
        assert self.search({90.0: 0.7}, {0.0: 0.9})[:2] == [[90, 180, 270], [0]]
        assert [90.0, 112.0, 68.0] not in self.search({90.0: 0.7}, {0.0: 0.9})
        assert [90.0, 112.0, 68.0] in self.search({90.0: 0.7}, {0.0: 0.5})
