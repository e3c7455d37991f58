"""Training transforms, on numbers."""

from __future__ import annotations

import random
from collections import Counter

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

pytest.importorskip("mmdet")

import torch
from mmdet.datasets.transforms import PhotoMetricDistortion
from mmdet.structures.bbox import HorizontalBoxes

from facedet_mm.imaging import augmentation as imaging
from facedet_mm.plugin.datasets.transforms import (
    FaceBoxes,
    FacePhotoMetricDistortion,
    KeepRatioResize,
    LoadFaceAnnotations,
    PackFaceInputs,
    RandomFaceErasing,
    RandomFaceFlip,
    RandomFaceRotation,
    RandomGammaDark,
    RandomGaussianBlur,
    RandomJPEG,
    RandomSquareCrop,
    geometry,
)
from facedet_mm.plugin.datasets.transforms import photometric as photometric_module

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
"""BGR of the five landmarks in an image of :func:`face_image`."""


@pytest.fixture(autouse=True)
def _seed():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def results(image: np.ndarray, boxes: list, ignore: list | None = None, keypoints: np.ndarray | None = None) -> dict:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    points = np.zeros((n, 5, 2), np.float32) if keypoints is None else keypoints.astype(np.float32)
    weights = np.ones((n, 5, 1), np.float32)
    return {
        "img": image,
        "img_shape": image.shape[:2],
        "ori_shape": image.shape[:2],
        "gt_bboxes": FaceBoxes(torch.from_numpy(boxes), np.concatenate([points, weights], 2)),
        "gt_bboxes_labels": np.zeros(n, np.int64),
        "gt_ignore_flags": np.zeros(n, bool) if ignore is None else np.array(ignore, bool),
    }


def face_image(height: int, width: int) -> dict:
    """A black image with one white face; each landmark is a block of its own color."""
    image = np.zeros((height, width, 3), np.uint8)
    x, y = width // 2 - 40, height // 2 - 45
    image[y : y + 90, x : x + 80] = 255
    points = np.array([[x + 20, y + 26], [x + 60, y + 26], [x + 40, y + 46], [x + 24, y + 70], [x + 56, y + 70]])
    for (px, py), color in zip(points, COLORS, strict=True):
        image[py - 6 : py + 6, px - 6 : px + 6] = color
    return results(image, [[x, y, x + 80, y + 90]], keypoints=points[None])


