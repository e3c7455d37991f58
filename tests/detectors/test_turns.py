"""Turned and mirrored copies of an image, and the way back for what is found in them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from facedet_mm.detectors.preprocess import Letterbox, fit
from facedet_mm.detectors.turns import Turn
from facedet_mm.detectors.views import View, ViewPlan, limited
from facedet_mm.structures import Faces

GRAY = (127, 127, 127)
ANGLES = (0.0, 22.0, 45.0, 90.0, 133.7, 180.0, 270.0, 338.0, 359.999)
SIZE = (120, 80)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


def dot(x: float, y: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth dot around a point, in pixels counted from the top left corner."""
    rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
    values = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3**2))
    return np.repeat(values.round().astype(np.uint8)[..., None], 3, axis=2)


def center(image: np.ndarray) -> tuple[float, float]:
    weights = image[..., 0].astype(float)
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return (columns * weights).sum() / weights.sum(), (rows * weights).sum() / weights.sum()


class TestApply:
    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90, 450])
    def test_quarter_turns_are_those_of_numpy(self, degrees: float, mirrored: bool) -> None:
        image = noise(13, 8)
        copy = Turn((13, 8), degrees, mirrored).apply(image, GRAY)
        expected = np.rot90(image[:, ::-1] if mirrored else image, degrees // 90)
        assert np.array_equal(copy, expected)

    @pytest.mark.parametrize("degrees", ANGLES)
    def test_the_copy_has_the_size_that_it_says_and_is_padded(self, degrees: float) -> None:
        turn = Turn((40, 25), degrees)
        copy = turn.apply(np.zeros((50, 80, 3), np.uint8), (1, 2, 3))
        assert copy.shape == (turn.turned_size[1], turn.turned_size[0], 3)
        width, height = (abs(f(math.radians(degrees))) for f in (math.cos, math.sin))
        assert turn.turned_size == pytest.approx((40 * width + 25 * height, 40 * height + 25 * width), abs=1)
        if 1 < degrees % 90 < 89:
            assert copy[0, 0].tolist() == [1, 2, 3]

    def test_quarter_turns_of_what_fits_are_no_copy_at_zero_degrees(self) -> None:
        image = noise(*SIZE)
        assert Turn(SIZE).apply(image, GRAY) is image


class TestRestore:
    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("degrees", ANGLES)
    def test_a_dot_comes_back_to_its_place(self, degrees: float, mirrored: bool) -> None:
        x, y = 71.3, 32.6
        turn = Turn(SIZE, degrees, mirrored)
        u, v = center(turn.apply(dot(x, y), (0, 0, 0)))
        found = turn.restore(Faces([[u - 4, v - 6, u + 4, v + 6]], [0.9], np.tile([u, v], (1, 5, 1))))
        assert (found.boxes[0, :2] + found.boxes[0, 2:]) / 2 == pytest.approx([x, y], abs=0.1)
        assert found.landmarks[0] == pytest.approx(np.tile([x, y], (5, 1)), abs=0.1)

    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_a_box_turned_by_quarters_comes_back_exactly(self, degrees: float) -> None:
        mask = np.zeros((80, 120, 3), np.uint8)
        mask[20:50, 30:40] = 255
        turn = Turn(SIZE, degrees)
        rows, columns = np.nonzero(turn.apply(mask, (0, 0, 0))[..., 0])
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert turn.restore(Faces([box], [1])).boxes.tolist() == [[30, 20, 40, 50]]

    @pytest.mark.parametrize("degrees", ANGLES)
    def test_the_box_is_that_of_the_turned_ellipse(self, degrees: float) -> None:
        size, box = (400, 400), np.array([150.0, 120.0, 210.0, 220.0])
        turn = Turn(size, degrees)
        offset = (np.array(turn.turned_size) - 400) / 2
        around = np.linspace(0, 2 * np.pi, 100_000)
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        angle = np.radians(degrees)
        points = (middle + half * np.c_[np.cos(around), np.sin(around)] - 200) @ np.array(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        )  # clockwise in the image: back from a copy that is turned counterclockwise
        points += 200
        found = turn.restore(Faces([np.tile(offset, 2) + box], [1])).boxes[0]
        assert found == pytest.approx([*points.min(0), *points.max(0)], abs=0.05)

    def test_left_and_right_change_places_in_a_mirror(self) -> None:
        landmarks = np.array([[[30, 20], [50, 20], [40, 30], [33, 40], [47, 40]]], np.float32)
        seen = landmarks.copy()
        seen[..., 0] = 120 - seen[..., 0]
        seen = seen[:, [1, 0, 2, 4, 3]]  # a detector names the eyes by their side in what it sees
        found = Turn(SIZE, mirrored=True).restore(Faces([[65, 10, 95, 50]], [0.5], seen))
        assert found.landmarks.tolist() == landmarks.tolist()
        assert found.boxes.tolist() == [[25, 10, 55, 50]]

    def test_boxes_are_clipped_and_those_in_the_padding_left_out(self) -> None:
        turn = Turn((100, 100), 45)
        side = turn.turned_size[0]
        landmarks = np.zeros((3, 5, 2))
        found = turn.restore(
            Faces([[0, 0, 20, 20], [60, 60, 80, 80], [side / 2 - 10, 0, side / 2 + 10, 20]], [0.9, 0.8, 0.7], landmarks)
        )
        assert found.scores.tolist() == pytest.approx([0.8, 0.7])
        assert (found.boxes >= 0).all()
        assert (found.boxes <= 100).all()
        assert len(found.landmarks) == 2

    def test_nothing_comes_back_from_nothing(self) -> None:
        assert len(Turn(SIZE, 30, True).restore(Faces.empty(landmarks=True))) == 0


class TestTurnedViews:
    @pytest.mark.parametrize("size", [640, "auto", (640, 320), "original"])
    @pytest.mark.parametrize("degrees", [30.0, 45.0, 90.0, 200.0])
    def test_take_no_more_pixels_than_the_upright_one(self, size, degrees: float) -> None:
        plan = ViewPlan([size], rotations=(degrees,))
        for width, height in ((1000, 750), (333, 900), (64, 64), (2000, 200)):
            (upright,), (turned,) = ViewPlan([size]).views(width, height), plan.views(width, height)
            canvas = turned.letterbox.canvas
            assert math.prod(canvas) <= math.prod(upright.letterbox.canvas)
            assert all(side % 32 == 0 for side in canvas)
            assert all(a <= b for a, b in zip(turned.letterbox.resized, canvas, strict=True))

    def test_keep_the_scale_where_they_need_not_shrink(self) -> None:
        plan = ViewPlan(["auto"])
        (upright,) = plan.views(1000, 750)
        turned = plan.turned(upright, 45, shrink=False)
        assert turned.scale == pytest.approx(upright.scale)
        assert math.prod(turned.letterbox.canvas) <= 2.2 * math.prod(upright.letterbox.canvas)

    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("degrees", [0.0, 17.0, 90.0, 225.0])
    def test_a_dot_in_a_region_comes_back_to_its_place_in_the_image(self, degrees: float, mirrored: bool) -> None:
        image = np.zeros((500, 700, 3), np.uint8)
        image[100:180, 300:420] = dot(60, 45)
        region = (250, 60, 650, 360)
        upright = View(region, fit(400, 300, 640), (True, True, True, True))
        view = ViewPlan([640]).turned(upright, degrees, mirrored, shrink=False)
        pixels = view.pixels(image, (0, 0, 0))
        assert pixels.shape[1::-1] == view.letterbox.source
        u, v = center(cv2.resize(pixels, view.letterbox.resized)) if degrees or mirrored else (110, 85)
        faces, cut = view.placed(Faces([[u - 9, v - 9, u + 9, v + 9]], [0.9], np.tile([u, v], (1, 5, 1))))
        assert (faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2 == pytest.approx([360, 145], abs=0.1)
        assert faces.landmarks[0, 0] == pytest.approx([360, 145], abs=0.1)
        assert not cut[0]

    def test_several_angles_and_mirrors_each_show_every_size_and_tile(self) -> None:
        plan = ViewPlan([320, 640], (400, 400), rotations=(0.0, 90.0), mirror=True)
        views, upright = plan.views(700, 400), ViewPlan([320, 640], (400, 400)).views(700, 400)
        assert len(views) == 4 * len(upright)
        kinds = [(v.turn.degrees if v.turn else 0.0, bool(v.turn and v.turn.mirrored)) for v in views]
        expected = [(0.0, False), (0.0, True), (90.0, False), (90.0, True)]
        assert kinds == [kind for kind in expected for _ in upright]
        assert [v.region for v in views] == 4 * [v.region for v in upright]
        assert [v.least_side for v in views] == 4 * [v.least_side for v in upright]

    @pytest.mark.parametrize("limits", [((96, 96), (96, 96)), ((64, 320), (160, 640)), ((320, 320), (640, 640))])
    def test_keep_to_what_the_network_takes(self, limits) -> None:
        plan = ViewPlan([limits[1]], limits=limits)
        for width, height in ((1000, 750), (200, 900), (50, 40)):
            (whole,) = plan.views(width, height)
            small = [plan.small(whole.region, side) for side in (64, 128, 384)]
            views = [plan.turned(v, d, shrink=False) for v in (whole, *small) for d in (0.0, 45.0, 90.0)]
            for view in [*small, *views, plan.close_up(whole)]:
                box = view.letterbox
                assert all(a <= b for a, b in zip(limits[0], box.canvas, strict=True))
                assert all(a <= b for a, b in zip(box.canvas, limits[1], strict=True))
                assert all(1 <= a <= b for a, b in zip(box.resized, box.canvas, strict=True))


class TestWellSeen:
    def test_the_view_of_the_largest_scale_sees_all_faces_and_the_others_those_of_16_pixels_in_the_input(self) -> None:
        views = limited([View((0, 0, 800, 600), fit(800, 600, size)) for size in (400, 1600, 800)])
        assert [view.least_side for view in views] == pytest.approx([32, 0, 16], rel=1e-6)

    def test_only_faces_from_this_side_on_count(self) -> None:
        view = View((0, 0, 100, 100), Letterbox((100, 100), (100, 100), (128, 128)), least_side=10)
        boxes = [[0, 0, side, side] for side in (9.9, 10, 40)] + [[0, 0, 100, 4], [0, 0, 24, 4]]
        faces, _ = view.placed(Faces(boxes, [0.9, 0.8, 0.7, 0.6, 0.5]))
        assert faces.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
