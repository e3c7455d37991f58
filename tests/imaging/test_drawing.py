"""Drawing: where lines lie, that the image is left alone, and that nothing is too small or too far out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facedet_mm import Faces
from facedet_mm.errors import ImageError
from facedet_mm.imaging.drawing import draw_faces, track_color


def changed(image: np.ndarray, faces: Faces) -> np.ndarray:
    """(H, W) bool: pixels that drawing changed visibly."""
    return np.abs(draw_faces(image, faces).astype(int) - image).max(axis=2) > 40


@pytest.fixture
def gray() -> np.ndarray:
    return np.full((400, 600, 3), 128, np.uint8)


def test_lines_lie_on_the_box_and_its_inside_stays_visible(gray: np.ndarray) -> None:
    mask = changed(gray, Faces([[100, 150, 200, 300]], [0.9]))
    assert mask[150:301, [100, 200]].all()
    assert mask[[150, 300], 100:201].all()
    assert not mask[155:296, 105:196].any()
    assert not mask[305:].any()
    assert not mask[:, 205:].any()


def test_the_score_stands_above_the_box_or_inside_where_there_is_no_room(gray: np.ndarray) -> None:
    above = changed(gray, Faces([[100, 150, 200, 300]], [0.9]))
    assert above[135:149, 102:120].any()
    top = changed(gray, Faces([[100, 0, 200, 300]], [0.9]))
    assert top[3:10, 102:120].any()


def test_landmarks_are_dots_at_their_places_in_three_colors(gray: np.ndarray) -> None:
    points = [[130, 190], [170, 190], [150, 220], [135, 260], [165, 260]]
    drawn = draw_faces(gray, Faces([[100, 150, 200, 300]], [0.9], [points]))
    colors = [tuple(drawn[y, x]) for x, y in points]
    assert (128, 128, 128) not in colors
    assert colors[0] == colors[1]
    assert colors[3] == colors[4]
    assert len(set(colors)) == 3


def test_the_image_is_not_changed(gray: np.ndarray) -> None:
    before = gray.copy()
    drawn = draw_faces(gray, Faces([[10, 10, 90, 90]], [0.9]))
    assert np.array_equal(gray, before)
    assert drawn.shape == gray.shape
    assert np.array_equal(draw_faces(gray, Faces.empty(landmarks=True)), before)


def test_a_tiny_face_gets_a_thin_box_and_neither_text_nor_dots(gray: np.ndarray) -> None:
    big = cv2.resize(gray, (3840, 2160))
    face = Faces([[1000, 1000, 1010, 1010]], [0.9], [np.full((5, 2), 1005.0)])
    mask = changed(big, face)
    assert 20 < mask.sum() < 150
    assert not mask[1003:1008, 1003:1008].any()
    assert not mask[:998].any()


def test_lines_and_text_grow_with_the_image() -> None:
    def line_width(scale: int) -> int:
        image = np.full((400 * scale, 600 * scale, 3), 128, np.uint8)
        box = np.array([[100, 150, 300, 350]]) * scale
        return int(changed(image, Faces(box, [0.9]))[300 * scale, : 200 * scale].sum())

    assert 1 <= line_width(1) <= 3
    assert 3 * line_width(1) <= line_width(6) <= 20


@pytest.mark.parametrize("far", [1e5, 1e12, 3e38])
def test_faces_far_outside_do_no_harm(gray: np.ndarray, far: float) -> None:
    boxes = [[-far, -far, far, far], [far, far, far * 1.1, far * 1.1], [-far, 50, 300, 120]]
    drawn = draw_faces(gray, Faces(boxes, [0.9, 0.8, 0.7], np.full((3, 5, 2), -far)))
    assert (drawn[120, 10:290] != 128).any()


def test_the_better_face_is_on_top(gray: np.ndarray) -> None:
    low, high = [100, 150, 200, 300], [100, 158, 200, 300]
    points = np.full((5, 2), 400.0)
    alone = draw_faces(gray, Faces([high], [0.9], [points]))
    both = draw_faces(gray, Faces([high, low], [0.9, 0.5], [points, points]))
    assert np.array_equal(both[146:156, 106:124], alone[146:156, 106:124])


def test_a_tracked_face_has_the_color_of_its_track_and_an_untracked_one_the_usual(gray: np.ndarray) -> None:
    boxes = [[50, 150, 150, 300], [200, 150, 300, 300], [350, 150, 450, 300]]
    plain = draw_faces(gray, Faces(boxes, [0.9, 0.9, 0.9]))
    tracked = draw_faces(gray, Faces(boxes, [0.9, 0.9, 0.9], track_ids=[5, -1, 6]))
    assert tuple(tracked[250, 50]) == track_color(5)
    assert tuple(tracked[250, 350]) == track_color(6)
    assert np.array_equal(tracked[:, 180:330], plain[:, 180:330])


def test_sixteen_successive_tracks_are_told_apart_and_their_labels_can_be_read() -> None:
    colors = np.array([track_color(i) for i in range(100, 116)], np.float32)[None] / 255
    lab = cv2.cvtColor(colors, cv2.COLOR_BGR2LAB)[0]
    apart = np.linalg.norm(lab[:, None] - lab, axis=2) + 1e9 * np.eye(16)
    assert apart.min() > 20  # CIE76; about 2 is just noticeable
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    contrast = (linear[0] @ [0.0722, 0.7152, 0.2126] + 0.05) / (0.02 + 0.05)  # WCAG; the text's luminance is 0.02
    assert contrast.min() > 3
    assert track_color(7) == track_color(7 + 16) != track_color(8)


def test_the_label_of_a_track_holds_its_id_and_where_there_is_room_its_score(gray: np.ndarray) -> None:
    def drawn(width: int, score: float, track_id: int) -> np.ndarray:
        return draw_faces(gray, Faces([[100, 150, 100 + width, 300]], [score], track_ids=[track_id]))

    assert not np.array_equal(drawn(100, 0.5, 1)[:150], drawn(100, 0.8, 1)[:150])
    assert not np.array_equal(drawn(100, 0.5, 1)[:150], drawn(100, 0.5, 17)[:150])
    assert np.array_equal(drawn(30, 0.5, 1), drawn(30, 0.8, 1))
    assert not np.array_equal(drawn(30, 0.5, 1)[:150], drawn(30, 0.5, 17)[:150])
    assert np.array_equal(drawn(10, 0.5, 1), drawn(10, 0.5, 17))


@pytest.mark.filterwarnings("error")
def test_what_is_not_a_number_is_not_drawn(gray: np.ndarray) -> None:
    points = np.full((2, 5, 2), [130.0, 200.0])
    points[1, 2] = np.nan
    box, nothing = [100, 150, 200, 300], [100, np.nan, 200, 300]
    drawn = draw_faces(gray, Faces([nothing, box], [0.9, 0.8], points))
    assert np.array_equal(drawn[:, :90], gray[:, :90])
    points[1, 2] = points[1, 0]
    without = draw_faces(gray, Faces([box], [0.8], points[1:]))
    assert np.array_equal(drawn[150:190], without[150:190])
    assert (drawn[200, 130] != gray[200, 130]).any()


def test_seven_hundred_faces_and_images_of_every_kind_are_drawn() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (700, 2))
    faces = Faces(np.hstack([corners, corners + rng.uniform(5, 60, (700, 1))]), rng.random(700))
    for shape in [(1150, 2048), (200, 150), (1, 1), (1000, 1000, 4), (10, 20000, 3)]:
        image = rng.integers(0, 256, shape, np.uint8)
        assert draw_faces(image, faces).shape == (*shape[:2], 3)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ImageError, match="uint8"):
        draw_faces(np.zeros((4, 4, 3)), Faces.empty())  # type: ignore[arg-type]
