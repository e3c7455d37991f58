"""Turned images, boxes and points against closed forms, NumPy's quarter turns and pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facedet_mm.imaging.rotation import Rotation

ANGLES = (-200.0, -90.0, -33.0, 15.0, 45.0, 90.0, 120.5, 180.0, 270.0)


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, -1), (180, 2), (270, 1), (-90, 1), (450, -1)])
def test_quarter_turns_are_those_of_numpy_to_the_bit(degrees: float, quarters: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    turned = Rotation((50, 37), degrees).image(image)
    np.testing.assert_array_equal(turned, np.rot90(image, quarters))


@pytest.mark.parametrize("degrees", ANGLES)
def test_the_canvas_is_the_smallest_that_holds_the_image(degrees: float) -> None:
    turn = Rotation((50, 37), degrees)
    corners = turn.points(np.array([[0.0, 0], [50, 0], [0, 37], [50, 37]]))
    assert corners.min() >= -1e-6
    assert (corners.max(axis=0) <= np.array(turn.canvas) + 1e-6).all()
    assert (np.ptp(corners, axis=0) > np.array(turn.canvas) - 1 - 1e-6).all()


@pytest.mark.parametrize("degrees", ANGLES)
@pytest.mark.parametrize("canvas", [None, (60, 60)])
def test_points_turn_clockwise_about_the_center_by_complex_numbers(degrees: float, canvas: tuple | None) -> None:
    turn = Rotation((50, 37), degrees, canvas)
    points = np.random.default_rng(1).uniform(-20, 80, (7, 5, 2))
    places = (points[..., 0] - 25 + 1j * (points[..., 1] - 18.5)) * np.exp(1j * math.radians(degrees))
    expected = np.stack([places.real + turn.canvas[0] / 2, places.imag + turn.canvas[1] / 2], axis=-1)
    np.testing.assert_allclose(turn.points(points), expected, atol=1e-9)


@pytest.mark.parametrize("degrees", ANGLES)
def test_a_box_is_the_tight_one_of_the_turned_ellipse(degrees: float) -> None:
    boxes = np.array([[3.0, 5, 43, 25], [-10, 0, 20, 60], [7, 7, 7, 7]])
    turn = Rotation((50, 37), degrees)
    around = np.linspace(0, 2 * math.pi, 100_001)
    for box, turned in zip(boxes, turn.boxes(boxes), strict=True):
        outline = np.stack(
            [
                (box[0] + box[2]) / 2 + (box[2] - box[0]) / 2 * np.cos(around),
                (box[1] + box[3]) / 2 + (box[3] - box[1]) / 2 * np.sin(around),
            ],
            axis=1,
        )
        outline = turn.points(outline)
        np.testing.assert_allclose(turned, [*outline.min(axis=0), *outline.max(axis=0)], atol=1e-6)


@pytest.mark.parametrize("degrees", [15.0, 45.0, -120.5])
def test_a_spot_is_where_its_point_is_and_the_uncovered_corners_are_gray(degrees: float) -> None:
    image = np.zeros((80, 120, 3), np.uint8)
    image[20:25, 90:95] = 255
    turn = Rotation((120, 80), degrees)
    turned = turn.image(image, fill=77)
    assert turned.shape == (*turn.canvas[::-1], 3)
    rows, columns = np.nonzero(turned[..., 0] > 150)
    found = columns.mean() + 0.5, rows.mean() + 0.5
    assert found == pytest.approx(turn.points(np.array([92.5, 22.5])), abs=0.3)
    assert (turned[0, 0] == 77).all()
    assert (turned[-1, -1] == 77).all()


def test_numbers_keep_their_kind() -> None:
    turn = Rotation((50, 37), 33)
    assert (
        turn.points(np.zeros((2, 2), np.float32)).dtype == turn.boxes(np.zeros((2, 4), np.float32)).dtype == np.float32
    )
    assert turn.boxes(np.zeros((0, 4))).shape == (0, 4)