def block_center(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    rows, columns = np.nonzero((np.abs(image.astype(int) - color) < 40).all(axis=2))
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


# Square crop


def test_a_square_inside_the_image_is_cut_out_and_resized():
    image = noise(300, 400)
    expected = cv2.resize(image[50:170, 200:320], (256, 256), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(imaging.crop_square(image, 200, 50, 120, 256), expected)


def test_a_square_beyond_the_image_is_what_padding_first_and_resizing_then_gives():
    image = noise(300, 400)
    padded = cv2.copyMakeBorder(image, 120, 180, 60, 140, cv2.BORDER_CONSTANT, value=(128, 128, 128))
    expected = cv2.resize(padded, (240, 240), interpolation=cv2.INTER_LINEAR).astype(int)
    square = imaging.crop_square(image, -60, -120, 600, 240)
    top, bottom, left, right = 48, 168, 24, 184  # the image in the result: 600 / 240 = 2.5 pixels to one
    inner = (slice(top + 1, bottom - 1), slice(left + 1, right - 1))
    assert np.abs(square[inner] - expected[inner]).max() <= 1
    outside = np.ones((240, 240), bool)
    outside[top:bottom, left:right] = False
    assert (square[outside] == 128).all()


@pytest.mark.parametrize("side", [333, 457, 599])
def test_a_padded_square_samples_where_its_geometry_says_at_any_scale(side):
    size = 256
    image = cv2.GaussianBlur(noise(300, 400), (0, 0), 2)
    left = float(image.shape[1] - side) // 2 if side < 400 else -20 * side / size
    top = -3 * side / size
    square = imaging.crop_square(image, left, top, side, size)
    grid = (np.arange(size) + 0.5) * side / size - 0.5
    rows, columns = np.meshgrid(grid + top, grid + left, indexing="ij")
    inner = (rows > 1) & (rows < 298) & (columns > 1) & (columns < 398) & (columns - left < side - 1)
    for channel in range(3):
        expected = map_coordinates(image[..., channel].astype(float), [rows[inner], columns[inner]], order=1)
        assert np.abs(square[..., channel][inner] - expected).max() < 1.01


@pytest.mark.parametrize("scale", [0.3, 0.6, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("shape", [(480, 640), (640, 480)])
def test_boxes_and_landmarks_stay_on_the_pixels_they_were_on(scale, shape):
    transform = RandomSquareCrop(scales=[scale], size=640)
    checked = 0
    for _ in range(10):
        out = transform(face_image(*shape))
        box, points = out["gt_bboxes"].numpy()[0], out["gt_bboxes"].keypoints[0]
        if box.min() < 5 or box.max() > 635:
            continue
        checked += 1
        rows, columns = np.nonzero(out["img"].max(axis=2) > 135)
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == pytest.approx(box, abs=1.5)
        for point, color in zip(points, COLORS, strict=True):
            assert block_center(out["img"], color) == pytest.approx(point, abs=1.5)
    assert checked


def test_exactly_the_faces_whose_center_is_inside_are_kept_and_no_box_is_clipped():
    rng = np.random.default_rng(1)
    corners = rng.uniform(-20, 400, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 90, (60, 2))], axis=1).astype(np.float32)
    ignore = rng.random(60) < 0.3
    transform = RandomSquareCrop(size=320)
    reached_outside = False
    for _ in range(200):
        data = results(np.zeros((300, 400, 3), np.uint8), boxes, ignore, np.tile(boxes[:, None, :2], (1, 5, 1)))
        data["gt_bboxes_labels"] = np.arange(60)
        out = transform(data)
        kept, moved = out["gt_bboxes_labels"], out["gt_bboxes"].numpy()
        factor = out["scale_factor"][0]
        origin = boxes[kept[0], :2] - moved[0, :2] / factor
        everywhere = (boxes - np.tile(origin, 2)) * factor
        centers = (everywhere[:, :2] + everywhere[:, 2:]) / 2
        inside = ((centers > 1e-3) & (centers < 320 - 1e-3)).all(axis=1)
        assert kept.tolist() == np.flatnonzero(inside).tolist()
        np.testing.assert_allclose(moved, everywhere[kept], atol=1e-2)
        np.testing.assert_allclose(out["gt_bboxes"].keypoints[:, 0], everywhere[kept, :2], atol=1e-2)
        assert out["gt_ignore_flags"].tolist() == ignore[kept].tolist()
        assert len(out["gt_bboxes"].keypoints_visible) == len(kept)
        reached_outside |= moved.min() < -5 and moved.max() > 325
    assert reached_outside


def test_every_square_holds_a_face_that_counts():
    transform = RandomSquareCrop(size=64)
    for _ in range(500):
        out = transform(
            results(np.zeros((200, 900, 3), np.uint8), [[10, 10, 14, 15], [700, 50, 900, 150]], [False, True])
        )
        assert (~out["gt_ignore_flags"]).sum() == 1


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [899, 199, 900, 200], [450, 100, 451, 101], [880, 0, 899, 9]])
def test_when_no_attempt_hits_the_square_is_put_around_a_face(box):
    transform = RandomSquareCrop(scales=[0.05], size=64, attempts=1)
    for _ in range(200):
        out = transform(results(np.zeros((200, 900, 3), np.uint8), [box]))
        assert len(out["gt_bboxes"]) == 1


@pytest.mark.parametrize("ignore", [[], [True]])
def test_an_image_without_a_face_that_counts_is_cropped_at_the_first_attempt(ignore, monkeypatch):
    starts = []
    original = geometry._random_start
    monkeypatch.setattr(geometry, "_random_start", lambda *args: starts.append(args) or original(*args))
    boxes = [[10, 10, 20, 20]] * len(ignore)
    out = RandomSquareCrop(size=64)(results(noise(100, 150), boxes, ignore))
    assert out["img"].shape == (64, 64, 3)
    assert len(starts) == 2


