"""``OnnxDetector`` and ``build_detector``: exact pixels in, exact boxes out, plain errors."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from facedet_mm import Detector, FaceDetError, Faces, build_detector
from facedet_mm.detectors.base import NetworkInput
from facedet_mm.detectors.heads import Place, find_head
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.options import DetectorOptions
from facedet_mm.detectors.postprocess import decode, faces_of_image, postprocess
from facedet_mm.detectors.preprocess import Letterbox, Normalization, Workspace, fit, make_blob
from facedet_mm.errors import ImageError, MissingDependencyError, ModelError
from facedet_mm.zoo import MODELS, asset_path, config_path, find_model

YUNET = asset_path("yunet_n_dynamic.onnx")
SCRFD_NORMALIZATION = Normalization((127.5,) * 3, (128.0,) * 3, to_rgb=True)
YUNET_NORMALIZATION = Normalization((0, 0, 0), (1, 1, 1), to_rgb=False)


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return cv2.imread(str(asset_path("solvay_1927.jpg")))


@pytest.fixture(scope="module")
def yunet() -> OnnxDetector:
    return OnnxDetector(YUNET)


def same(a: Faces, b: Faces, pixels: float = 0.0) -> bool:
    return (
        len(a) == len(b)
        and np.allclose(a.boxes, b.boxes, rtol=0, atol=pixels)
        and np.allclose(a.scores, b.scores, rtol=0, atol=pixels / 100)
        and (a.landmarks is None) == (b.landmarks is None)
        and (a.landmarks is None or np.allclose(a.landmarks, b.landmarks, rtol=0, atol=pixels))
    )


class TestLetterbox:
    @pytest.mark.parametrize(
        ("image", "size", "resized", "canvas"),
        [
            ((1024, 768), 640, (640, 480), (640, 640)),
            ((768, 1024), 640, (480, 640), (640, 640)),
            ((1024, 683), 640, (640, 427), (640, 640)),  # 426.875
            ((683, 1024), 640, (427, 640), (640, 640)),
            ((100, 50), 640, (640, 320), (640, 640)),
            ((1, 1), 640, (640, 640), (640, 640)),
            ((20000, 10), 640, (640, 1), (640, 640)),  # 0.32
            ((1280, 720), (640, 384), (640, 360), (640, 384)),
            ((1024, 768), "auto", (640, 480), (640, 512)),
            ((1024, 720), "auto", (640, 450), (640, 512)),  # 448 + 32 would leave 30 of 32 pixels
            ((1024, 717), "auto", (640, 448), (640, 480)),
            ((640, 610), "auto", (640, 610), (640, 640)),  # 642 is beyond the square
            ((20000, 10), "auto", (640, 1), (640, 64)),
            ((1000, 700), "original", (1000, 700), (1024, 704)),
            ((1, 1), "original", (1, 1), (32, 32)),
        ],
    )
    def test_images_are_fitted_as_the_data_sheet_says(self, image, size, resized, canvas) -> None:
        assert fit(*image, size) == Letterbox(image, resized, canvas)

    def test_sizes_are_those_of_mmcv(self) -> None:
        rescale_size = pytest.importorskip("mmcv").rescale_size
        rng = np.random.default_rng(0)
        for width, height in rng.integers(20, 5000, (2000, 2)).tolist():
            assert fit(width, height, 640).resized == rescale_size((width, height), (640, 640))

    def test_a_blob_in_used_memory_is_the_one_in_fresh_memory(self) -> None:
        rng = np.random.default_rng(0)
        workspace = Workspace()
        for _ in range(60):
            canvas = [(96, 96), (96, 64), (64, 96)][rng.integers(3)]
            sizes = rng.integers(1, 200, (rng.integers(1, 4), 2)).tolist()
            images = [rng.integers(0, 256, (height, width, 3), np.uint8) for width, height in sizes]
            boxes = [fit(width, height, canvas) for width, height in sizes]
            if rng.random() < 0.1:
                with pytest.raises(cv2.error):
                    make_blob([*images[:-1], np.empty((0, 5, 3), np.uint8)], boxes, SCRFD_NORMALIZATION, workspace)
            interleaved = bool(rng.random() < 0.5)
            used = make_blob(images, boxes, SCRFD_NORMALIZATION, workspace, interleaved=interleaved)
            assert np.array_equal(used, make_blob(images, boxes, SCRFD_NORMALIZATION, interleaved=interleaved))

    @pytest.mark.parametrize("shape", [(480, 640), (700, 1000), (1000, 700), (1, 1), (10, 20000), (20000, 10)])
    def test_the_blob_is_the_resized_image_normalized_with_zeros_around(self, shape: tuple[int, int]) -> None:
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        box = fit(shape[1], shape[0], 640)
        width, height = box.resized
        pixels = cv2.resize(image, box.resized, interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
        halves = Normalization((0, 0, 0), (1, 2, 1), to_rgb=False)
        scrfd, yunet, halved = (
            make_blob([image], [box], n) for n in (SCRFD_NORMALIZATION, YUNET_NORMALIZATION, halves)
        )
        assert scrfd.dtype == yunet.dtype == np.float32
        assert np.array_equal(scrfd[0, :, :height, :width], (pixels[..., ::-1].transpose(2, 0, 1) - 127.5) / 128)
        assert np.array_equal(yunet[0, :, :height, :width], pixels.transpose(2, 0, 1))
        assert np.array_equal(halved[0, 1], yunet[0, 1] / 2)
        for blob in (scrfd, yunet):
            assert not blob[:, :, height:].any()
            assert not blob[:, :, :, width:].any()
        apart = Normalization((1, 2, 3), (4, 5, 6), to_rgb=True)
        for normalization in (SCRFD_NORMALIZATION, YUNET_NORMALIZATION, halves, apart):
            planes = make_blob([image], [box], normalization)[0]
            pixels = make_blob([image], [box], normalization, interleaved=True)[0]
            assert np.array_equal(pixels[..., ::-1] if normalization.to_rgb else pixels, planes.transpose(1, 2, 0))

    @pytest.mark.parametrize("size", [0, -32, 650, (640, 100), (640,), "large", 640.0, (640, "x")])
    def test_sizes_that_no_network_takes_are_refused(self, yunet: OnnxDetector, size: object) -> None:
        with pytest.raises(FaceDetError, match="input_size"):
            OnnxDetector(YUNET, input_size=size)  # type: ignore[arg-type]
        with pytest.raises(FaceDetError, match="input_size"):
            yunet.replace(input_size=size)
        assert yunet.options.input_size == 640


def random_outputs(family: str, width: int, height: int, anchors: int, seed: int = 0) -> list[np.ndarray]:
    """Outputs of all levels in the order scores, (objectness,) boxes, landmarks; scores rarely high."""
    rng = np.random.default_rng(seed)
    rows = [(width // s) * (height // s) * anchors for s in (8, 16, 32)]
    kinds = [1, 4, 10] if family == "scrfd" else [1, 1, 4, 10]
    return [
        (rng.random((n, 1)) ** 8 * 1.3 - 0.1 if d == 1 else rng.normal(1, 1, (n, d))).astype(np.float32)
        for d in kinds
        for n in rows
    ]


def decode_by_hand(family: str, outputs: list[np.ndarray], width: int, anchors: int, thr: float) -> list:
    """One anchor after the other, from the published formulas: (score, box, landmarks)."""
    found = []
    for level, stride in enumerate((8, 16, 32)):
        raw = [output.astype(np.float64) for output in outputs[level::3]]
        for row in range(len(raw[0])):
            cell = row // anchors
            x, y = (cell % (width // stride)) * stride, (cell // (width // stride)) * stride
            if family == "scrfd":
                score = min(raw[0][row, 0], 1)
                left, top, right, bottom = raw[1][row] * stride
                box = [x - left, y - top, x + right, y + bottom]
            else:
                score = np.sqrt(min(max(raw[0][row, 0], 0), 1) * min(max(raw[1][row, 0], 0), 1))
                cx, cy = x + raw[2][row, 0] * stride, y + raw[2][row, 1] * stride
                w, h = np.exp(raw[2][row, 2:]) * stride
                box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            if score > thr:
                landmarks = [[x + dx * stride, y + dy * stride] for dx, dy in raw[-1][row].reshape(5, 2)]
                found.append((score, box, landmarks))
    return found


class TestDecoding:
    @pytest.mark.parametrize("thr", [0.0, 0.3, 0.6])
    @pytest.mark.parametrize(("family", "anchors"), [("scrfd", 2), ("scrfd", 1), ("yunet", 1)])
    def test_what_passes_is_decoded_by_the_published_formulas(self, family: str, anchors: int, thr: float) -> None:
        width, height = 96, 64
        outputs = random_outputs(family, width, height, anchors)
        head = find_head([o.shape for o in outputs], width, height)
        boxes, scores, landmarks = decode(head, outputs, width, thr)
        expected = decode_by_hand(family, outputs, width, anchors, thr)
        assert len(scores) == len(expected) > 0
        for column, values in zip((scores, boxes, landmarks), zip(*expected, strict=True), strict=False):
            assert np.allclose(column, values, rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize("family", ["scrfd", "yunet"])
    def test_a_score_comes_out_above_the_threshold_and_not_at_it(self, family: str) -> None:
        outputs = random_outputs(family, 320, 320, 1)
        head = find_head([o.shape for o in outputs], 320, 320)
        _, scores, _ = decode(head, outputs, 320, 0)
        for score in scores[scores < 1][:200]:
            _, found, _ = decode(head, outputs, 320, float(np.nextafter(score, np.float32(0))))
            assert np.array_equal(found, scores[scores >= score])
            _, found, _ = decode(head, outputs, 320, float(score))
            assert np.array_equal(found, scores[scores > score])

    def test_outputs_are_told_apart_in_any_order_with_and_without_a_batch_axis(self) -> None:
        rng = np.random.default_rng(0)
        for family, anchors in (("scrfd", 2), ("yunet", 1)):
            outputs = random_outputs(family, 640, 384, anchors)
            expected = decode(find_head([o.shape for o in outputs], 640, 384), outputs, 640, 0.5)
            for batch_axis in (False, True):
                order = rng.permutation(len(outputs))
                shapes = [((1,) if batch_axis else ()) + outputs[i].shape for i in order]
                head = find_head(shapes, 640, 384)
                assert head.family == family
                assert head.normalization == (SCRFD_NORMALIZATION if family == "scrfd" else YUNET_NORMALIZATION)
                assert [level.stride for level in head.levels] == [8, 16, 32]
                assert {level.anchors for level in head.levels} == {anchors}
                found = decode(head, [outputs[i] for i in order], 640, 0.5)
                assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))

    @pytest.mark.parametrize("thr", [0.0, 0.02, 0.5, 0.95, 1.0])
    @pytest.mark.parametrize(("family", "anchors"), [("scrfd", 2), ("scrfd", 3), ("yunet", 1), ("yunet", 2)])
    def test_maps_give_what_rows_give(self, family: str, anchors: int, thr: float) -> None:
        width, height = 96, 64
        outputs = random_outputs(family, width, height, anchors)
        kinds = len(outputs) // 3
        rng = np.random.default_rng(1)
        for level in range(3):  # scores that were put through a sigmoid, some of them very low or broken
            for output in outputs[level : level + 3 * (kinds - 2) : 3]:
                logits = rng.normal(-1, 5, output.shape)
                logits[rng.random(output.shape) < 0.02] = rng.choice([-200, -np.inf, np.inf, np.nan])
                output[:] = 1 / (1 + np.exp(-np.maximum(logits, -90)))
        order = rng.permutation(kinds)
        maps, places = [], dict[int, Place]()
        for level, stride in enumerate((8, 16, 32)):
            parts, first = [], 0
            for index in order * 3 + level:
                rows = outputs[index].astype(np.float64)
                values = rows.shape[1]
                with np.errstate(divide="ignore"):
                    rows = np.log(rows / (1 - rows)) if values == 1 else rows
                places[index] = Place(level, first, anchors, values)
                parts.append(rows.reshape(height // stride, width // stride, -1).transpose(2, 0, 1))
                first += len(parts[-1])
            maps.append(np.concatenate(parts).astype(np.float32))
        shapes = [places[i].shape([m[None] for m in maps]) for i in range(len(outputs))]
        assert shapes == [(1, *output.shape) for output in outputs]
        head = replace(find_head(shapes, width, height, None, [places[i] for i in range(len(outputs))]), logits=True)
        found = decode(head, maps, width, thr)
        expected = decode(find_head(shapes, width, height), outputs, width, thr)
        assert len(expected[1]) > 0 or thr > 0.9
        rows_of = [
            np.hstack([boxes, scores[:, None], marks.reshape(-1, 10)]) for boxes, scores, marks in (found, expected)
        ]
        for rows in rows_of:
            rows[:] = rows[np.lexsort(rows[:, [0, 4]].round(3).T)]
        np.testing.assert_allclose(*rows_of, rtol=1e-5, atol=1e-5)
        assert all(column.dtype == np.float32 for column in found)

    def test_maps_of_one_stride_have_the_same_anchors(self) -> None:
        places = [Place(0, 0, 1, 1), Place(1, 0, 2, 4)]
        with pytest.raises(ValueError, match="the outputs of stride 8 have different numbers of anchors"):
            find_head([(1, 64, 1), (1, 64, 4)], 64, 64, None, places)

    def test_a_head_without_landmarks_gives_none(self) -> None:
        outputs = random_outputs("scrfd", 96, 64, 2)[:6]
        head = find_head([o.shape for o in outputs], 96, 64)
        assert postprocess(head, outputs, fit(96, 64, (96, 64)), 0.5, 0.4).landmarks is None
        outputs = random_outputs("yunet", 96, 64, 1)[:9]
        head = find_head([o.shape for o in outputs], 96, 64)
        assert (head.family, head.scores, head.landmarks) == ("yunet", 2, False)
        assert postprocess(head, outputs, fit(96, 64, (96, 64)), 0.5, 0.4).landmarks is None

    @pytest.mark.parametrize(
        "shapes",
        [
            [(1, 1000)],
            [(1, 10)],
            [(128, 1), (32, 1), (128, 4)],
            [(128, 1), (128, 4), (128, 4)],
            [(128, 1), (128, 1), (128, 1), (128, 4)],
            [(100, 1), (100, 4)],
            [(64, 1), (64, 4), (32, 1), (32, 4)],
            [(1, 3, 64, 64)],
            [],
        ],
    )
    def test_outputs_of_another_task_are_refused(self, shapes: list[tuple[int, ...]]) -> None:
        with pytest.raises(ValueError, match=r"shape|rows|anchors"):
            find_head(shapes, 64, 64)

    @pytest.mark.parametrize("family", ["scrfd", "yunet"])
    def test_broken_numbers_never_come_out(self, family: str) -> None:
        outputs = random_outputs(family, 96, 64, 2 if family == "scrfd" else 1)
        rng = np.random.default_rng(0)
        for output in outputs:
            for value in (np.nan, np.inf, -np.inf, 200):
                output[rng.random(output.shape) < 0.02] = value
        head = find_head([o.shape for o in outputs], 96, 64)
        faces = postprocess(head, outputs, fit(90, 60, (96, 64)), 0.02, 0.9)
        assert len(faces) > 0
        assert all(np.isfinite(column).all() for column in (faces.boxes, faces.scores, faces.landmarks))
        assert faces.scores.max() <= 1

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_face_with_one_broken_landmark_is_left_out(self, value: float) -> None:
        boxes = np.array([[0, 0, 9, 9], [20, 20, 40, 40]], np.float32)
        landmarks = np.ones((2, 5, 2), np.float32)
        landmarks[0, 3, 1] = value
        box = fit(64, 64, 64)
        faces = faces_of_image(boxes, np.array([0.9, 0.8], np.float32), landmarks, box, 0.4)
        assert faces.boxes.tolist() == [[20, 20, 40, 40]]

    def test_boxes_are_clipped_to_the_image_and_landmarks_are_not(self) -> None:
        outputs = [np.zeros((rows * 2, d), np.float32) for d in (1, 4, 10) for rows in (64, 16, 4)]
        outputs[2][0], outputs[5][0] = 0.9, (-0.25, -0.5, 5, 5)  # from (8, 16) to beyond the image
        outputs[8][0, :4] = (-1, -2, 4, 3)
        outputs[2][7], outputs[5][7] = 0.8, (-0.5, 1, 2, 1)  # wholly in the padding: x from 48 on
        head = find_head([o.shape for o in outputs], 64, 64)
        faces = postprocess(head, outputs, Letterbox((100, 400), (16, 64), (64, 64)), 0.5, 0.4)
        assert faces.boxes.tolist() == [[50, 100, 100, 400]]  # 6.25 image pixels for one of the input
        assert faces.landmarks[0, :2].tolist() == [[-200, -400], [800, 600]]

    def test_axes_are_scaled_back_apart(self) -> None:
        outputs = [np.zeros((rows * 2, d), np.float32) for d in (1, 4) for rows in (64, 16, 4)]
        outputs[0][2], outputs[3][2] = 0.9, (1, 0, 1, 2)  # second cell: x from 0 to 16, y from 0 to 16
        head = find_head([o.shape for o in outputs], 64, 64)
        faces = postprocess(head, outputs, Letterbox((300, 100), (64, 21), (64, 64)), 0.5, 0.4)
        assert np.allclose(faces.boxes, [[0, 0, 16 * 300 / 64, 16 * 100 / 21]])


class TestDetection:
    def test_all_twenty_nine_of_solvay_are_found(self, yunet: OnnxDetector, solvay: np.ndarray) -> None:
        faces = yunet.detect(solvay)
        faces = faces[faces.scores > 0.8]
        assert len(faces) == 29
        assert (np.diff(faces.scores) <= 0).all()
        left_eye, right_eye, nose, left_mouth, right_mouth = faces.landmarks.transpose(1, 0, 2)
        assert (left_eye[:, 0] < right_eye[:, 0]).all()
        assert (left_mouth[:, 0] < right_mouth[:, 0]).all()
        assert (left_eye[:, 1] < nose[:, 1]).all()
        assert (nose[:, 1] < left_mouth[:, 1]).all()

    def test_yunet_agrees_with_opencv(self, data: Path, yunet: OnnxDetector, solvay: np.ndarray) -> None:
        square = np.ascontiguousarray(solvay[900:1540, 400:1040])
        reference = cv2.FaceDetectorYN_create(str(data / "yunet/yunet_n_640_640.onnx"), "", (640, 640), 0.5, 0.4, 5000)
        rows = reference.detect(square)[1]
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        faces = yunet.detect(square)
        assert len(faces) == len(rows) > 3
        assert np.allclose(faces.scores, rows[:, 14], atol=1e-5)
        assert np.allclose(faces.boxes, np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]), atol=1e-2)
        assert np.allclose(faces.landmarks.reshape(-1, 10), rows[:, 4:14], atol=1e-2)

    @pytest.mark.parametrize("size", [640, (640, 480), "auto", "original"])
    def test_every_size_finds_the_same_people(self, solvay: np.ndarray, size) -> None:
        half = cv2.resize(solvay, (960, 695), interpolation=cv2.INTER_AREA)
        faces = OnnxDetector(YUNET, input_size=size, score_thr=0.7).detect(half)
        expected = OnnxDetector(YUNET, input_size=640, score_thr=0.7).detect(half)
        assert len(faces) == len(expected) == 29
        centers = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
        others = (expected.boxes[:, :2] + expected.boxes[:, 2:]) / 2
        assert np.linalg.norm(centers[:, None] - others, axis=2).min(1).max() < 4

    def test_gray_alpha_view_and_file_are_the_same_image(self, yunet: OnnxDetector, solvay: np.ndarray) -> None:
        gray = solvay[..., 0]  # the photograph is black and white
        expected = yunet.detect(np.dstack([gray] * 3))
        assert len(expected) > 20
        assert same(yunet.detect(gray), expected)
        assert same(yunet.detect(np.dstack([gray] * 4)), expected)
        assert same(yunet.detect(np.dstack([gray] * 3)[:, ::-1][:, ::-1]), expected)
        assert same(yunet.detect(asset_path("solvay_1927.jpg")), yunet.detect(solvay))
        assert same(yunet.detect(str(asset_path("solvay_1927.jpg"))), yunet.detect(solvay))

    @pytest.mark.parametrize("size", [640, "auto", "original"])
    @pytest.mark.parametrize("shape", [(1, 1), (10, 20000), (2000, 3), (33, 31)])
    def test_extreme_images_give_boxes_inside_them(self, shape: tuple[int, int], size) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        faces = OnnxDetector(YUNET, score_thr=0.0, input_size=size).detect(noise)
        height, width = shape
        assert (faces.boxes >= 0).all()
        assert (faces.boxes[:, 2] <= width * 1.00001).all()
        assert (faces.boxes[:, 3] <= height * 1.00001).all()

    @pytest.mark.parametrize("size", [640, "auto"])
    def test_a_batch_gives_what_single_calls_give(self, solvay: np.ndarray, size) -> None:
        detector = OnnxDetector(YUNET, input_size=size)
        images = [solvay[900:, i * 100 : i * 100 + 900 + 150 * (i % 3)] for i in range(11)]
        batch = detector.detect_batch(images)
        assert len(batch) == 11
        for faces, image in zip(batch, images, strict=True):
            assert same(faces, detector.detect(image), pixels=0.01)
        assert sum(map(len, batch)) > 60
        assert detector.detect_batch([]) == []

    def test_a_bad_image_in_a_batch_is_named(self, yunet: OnnxDetector, solvay: np.ndarray) -> None:
        with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
            yunet.detect_batch([solvay, "gone.jpg"])
        with pytest.raises(ImageError, match="must be uint8"):
            yunet.detect(solvay.astype(np.float32) / 255)
        with pytest.raises(ImageError, match=r"cv2\.imread returns None"):
            yunet.detect(cv2.imread("gone.jpg"))

    def test_threads_do_not_disturb_each_other(self, yunet: OnnxDetector, solvay: np.ndarray) -> None:
        images = [solvay[800:1500, i * 150 : i * 150 + 700 + 40 * i] for i in range(8)]
        expected = [yunet.detect(image) for image in images]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(yunet.detect, images * 4))
        assert all(same(a, b) for a, b in zip(found, expected * 4, strict=True))

    def test_a_replaced_setting_acts_in_a_new_detector_on_the_same_session(self, solvay: np.ndarray) -> None:
        detector = OnnxDetector(YUNET, score_thr=0.02, iou_thr=1.0)
        everything = detector.detect(solvay)
        without_duplicates = detector.replace(iou_thr=0.4)
        sure = without_duplicates.replace(score_thr=0.9, max_faces=5, tiles=900)
        assert isinstance(sure, OnnxDetector)
        assert sure._session is detector._session
        assert len(everything) > len(without_duplicates.detect(solvay)) > len(sure.detect(solvay)) == 5
        assert sure.detect(solvay).scores.min() > 0.9
        assert same(detector.detect(solvay), everything)
        assert (detector.options.score_thr, detector.options.iou_thr, detector.options.max_faces) == (0.02, 1.0, None)
        assert (sure.options.iou_thr, sure.options.tiles) == (0.4, (900, 900))

    def test_a_replaced_input_size_is_what_the_network_sees(self, yunet: OnnxDetector, solvay: np.ndarray) -> None:
        small = yunet.replace(input_size=320)
        assert same(small.detect(solvay), OnnxDetector(YUNET, input_size=320).detect(solvay))
        assert not same(small.detect(solvay), yunet.detect(solvay))

    def test_a_setting_of_the_open_file_cannot_be_replaced(self, yunet: OnnxDetector) -> None:
        for change in ({"device": "cuda"}, {"threads": 2}, {"model": "scrfd_1g"}, {"precision": "fp16"}):
            with pytest.raises(FaceDetError, match=f"{next(iter(change))} is fixed once the model is open"):
                yunet.replace(**change)
        assert yunet.replace(device=yunet.options.device).options == yunet.options
        with pytest.raises(TypeError, match="score_threshold"):
            yunet.replace(score_threshold=0.1)

    def test_settings_cannot_be_set_from_outside(self, yunet: OnnxDetector) -> None:
        for name in (field.name for field in fields(DetectorOptions)):
            with pytest.raises(AttributeError, match=rf"immutable; use detector\.replace\({name}="):
                setattr(yunet, name, 1)
        with pytest.raises(AttributeError):
            yunet.options = DetectorOptions()  # type: ignore[misc]
        with pytest.raises(FrozenInstanceError):
            yunet.options.score_thr = 0.1  # type: ignore[misc]


class TestFixedBatches:
    @pytest.mark.parametrize("rewritten", [False, True])
    def test_a_file_of_so_many_images_gets_as_many(
        self, tmp_path: Path, solvay: np.ndarray, rewritten: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = onnx.load(YUNET)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
        onnx.save(model, tmp_path / "three.onnx")
        if not rewritten:
            monkeypatch.setattr("facedet_mm.detectors.rewriting.rewrite", lambda *_, **__: None)
        detector = OnnxDetector(tmp_path / "three.onnx")
        images = [solvay[: 900 + 300 * i] for i in range(4)]
        found = detector.detect_batch(images)
        assert sum(map(len, found)) > 60
        for faces, image in zip(found, images, strict=True):
            assert same(faces, detector.detect(image), pixels=1e-3)
            assert same(faces, OnnxDetector(YUNET, score_thr=0.5).detect(image), pixels=1e-3)

    def test_one_whose_outputs_cannot_be_told_apart_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = onnx.load(YUNET)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        for output in model.graph.output:
            values = output.type.tensor_type.shape.dim[-1].dim_value
            shape = onnx.numpy_helper.from_array(np.array([-1, values]), f"{output.name}.flat")
            model.graph.initializer.append(shape)
            model.graph.node.append(
                onnx.helper.make_node("Reshape", [output.name, shape.name], [f"{output.name}.rows"])
            )
            output.name = f"{output.name}.rows"
            del output.type.tensor_type.shape.dim[0]
        onnx.save(model, tmp_path / "two.onnx")
        monkeypatch.setattr("facedet_mm.detectors.rewriting.rewrite", lambda *_, **__: None)
        with pytest.raises(ModelError, match=r"two\.onnx takes 2 images at a time, but its outputs have no batch axis"):
            OnnxDetector(tmp_path / "two.onnx")


class TestScrfdFiles:
    @pytest.mark.parametrize("size", [640, "auto"])
    def test_fixed_and_free_files_agree(self, data: Path, solvay: np.ndarray, size) -> None:
        fixed = OnnxDetector(data / "weights/scrfd_500m_bnkps_640.onnx", input_size=size)
        free = OnnxDetector(data / "weights/scrfd_500m_bnkps.onnx")
        faces = fixed.detect(solvay)
        assert len(faces) == 29
        free = free.replace(input_size=size)
        assert same(faces, free.detect(solvay), pixels=0.01)
        assert same(free.detect_batch([solvay[:900], solvay])[1], faces, pixels=0.01)

    def test_a_size_that_a_file_does_not_take_is_refused_with_the_remedy(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("facedet_mm.detectors.rewriting.disproof", lambda *_: "it needs its size")
        for size in (320, (640, 480), "original"):
            with pytest.raises(ModelError, match=r"takes only 640 x 640 images; pass input_size=\(640, 640\)"):
                OnnxDetector(data / "weights/scrfd_500m_bnkps_640.onnx", input_size=size)

    def test_a_file_that_misstates_its_outputs_runs_in_silence(
        self, data: Path, solvay: np.ndarray, capfd: pytest.CaptureFixture[str]
    ) -> None:
        faces = OnnxDetector(data / "weights/scrfd_500m.onnx", input_size="auto").detect(solvay)
        assert len(faces) == 29
        assert faces.landmarks is None
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("file", "expected"),
        [
            ("weights/scrfd_500m_bnkps.onnx", (88.77, 85.99, 67.02)),
            # The reference figures, 87.39 / 83.77 / 66.65, are those of unclipped boxes.
            ("yunet/yunet_n_dynamic.onnx", (87.40, 83.95, 66.78)),
        ],
    )
    def test_average_precision_on_real_images_is_the_published_one(
        self, data: Path, average_precision, file: str, expected
    ) -> None:
        detector = OnnxDetector(data / file, score_thr=0.02, iou_thr=0.45, close_ups=False)
        alone = list(average_precision(detector).values())
        assert np.allclose(alone, expected, rtol=0, atol=0.05)
        with_close_ups = list(average_precision(detector.replace(close_ups=True)).values())
        assert (np.array(with_close_ups) >= np.array(alone) - 0.02).all()
        assert with_close_ups[0] > alone[0] + 0.02


class TestFiles:
    def test_files_that_are_no_model_are_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "empty.onnx").touch()
        (tmp_path / "text.onnx").write_text("version https://git-lfs.github.com/spec/v1")
        (tmp_path / "cut.onnx").write_bytes(YUNET.read_bytes()[:200_000])
        (tmp_path / "folder.onnx").mkdir()
        for name, message in {
            "gone.onnx": "no such model file",
            "empty.onnx": "empty model file",
            "text.onnx": "is not an ONNX file, or it is damaged.*expected an SCRFD or YuNet file",
            "cut.onnx": "is not an ONNX file, or it is damaged",
            "folder.onnx": "a folder",
        }.items():
            with pytest.raises(ModelError, match=rf"{name}.*{message}"):
                build_detector(tmp_path / name)

    def test_models_of_another_task_are_refused(self, tmp_path: Path) -> None:
        def write(name: str, shape: list, node: str, out: list, kind: int = TensorProto.FLOAT) -> Path:
            graph = helper.make_graph(
                [helper.make_node(node, ["x"], ["y"])],
                "g",
                [helper.make_tensor_value_info("x", kind, shape)],
                [helper.make_tensor_value_info("y", kind, out)],
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
            onnx.save(model, tmp_path / name)
            return tmp_path / name

        image = ["n", 3, "h", "w"]
        with pytest.raises(
            ModelError, match=r"pooled\.onnx is not a face detector of a known kind: outputs have shapes \(1, 3, 1, 1\)"
        ):
            build_detector(write("pooled.onnx", image, "GlobalAveragePool", image))
        with pytest.raises(ModelError, match=r"gray\.onnx is not a face detector: its input is x tensor\(float\)"):
            build_detector(write("gray.onnx", ["n", 1, "h", "w"], "Relu", ["n", 1, "h", "w"]))
        with pytest.raises(ModelError, match=r"half\.onnx: its input 'x' is float16.*keep_io_types=True"):
            build_detector(write("half.onnx", image, "Relu", image, TensorProto.FLOAT16))

    def test_metadata_goes_before_what_is_recognized(self, tmp_path: Path, solvay: np.ndarray) -> None:
        color = cv2.applyColorMap(solvay, cv2.COLORMAP_PINK)

        def with_metadata(**values: object) -> Path:
            model = onnx.load(YUNET)
            entry = model.metadata_props.add()
            entry.key, entry.value = "facedet_mm", json.dumps(values)
            onnx.save(model, tmp_path / "own.onnx")
            return tmp_path / "own.onnx"

        own = {"name": "mine", "strides": [8, 16, 32], "num_anchors": 1, "layout": "yunet"}
        rgb = with_metadata(**own, mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True)
        expected = build_detector().detect(color[..., ::-1])
        assert len(expected) > 5
        assert same(build_detector(rgb).detect(color), expected, 1e-3)
        shifted = with_metadata(**own, mean=[-20, -20, -20], std=[2, 2, 2], to_rgb=False)
        dim = np.zeros((640, 640, 3), np.uint8)
        dim[:463] = cv2.resize(solvay, (640, 463)) // 4 * 2
        brighter = dim // 2 + 10
        brighter[463:] = 0
        found = build_detector(shifted, input_size="original").detect(dim[:463])
        assert len(found) > 5
        assert same(found, build_detector().detect(brighter), pixels=0.5)
        for broken in (
            {"layout": "dets"},
            {**own, "strides": [8, 16]},
            {**own, "strides": [4, 8, 16]},
            {**own, "strides": [64, 128, 256]},
            {**own, "mean": [0, 0, 0]},
        ):
            with pytest.raises(ModelError, match=r"own\.onnx is not a face detector of a known kind"):
                build_detector(with_metadata(**broken))

    @pytest.mark.parametrize(
        "options", [{"score_thr": -0.1}, {"score_thr": 1.5}, {"iou_thr": 2}, {"iou_thr": float("nan")}]
    )
    def test_thresholds_out_of_range_are_refused(self, options: dict[str, float]) -> None:
        with pytest.raises(FaceDetError, match=f"{next(iter(options))} must be a number from 0 to 1( or None)?, not"):
            build_detector(**options)  # type: ignore[arg-type]

    def test_a_device_that_is_not_there_names_the_package(self) -> None:
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
        for device in ("cuda", "cuda:1"):
            with pytest.raises(MissingDependencyError, match=r"pip install onnxruntime-gpu"):
                build_detector(device=device)
        for device in ("tpu", "cuda:x", "cpu:1"):
            with pytest.raises(ModelError, match="device must be"):
                build_detector(device=device)

    def test_threads_are_those_asked_for(self) -> None:
        assert OnnxDetector(YUNET, threads=1)._session._session.get_session_options().intra_op_num_threads == 1


class TestBuildDetector:
    def test_the_default_is_the_bundled_model(self, solvay: np.ndarray) -> None:
        detector: Detector = build_detector()
        assert detector.options == DetectorOptions("yunet_n", None, None, 0.76, 0.4, 640, None, None, None, None)
        assert same(detector.detect(solvay), OnnxDetector(YUNET).detect(solvay))

    def test_official_weights_are_said_to_be_not_bundled_and_how_to_pass_them(self) -> None:
        for name in (name for name in MODELS if name.startswith("scrfd")):
            with pytest.raises(
                ModelError, match=rf"{name} needs weights.*non-commercial research.*convert_insightface"
            ):
                build_detector(name)

    @pytest.mark.parametrize(
        ("model", "weights", "message"),
        [
            ("scrfd_2g", None, r"unknown model 'scrfd_2g'; did you mean scrfd_\S+\? Known: yunet_n, scrfd_34g"),
            ("model.engine", None, r"unknown model 'model\.engine'"),
            ("epoch_640.pth", None, r"epoch_640\.pth is a checkpoint: pass it as weights"),
            ("a.onnx", "b.onnx", r"a\.onnx contains its own weights"),
            ("scrfd_34g.py", None, r"scrfd_34g\.py is a config and needs its checkpoint"),
            ("scrfd_34g", "weights.zip", r"must be an \.onnx or \.pth file, not weights\.zip"),
            ("scrfd_34g", "gone.onnx", r"gone\.onnx: no such model file"),
        ],
    )
    def test_a_wrong_combination_says_what_would_be_right(self, model: str, weights: str | None, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            build_detector(model, weights)

    def test_a_zoo_name_with_onnx_weights_runs_them(self, data: Path) -> None:
        detector = build_detector("scrfd_0.5g_kps", data / "weights/scrfd_500m_bnkps.onnx", input_size="auto")
        assert isinstance(detector, OnnxDetector)
        assert detector.options.input_size == "auto"

    def test_a_checkpoint_without_the_training_half_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "facedet_mm.plugin.apis.torch_detector", None)
        for model in ("scrfd_0.5g_kps", "configs/scrfd_0.5g_kps.py"):
            with pytest.raises(MissingDependencyError, match=r"pip install 'facedet-mm\[train\]'"):
                build_detector(model, "weights.pth")

    def test_a_checkpoint_goes_to_the_torch_detector_with_all_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import types

        stub = types.SimpleNamespace(TorchDetector=lambda config, **options: (config, options))
        monkeypatch.setitem(sys.modules, "facedet_mm.plugin.apis.torch_detector", stub)
        options = {"device": "cpu", "score_thr": 0.1, "iou_thr": 0.2, "input_size": 320, "max_faces": 7, "tiles": 640}
        for model, config in (("scrfd_1g", config_path("scrfd_1g")), ("my.py", "my.py")):
            expected = DetectorOptions(model, "w.pth", **options)
            assert build_detector(model, "w.pth", **options) == (config, vars(expected))


class TestZoo:
    def test_the_bundled_model_is_the_one_in_the_table(self) -> None:
        entry = find_model("yunet_n")
        assert hashlib.sha256(asset_path(entry.file).read_bytes()).hexdigest() == entry.sha256
        assert asset_path("yunet_n_dynamic.LICENSE").is_file()

    def test_only_the_apache_model_is_bundled_and_every_other_has_a_config(self) -> None:
        assert len(MODELS) == 9
        for name, entry in MODELS.items():
            assert name == entry.name
            assert (entry.file is not None) == (entry.license == "Apache-2.0")
            assert entry.landmarks == (name == "yunet_n" or name.endswith("_kps"))
            if entry.config:
                assert config_path(name).name == f"{name}.py"


MEMORY = """
import os, sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from facedet_mm.detectors import OnnxDetector
from facedet_mm.io.images import read_image

