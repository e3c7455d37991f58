"""Attributes of faces: blur, light and borders that the test makes itself."""

from __future__ import annotations

import copy
import json
import pickle

import cv2
import numpy as np
import pytest

from facedet_mm import FaceDetError, Faces, build_detector
from facedet_mm.errors import ImageError
from facedet_mm.imaging.alignment import ARCFACE_TEMPLATE
from facedet_mm.imaging.attributes import ATTRIBUTE_NAMES, FaceAttributes
from facedet_mm.imaging.face_filter import FaceFilter
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A face that fills an image of 90 × 120 pixels."""
    (crop,) = Faces([[1947, 1041, 2037, 1161]], [0.9]).crop(read_image(asset_path("solvay_1927.jpg")))
    return crop


def scene(scale: float = 1, sigma: float = 0) -> np.ndarray:
    """Hard-edged ellipses and lines, drawn eight times as large and reduced: sharp at any size up to 8."""
    rng = np.random.default_rng(4)
    image = np.full((1600, 1600, 3), 128, np.uint8)
    for _ in range(120):
        center, axes = rng.integers(0, 1600, 2).tolist(), rng.integers(30, 300, 2).tolist()
        cv2.ellipse(image, center, axes, float(rng.uniform(0, 180)), 0, 360, rng.integers(0, 256, 3).tolist(), -1)
    if sigma:
        image = cv2.GaussianBlur(image, (0, 0), sigma * 1600)
    side = round(200 * scale)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def whole(image: np.ndarray) -> FaceAttributes:
    return Faces([[0, 0, *image.shape[1::-1]]], [0.9]).attributes(image)


@pytest.mark.parametrize("scale", [0.15, 0.25, 0.5, 1, 2, 4])
def test_a_sharp_image_is_sharp_at_any_size(scale: float) -> None:
    assert 0.8 < whole(scene(scale)).sharpness[0] <= 1


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.04])
def test_sharpness_tells_the_blur_as_a_share_of_the_face(sigma: float) -> None:
    values = [whole(scene(scale, sigma)).sharpness[0] for scale in (0.4, 0.6, 1, 2, 4)]
    assert max(values) - min(values) < 0.08


@pytest.mark.parametrize("sigma", [1, 2, 3])
@pytest.mark.parametrize("contrast", [20, 200])
def test_sharpness_of_a_blurred_edge_has_a_closed_form(sigma: float, contrast: int) -> None:
    edge = np.full((640, 640), 20, np.uint8)
    edge[:, 320:] += np.uint8(contrast)
    blurred = cv2.GaussianBlur(
        cv2.warpAffine(edge, np.float32([[1, 0.3, -96], [0, 1, 0]]), (640, 640)), (0, 0), 10 * sigma
    )
    assert whole(blurred).sharpness[0] == pytest.approx(1 / (1 + sigma**2), abs=0.05)


def test_sharpness_falls_with_every_blur_of_a_real_face(face: np.ndarray) -> None:
    values = [whole(cv2.GaussianBlur(face, (0, 0), sigma)).sharpness[0] for sigma in (0.5, 1, 2, 3, 5, 8)]
    assert (np.diff(values) < 0).all()
    assert values[0] > 2 * values[-1]


def test_light_does_not_change_sharpness(face: np.ndarray) -> None:
    dim = np.round(face * 0.5).astype(np.uint8)
    assert whole(dim).sharpness == pytest.approx(whole(face).sharpness, abs=0.02)
    assert whole(dim + np.uint8(100)).sharpness == pytest.approx(whole(dim).sharpness, abs=1e-6)


def test_sharpness_and_brightness_are_those_of_the_middle_of_the_box() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    image[15:85, 15:85] = (0, 0, 255)  # red has a luma of 0.299
    attributes = whole(image)
    assert attributes.sharpness[0] == 0
    assert attributes.brightness[0] == pytest.approx(0.299, abs=0.002)
    assert attributes.size[0] == 100


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ([10, 10, 60, 60], False), ([0, 10, 60, 60], True), ([10, 0.5, 60, 60], True), ([10, 10, 99.5, 60], True),
        ([10, 10, 60, 80], True), ([3, 3, 97, 77], False), ([-20, 10, 40, 60], True), ([10, 10, 60, 79.2], True),
        ([1.5, 2, 95, 75], True),
    ],
)  # fmt: skip
def test_a_face_at_the_border_is_cut(box: list[float], cut: bool) -> None:
    assert Faces([box], [0.9]).attributes(np.zeros((80, 100, 3), np.uint8)).cut.tolist() == [cut]


@pytest.mark.filterwarnings("error")
def test_odd_boxes_and_images_have_attributes() -> None:
    boxes = [[200, 200, 220, 220], [5, 5, 5, 9], [5, 5, 6, 6], [9, 9, 4, 4], [-1e9, -1e9, 1e9, 1e9]]
    for shape in ((40, 50), (40, 50, 1), (40, 50, 4), (1, 1, 3)):
        image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        attributes = Faces(boxes, [0.5] * 5).attributes(image)
        assert all(np.isfinite(getattr(attributes, name)).all() for name in ATTRIBUTE_NAMES[3:])
        assert attributes.brightness[0] == attributes.sharpness[0] == 0
        assert attributes.size[1] == attributes.size[3] == 0
    assert len(Faces.empty(landmarks=True).attributes(image)) == 0
    with pytest.raises(ImageError, match="must be uint8"):
        Faces(boxes, [0.5] * 5).attributes(np.zeros((4, 4)))


def test_columns_are_immutable_indexed_and_plain() -> None:
    points = [np.array(ARCFACE_TEMPLATE), np.zeros((5, 2))]
    attributes = Faces([[0, 0, 20, 20], [30, 30, 60, 60]], [0.9, 0.8], points).attributes(np.zeros((90, 90), np.uint8))
    for value in (attributes, copy.deepcopy(attributes), pickle.loads(pickle.dumps(attributes)), attributes[:]):
        with pytest.raises(ValueError, match="read-only"):
            value.size[0] = 3
        assert value.to_dict() == attributes.to_dict()
    assert attributes[[False, True]].size.tolist() == attributes[[1]].size.tolist() == [30]
    plain = attributes.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["yaw"][1], plain["cut"]) == (None, [True, False])
    assert list(plain) == list(ATTRIBUTE_NAMES)


def test_a_filter_names_the_first_setting_that_leaves_a_face_out() -> None:
    turned = np.array(ARCFACE_TEMPLATE)
    turned[2, 0] += 15
    points = [
        ARCFACE_TEMPLATE,
        ARCFACE_TEMPLATE,
        turned,
        np.array(ARCFACE_TEMPLATE)[:, ::-1] * [-1, 1],
        np.ones((5, 2)),
    ]
    boxes = [[10, 10, 60, 60], [10, 10, 20, 20], [10, 10, 60, 60], [10, 10, 60, 60], [10, 10, 60, 60]]
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    attributes = Faces(boxes, [0.9] * 5, points).attributes(image)
    few = FaceFilter(min_size=40, max_yaw=30, max_roll=45)
    assert few.reasons(attributes) == ["", "min_size", "max_yaw", "max_roll", "max_yaw"]
    assert FaceFilter(min_sharpness=1).reasons(attributes) == ["min_sharpness"] * 5
    assert FaceFilter(min_size=0, max_roll=180).reasons(attributes) == ["", "", "", "", "max_roll"]
    assert FaceFilter().reasons(attributes) == [""] * 5
    assert not FaceFilter().filters
    assert FaceFilter(max_roll=0).filters


@pytest.mark.parametrize("name", ["max_yaw", "max_roll"])
def test_a_filter_by_pose_needs_landmarks(name: str) -> None:
    image = np.zeros((90, 90, 3), np.uint8)
    with pytest.raises(FaceDetError, match=r"is known from its landmarks, and this model predicts none"):
        FaceFilter(**{name: 20}).reasons(Faces([[0, 0, 9, 9]], [0.5]).attributes(image))
    assert FaceFilter(**{name: 20}).reasons(Faces.empty().attributes(image)) == []


@pytest.mark.parametrize(
    "setting", [{"max_yaw": 181}, {"max_roll": -1}, {"min_size": float("nan")}, {"min_sharpness": 2}, {"max_yaw": "a"}]
)
def test_a_limit_that_no_face_can_have_is_refused(setting: dict[str, object]) -> None:
    with pytest.raises(FaceDetError, match=f"{next(iter(setting))} must be a number"):
        FaceFilter(**setting)  # type: ignore[arg-type]


def test_the_documented_share_of_faces_that_the_border_cuts_is_told() -> None:
    image, detector = read_image(asset_path("solvay_1927.jpg")), build_detector(score_thr=0.6, input_size=1280)
    faces = detector.detect(image)
    assert not faces.attributes(image).cut.any()
    told = found = 0
    for x1, y1, x2, y2 in faces.boxes[::3].astype(int).tolist():
        cut = detector.detect(image[max(0, y1 - 300) : y2 + 300, x1 + (x2 - x1) // 5 : x2 + 600])
        here = cut[(cut.boxes[:, 0] < (x2 - x1) / 2) & (np.abs(cut.boxes[:, 1] - min(300, y1)) < (y2 - y1) / 2)]
        found += len(here)
        told += int(here.attributes(image[max(0, y1 - 300) : y2 + 300, x1 + (x2 - x1) // 5 : x2 + 600]).cut.sum())
    assert found >= 5
    assert told >= 0.85 * found