def test_a_face_beside_the_image_does_not_stop_the_crop():
    out = RandomSquareCrop(scales=[0.5], size=64)(results(noise(100, 150), [[-30, -30, -10, -10]]))
    assert len(out["gt_bboxes"]) == 0
    assert out["img"].shape == (64, 64, 3)


def test_scales_are_drawn_evenly_and_squares_lie_inside_or_around_the_image():
    transform = RandomSquareCrop(size=640)
    sides = Counter()
    lefts = {True: [], False: []}
    for _ in range(5000):
        (left, top), side = transform._choose_square((500, 400), np.zeros((0, 2), np.float32))
        sides[side] += 1
        lefts[side <= 500].append(left / (500 - side) if side != 500 else 0.5)
        assert min(0, 400 - side) - 1e-6 <= top <= max(0, 400 - side)
        whole = top if side <= 400 else top * 640 / side  # around the image: on a whole pixel of the result
        assert whole == pytest.approx(round(whole), abs=1e-6)
    assert sorted(sides) == [int(s * 400) for s in (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)]
    assert min(sides.values()) > 400
    assert max(sides.values()) < 600
    for relative in lefts.values():  # uniform from one end to the other
        assert np.quantile(relative, [0.02, 0.5, 0.98]) == pytest.approx([0.02, 0.5, 0.98], abs=0.04)


def test_without_a_size_the_square_keeps_its_own():
    image = noise(100, 150)
    out = RandomSquareCrop(scales=[0.5], size=None)(results(image, []))
    assert out["img_shape"] == out["img"].shape[:2] == (50, 50)
    windows = np.lib.stride_tricks.sliding_window_view(image, (50, 50, 3)).reshape(-1, 50, 50, 3)
    assert (windows == out["img"]).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2000, 2)])
def test_images_of_a_few_pixels_are_cropped_too(shape):
    for scale in (0.3, 1.0, 2.0):
        out = RandomSquareCrop(scales=[scale], size=64)(results(np.zeros((*shape, 3), np.uint8), []))
        assert out["img"].shape == (64, 64, 3)


@pytest.mark.parametrize("arguments", [{"scales": []}, {"scales": [0.5, -1]}, {"attempts": 0}])
def test_a_crop_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandomSquareCrop(**arguments)


# Resize and flip


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10, 20_000), (1, 640)), ((20_000, 10), (640, 1)), ((100, 50), (640, 320)), ((683, 1024), (427, 640))],
)
def test_a_resized_image_fits_and_never_vanishes(shape, expected):
    out = KeepRatioResize(scale=(640, 640))({"img": np.zeros((*shape, 3), np.uint8)})
    assert out["img"].shape[:2] == out["img_shape"] == expected
    assert out["scale_factor"] == (expected[1] / shape[1], expected[0] / shape[0])


def test_resizing_moves_boxes_and_landmarks_by_the_exact_factor_of_each_axis():
    points = np.array([[[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]]])
    out = KeepRatioResize(scale=(64, 64))(results(noise(99, 101), [[-5, 10, 50, 60]], keypoints=points))
    sx, sy = 64 / 101, int(99 * 64 / 101 + 0.5) / 99
    assert out["gt_bboxes"].numpy()[0] == pytest.approx([-5 * sx, 10 * sy, 50 * sx, 60 * sy], rel=1e-6)
    np.testing.assert_allclose(out["gt_bboxes"].keypoints, points * [sx, sy], rtol=1e-6)


def test_a_scale_factor_of_one_leaves_the_image():
    image = noise(33, 47)
    np.testing.assert_array_equal(KeepRatioResize(scale_factor=1.0)({"img": image})["img"], image)