def resident_megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

detector = OnnxDetector(sys.argv[1], input_size=64, threads=1, score_thr=0.02)
image = read_image(sys.argv[2])
images = [image[y : y + 60 + y // 40, 300:364].copy() for y in range(0, 2000, 200)]
for size in ["auto", 64, (96, 64)] * 100:
    detector.replace(input_size=size).detect(images[0][:50])

def detect(rounds):
    for _ in range(rounds):
        for image in images:
            detector.detect(image)
    return resident_megabytes()

settled = detect(100)
print(detect(1000) - settled)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux's /proc")
def test_memory_does_not_grow_over_ten_thousand_calls() -> None:
    # In a process of its own: in this one other tests' threads take and give back memory at the same time.
    command = [sys.executable, "-c", MEMORY, str(YUNET), str(asset_path("solvay_1927.jpg"))]
    grown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert float(grown) < 2


@pytest.mark.parametrize(("size", "runs"), [(224, [8, 2]), (320, [4, 4, 2]), (640, [1] * 10), (960, [1] * 10)])
def test_a_cpu_gets_no_more_pixels_at_a_time_than_are_faster_together(size: int, runs: list[int], monkeypatch) -> None:
    detector = OnnxDetector(YUNET, input_size=size, close_ups=False)
    seen, run = [], detector._session.run
    monkeypatch.setattr(detector._session, "run", lambda blob: seen.append(len(blob)) or run(blob))
    detector.detect_batch([np.zeros((90, 90, 3), np.uint8)] * 10)
    assert seen == runs


def test_what_is_no_cpu_gets_whole_batches() -> None:
    network = NetworkInput("a", YUNET_NORMALIZATION)
    assert [network.batch_size((side, side)) for side in (320, 2000)] == [8, 8]
    assert [replace(network, batch=batch).batch_size((320, 320)) for batch in (1, 16)] == [1, 16]