def test_a_flip_mirrors_pixels_boxes_and_swaps_left_and_right_landmarks():
    data = face_image(200, 300)
    data["img"][:, :100] = 77
    box, points = data["gt_bboxes"].numpy()[0].copy(), data["gt_bboxes"].keypoints[0].copy()
    data["gt_bboxes"].keypoints_visible[0] = [0.1, 0.2, 0.3, 0.4, 0.5]
    out = RandomFaceFlip(prob=1.0)(data)
    assert (out["img"][:, 200:] == 77).all()
    assert out["gt_bboxes"].numpy()[0].tolist() == [300 - box[2], box[1], 300 - box[0], box[3]]
    mirrored = points * [-1, 1] + [300, 0]
    assert out["gt_bboxes"].keypoints[0].tolist() == mirrored[[1, 0, 2, 4, 3]].tolist()
    assert out["gt_bboxes"].keypoints_visible[0].tolist() == pytest.approx([0.2, 0.1, 0.3, 0.5, 0.4])
    assert out["gt_bboxes"].keypoints[0, 0, 0] < out["gt_bboxes"].keypoints[0, 1, 0]
    assert (out["flip"], out["flip_direction"]) == (True, "horizontal")
    for i, color in enumerate(COLORS):
        place = [1, 0, 2, 4, 3].index(i)
        assert block_center(out["img"], color) == pytest.approx(out["gt_bboxes"].keypoints[0, place], abs=0.6)


def test_two_flips_restore_everything():
    data, plain = face_image(200, 300), face_image(200, 300)
    flip = RandomFaceFlip(prob=1.0)
    out = flip(flip(data))
    np.testing.assert_array_equal(out["img"], plain["img"])
    np.testing.assert_array_equal(out["gt_bboxes"].numpy(), plain["gt_bboxes"].numpy())
    np.testing.assert_array_equal(out["gt_bboxes"].keypoints, plain["gt_bboxes"].keypoints)


def test_half_of_the_images_are_flipped_by_default():
    flip = RandomFaceFlip()
    flipped = sum(flip({"img": np.zeros((2, 2, 3), np.uint8)})["flip"] for _ in range(2000))
    assert 900 < flipped < 1100


# Rotation


def turned_by(monkeypatch: pytest.MonkeyPatch, degrees: float, data: dict) -> dict:
    monkeypatch.setattr(random, "uniform", lambda low, high: degrees)  # noqa: ARG005
    return RandomFaceRotation(prob=1.0)(data)


def test_a_quarter_turn_moves_pixels_boxes_and_landmarks_exactly(monkeypatch):
    data = face_image(300, 300)
    data["img"][:40] = 77
    data["gt_bboxes"].tensor = torch.tensor([[110.0, 105, 190, 195]])
    data["gt_bboxes"].keypoints[:] += [0, 3]
    points = data["gt_bboxes"].keypoints[0].copy()
    image = data["img"].copy()
    out = turned_by(monkeypatch, 90, data)
    np.testing.assert_array_equal(out["img"], np.rot90(image, -1))
    assert out["gt_bboxes"].numpy().tolist() == [[105, 110, 195, 190]]
    assert out["gt_bboxes"].keypoints[0].tolist() == [[300 - y, x] for x, y in points.tolist()]


@pytest.mark.parametrize("degrees", [-150.0, 30.0, 45.0, 100.0])
def test_each_landmark_stays_on_its_own_color_at_any_angle(degrees, monkeypatch):
    data = face_image(320, 400)
    data["gt_bboxes"].keypoints_visible[0] = [0.1, 0.2, 0.3, 0.4, 0.5]
    out = turned_by(monkeypatch, degrees, data)
    assert out["img"].shape == (320, 400, 3)
    for point, color in zip(out["gt_bboxes"].keypoints[0], COLORS, strict=True):
        assert block_center(out["img"], color) == pytest.approx(point, abs=0.6)
    assert out["gt_bboxes"].keypoints_visible[0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    left, right = out["gt_bboxes"].keypoints[0, :2]
    assert np.degrees(np.arctan2(*(right - left)[::-1])) == pytest.approx(degrees, abs=0.01)


@pytest.mark.parametrize("degrees", [-150.0, 30.0, 45.0, 90.0])
def test_a_turned_box_has_the_half_sides_of_the_turned_ellipse(degrees, monkeypatch):
    out = turned_by(monkeypatch, degrees, results(noise(200, 300), [[100, 60, 180, 150]]))
    x1, y1, x2, y2 = out["gt_bboxes"].numpy()[0]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    assert (x2 - x1) / 2 == pytest.approx(np.hypot(40 * cos, 45 * sin), rel=1e-5)
    assert (y2 - y1) / 2 == pytest.approx(np.hypot(40 * sin, 45 * cos), rel=1e-5)
    assert (x1 + x2) / 2 == pytest.approx(150 + (140 - 150) * cos - (105 - 100) * sin, rel=1e-5)
    assert (y1 + y2) / 2 == pytest.approx(100 + (140 - 150) * sin + (105 - 100) * cos, rel=1e-5)


def test_faces_that_leave_the_image_are_dropped_with_all_that_belongs_to_them(monkeypatch):
    boxes = [[0, 0, 40, 40], [180, 80, 220, 120], [350, 90, 390, 110]]
    data = results(noise(200, 400), boxes, ignore=[False, False, True])
    data["gt_bboxes"].keypoints[:] += np.arange(3)[:, None, None]
    data["gt_bboxes"].keypoints_visible[:] *= np.arange(3)[:, None]
    out = turned_by(monkeypatch, 90, data)
    assert out["gt_bboxes"].numpy().tolist() == [[180, 80, 220, 120]]
    assert out["gt_ignore_flags"].tolist() == [False]
    assert out["gt_bboxes"].keypoints_visible.tolist() == [[1.0] * 5]
    assert out["gt_bboxes"].keypoints.shape == (1, 5, 2)
    assert len(out["gt_bboxes_labels"]) == 1


@pytest.mark.parametrize(("ignore", "turned"), [([False], False), ([True], True)])
def test_an_image_that_would_lose_its_last_face_that_counts_stays(ignore, turned, monkeypatch):
    data = results(noise(100, 400), [[0, 30, 40, 70]], ignore=ignore)
    image = data["img"].copy()
    out = turned_by(monkeypatch, 90, data)
    assert len(out["gt_bboxes"]) == 1 - turned
    assert (out["img"] != image).any() == turned


def test_angles_are_drawn_evenly_to_both_sides_for_the_asked_share_of_images(monkeypatch):
    drawn, rotation = [], geometry.Rotation
    monkeypatch.setattr(
        geometry, "Rotation", lambda *args, **kwargs: drawn.append(args[1]) or rotation(*args, **kwargs)
    )
    for _ in range(2000):
        RandomFaceRotation(degrees=30, prob=0.25)(results(np.zeros((8, 8, 3), np.uint8), [[2, 2, 6, 6]]))
    assert 430 < len(drawn) < 570
    assert (min(drawn), max(drawn)) == pytest.approx((-30, 30), abs=1)
    assert abs(np.mean(drawn)) < 3


@pytest.mark.parametrize("arguments", [dict(degrees=0), dict(degrees=181), dict(degrees=-5), dict(prob=1.5)])
def test_a_rotation_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        RandomFaceRotation(**arguments)


# Colors


def every_color() -> np.ndarray:
    """(64, 512, 3) uint8: all combinations of 32 levels a channel, black and white included."""
    levels = np.rint(np.linspace(0, 255, 32)).astype(np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 512, 3)


def stock(image: np.ndarray, flags: tuple) -> np.ndarray:
    transform = PhotoMetricDistortion()
    transform._random_flags = lambda: flags
    return transform.transform({"img": image.copy()})["img"]


def ours(image: np.ndarray, flags: tuple) -> np.ndarray:
    _, bright, contrasted, saturated, turned, swapped, delta, alpha, factor, hue, order = flags
    out = imaging.distort_colors(
        image,
        brightness=delta if bright else 0,
        contrast=alpha if contrasted else 1,
        saturation=factor if saturated else 1,
        hue=hue if turned else 0,
        channels=order if swapped else (0, 1, 2),
    )
    assert out.dtype == np.uint8
    return out.astype(float)


@pytest.mark.parametrize("hue", [-18, -17.3, -0.4, 0.5, 9.1, 18])
@pytest.mark.parametrize("saturation", [0.5, 0.83, 1.0, 1.21, 1.5])
def test_hue_and_saturation_are_those_of_the_float_transform_to_rounding(hue, saturation):
    flags = (0, 0, 0, saturation != 1, 1, 0, 0, 1, saturation, hue, (0, 1, 2))
    difference = np.abs(ours(every_color(), flags) - stock(every_color(), flags))
    assert difference.max() < 2.5
    assert difference.mean() < 0.35


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("contrast", [0.5, 0.9, 1.1, 1.5])
def test_contrast_first_or_last_is_that_of_the_float_transform_to_rounding(mode, contrast):
    flags = (mode, 0, 1, 1, 1, 0, 0, contrast, 1.3, 11.0, (0, 1, 2))
    expected = stock(every_color(), flags).clip(0, 255)
    difference = np.abs(ours(every_color(), flags) - expected)
    assert difference.max() < 4  # rounding before the contrast of up to 1.5 included
    assert difference.mean() < 0.6


@pytest.mark.parametrize("delta", [-32, -7.4, 15.2, 32])
@pytest.mark.parametrize("contrast", [0.5, 1.0, 1.5])
def test_brightness_and_contrast_alone_are_exact_to_half_a_level(delta, contrast):
    flags = (1, 1, 1, 0, 0, 0, delta, contrast, 1, 0, (0, 1, 2))
    expected = ((every_color().astype(float) + delta) * contrast).clip(0, 255)
    assert np.abs(ours(every_color(), flags) - expected).max() <= 0.5 + 1e-3


def test_channels_are_swapped_as_in_the_float_transform():
    for order in ((1, 2, 0), (2, 1, 0), (0, 2, 1)):
        flags = (0, 0, 0, 1, 1, 1, 0, 1, 0.7, 14.0, order)
        assert np.abs(ours(every_color(), flags) - stock(every_color(), flags)).max() < 2.1
    flags = (0, 0, 0, 0, 0, 1, 0, 1, 1, 0, (2, 0, 1))
    np.testing.assert_array_equal(ours(every_color(), flags), every_color()[..., [2, 0, 1]])


def test_a_photograph_differs_from_the_float_transform_by_less_than_a_level(data):
    image = cv2.resize(cv2.imread(str(data / "images" / "obama_and_biden.jpg")), (640, 457))
    transform = PhotoMetricDistortion()
    differences = []
    for _ in range(60):
        flags = transform._random_flags()
        expected = stock(image, flags).clip(0, 255)
        differences.append(np.abs(ours(image, flags) - expected).mean())
    assert np.mean(differences) < 0.5
    assert max(differences) < 2


def test_distortions_are_drawn_like_those_of_the_float_transform(monkeypatch):
    drawn = []
    monkeypatch.setattr(photometric_module, "distort_colors", lambda image, **change: drawn.append(change) or image)
    transform = FacePhotoMetricDistortion()
    for _ in range(4000):
        transform({"img": np.zeros((1, 1, 3), np.uint8)})
    neutral = {"brightness": 0, "contrast": 1, "saturation": 1, "hue": 0}
    for name, low, high in (
        ("brightness", -32, 32),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -18, 18),
    ):
        values = np.array([change[name] for change in drawn if change[name] != neutral[name]])
        assert 0.46 < len(values) / len(drawn) < 0.54
        quantiles = np.quantile((values - low) / (high - low), [0.01, 0.5, 0.99])
        assert quantiles == pytest.approx([0.01, 0.5, 0.99], abs=0.04)
    orders = Counter(tuple(change["channels"]) for change in drawn)
    assert len(orders) == 6
    assert 0.54 < orders[(0, 1, 2)] / len(drawn) < 0.63  # half of them, and a sixth of the other half


def test_a_distorted_image_leaves_the_original_alone():
    image = every_color()
    imaging.distort_colors(image, 20, 1.3, 0.6, 10, (2, 1, 0))
    np.testing.assert_array_equal(image, every_color())


def test_a_hue_beyond_the_range_is_refused():
    with pytest.raises(ValueError, match="30 degrees"):
        FacePhotoMetricDistortion(hue_delta=40)


# Degradation


def test_gamma_darkens_by_its_formula():
    out = RandomGammaDark(gamma=(2.0, 2.0), prob=1.0)({"img": np.array([[[0, 128, 255]]], np.uint8)})["img"]
    assert out.tolist() == [[[0, round(255 * (128 / 255) ** 2), 255]]]


@pytest.mark.parametrize("sigma", [0.5, 1.3, 3.0])
def test_blur_spreads_a_step_by_its_standard_deviation(sigma):
    step = np.zeros((41, 81, 3), np.uint8)
    step[:, 40:] = 255
    out = RandomGaussianBlur(sigma=(sigma, sigma), prob=1.0)({"img": step})["img"]
    slope = np.diff(out[20, :, 0].astype(float))
    x = np.arange(80) - 39
    assert slope.sum() == 255
    # A step between two pixels is blurred by a sampled kernel: its variance is that of the kernel.
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    assert (slope * x**2).sum() / 255 == pytest.approx((kernel * x**2).sum(), rel=0.08)


def test_jpeg_images_are_those_that_a_decoder_sees(data):
    image = cv2.imread(str(data / "images" / "obama_and_biden.jpg"))[:300, :400]
    errors = []
    for quality in (20, 50, 80):
        out = RandomJPEG(quality=(quality, quality), prob=1.0)({"img": image})["img"]
        expected = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(out, expected)
        errors.append(np.abs(out.astype(int) - image).mean())
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize(
    ("transform", "low", "high"),
    [(RandomGaussianBlur(), 0.5, 3.0), (RandomJPEG(), 20, 80), (RandomGammaDark(), 1.5, 3.0)],
    ids=lambda value: type(value).__name__,
)
def test_a_fifth_of_the_images_is_degraded_by_strengths_over_the_whole_range(transform, low, high, monkeypatch):
    strengths = []
    monkeypatch.setattr(transform, "_degrade", lambda image, strength: strengths.append(strength) or image)
    for _ in range(5000):
        transform({"img": np.zeros((1, 1, 3), np.uint8)})
    assert 0.18 < len(strengths) / 5000 < 0.22
    assert low <= min(strengths) < low + 0.05 * (high - low)
    assert high >= max(strengths) > high - 0.05 * (high - low)


@pytest.mark.parametrize("arguments", [{"prob": 1.5}, {"sigma": (3.0, 0.5)}, {"sigma": (0, 1)}])
def test_a_degradation_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=r"between 0 and 1|range"):
        RandomGaussianBlur(**arguments)


def test_erasing_fills_patches_and_ignores_the_faces_under_them(monkeypatch):
    data = results(np.zeros((100, 100, 3), np.uint8), [[10, 10, 20, 20], [10, 10, 60, 60], [70, 70, 90, 90]])
    transform = RandomFaceErasing()
    monkeypatch.setattr(transform, "_get_patches", lambda _: np.array([[5, 5, 35, 25]]))
    out = transform(data)
    assert (out["img"][5:25, 5:35] == 128).all()
    assert (out["img"] == 128).all(axis=2).sum() == 20 * 30
    assert out["gt_ignore_flags"].tolist() == [True, False, False]
    assert len(out["gt_bboxes"]) == len(out["gt_bboxes"].keypoints) == len(out["gt_bboxes_labels"]) == 3


def test_erasing_sometimes_erases_nothing_and_never_fails():
    erased = Counter()
    for _ in range(200):
        out = RandomFaceErasing()(results(np.zeros((64, 64, 3), np.uint8), []))
        erased[bool(out["img"].any())] += 1
    assert 20 < erased[False] < 90


# Loading and packing


def test_annotations_become_columns_with_weight_zero_where_a_face_has_no_landmarks():
    points = [[i, i + 1] for i in range(5)]
    instances = [
        {"bbox": [1, 2, 3, 4], "bbox_label": 0, "ignore_flag": 0, "keypoints": points, "keypoints_visible": [1] * 5},
        {"bbox": [5, 6, 7, 8], "bbox_label": 0, "ignore_flag": 1},
    ]
    out = LoadFaceAnnotations()({"instances": instances})
    assert isinstance(out["gt_bboxes"], HorizontalBoxes)
    assert out["gt_bboxes"].numpy().tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert out["gt_bboxes"].tensor.dtype == torch.float32
    assert out["gt_bboxes_labels"].tolist() == [0, 0]
    assert out["gt_ignore_flags"].tolist() == [False, True]
    assert out["gt_bboxes"].keypoints.dtype == out["gt_bboxes"].keypoints_visible.dtype == np.float32
    assert out["gt_bboxes"].keypoints.tolist() == [points, [[0, 0]] * 5]
    assert out["gt_bboxes"].keypoints_visible.tolist() == [[1] * 5, [0] * 5]


def test_an_image_without_faces_gives_empty_columns():
    out = LoadFaceAnnotations()({"instances": []})
    assert out["gt_bboxes"].tensor.shape == (0, 4)
    assert out["gt_bboxes"].keypoints.shape == (0, 5, 2)
    assert out["gt_bboxes"].keypoints_visible.shape == (0, 5)


@pytest.mark.parametrize("planar", [False, True])
def test_packing_separates_ignored_faces_and_keeps_every_pixel(planar):
    image = noise(20, 30)
    points = np.arange(20).reshape(2, 5, 2)
    stored = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0) if planar else image
    data = results(stored, [[1, 2, 3, 4], [5, 6, 7, 8]], [True, False], points)
    data.update(img_path="a.jpg", img_id="a.jpg", scale_factor=(1.0, 1.0))
    packed = PackFaceInputs()(data)
    sample = packed["data_samples"]
    assert packed["inputs"].dtype == torch.uint8
    np.testing.assert_array_equal(packed["inputs"].numpy(), image.transpose(2, 0, 1))
    assert sample.gt_instances.bboxes.tensor.tolist() == [[5, 6, 7, 8]]
    assert sample.gt_instances.labels.tolist() == [0]
    assert sample.gt_instances.keypoints.tolist() == points[1:].tolist()
    assert sample.gt_instances.keypoints_visible.tolist() == [[1] * 5]
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[1, 2, 3, 4]]
    assert (sample.img_path, sample.img_shape, sample.scale_factor) == ("a.jpg", (20, 30), (1.0, 1.0))


# The whole


def test_the_same_seed_gives_the_same_image_and_another_seed_another():
    def run(seed: int) -> dict:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        data = results(noise(200, 300), [[50, 50, 150, 150]])
        for transform in (
            RandomSquareCrop(size=64),
            RandomFaceFlip(),
            RandomFaceRotation(),
            FacePhotoMetricDistortion(),
            RandomGaussianBlur(prob=0.5),
            RandomJPEG(prob=0.5),
            RandomGammaDark(prob=0.5),
            RandomFaceErasing(),
        ):
            data = transform(data)
        return data

    for seed in range(5):
        first, second = run(seed), run(seed)
        np.testing.assert_array_equal(first["img"], second["img"])
        np.testing.assert_array_equal(first["gt_bboxes"].numpy(), second["gt_bboxes"].numpy())
    assert len({run(seed)["img"].tobytes() for seed in range(5)}) == 5


def test_landmarks_stay_on_their_colors_through_crop_and_flip():
    transforms = [RandomSquareCrop(scales=[0.8, 1.0, 1.6], size=640), RandomFaceFlip(prob=0.5)]
    flips = Counter()
    for _ in range(12):
        data = face_image(480, 640)
        for transform in transforms:
            data = transform(data)
        box = data["gt_bboxes"].numpy()[0]
        if box.min() < 0 or box.max() > 640:
            continue
        flips[data["flip"]] += 1
        order = [1, 0, 2, 4, 3] if data["flip"] else range(5)
        for point, source in zip(data["gt_bboxes"].keypoints[0], order, strict=True):
            assert block_center(data["img"], COLORS[source]) == pytest.approx(point, abs=1.5)
    assert min(flips.values()) >= 1
    assert len(flips) == 2
