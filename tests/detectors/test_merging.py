"""Voting for boxes, and doubles of faces that differently turned views saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facedet_mm.detectors.merging import merge_views, vote_boxes
from facedet_mm.detectors.nms import nms
from facedet_mm.detectors.preprocess import fit
from facedet_mm.detectors.turns import Turn
from facedet_mm.detectors.views import View
from facedet_mm.imaging.rotation import Rotation
from facedet_mm.structures import Faces

WHOLE = View((0, 0, 400, 400), fit(400, 400, "original"))


def turned(degrees: float) -> View:
    turn = Turn((400, 400), degrees)
    return replace(WHOLE, turn=turn, letterbox=fit(*turn.turned_size, "original"))


def at(view: View, boxes: list[list[float]], scores: list[float]) -> Faces:
    """Faces for a view that is turned by quarters, given in pixels of the image."""
    corners = np.array(boxes, float).reshape(-1, 2)
    if view.turn:
        corners = Rotation(view.turn.size, -view.turn.degrees).points(corners)
    corners = corners.reshape(-1, 2, 2)
    return Faces(np.hstack([corners.min(1), corners.max(1)]), scores)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def crowd(count: int, landmarks: bool = True) -> Faces:
    random = np.random.default_rng(count)
    centers, sides = random.uniform(0, 120, (count, 2)), random.uniform(10, 40, (count, 2))
    points = random.uniform(0, 120, (count, 5, 2)) if landmarks else None
    return Faces(np.hstack([centers, centers + sides]), random.random(count), points)


class TestVotes:
    @pytest.mark.parametrize("landmarks", [True, False])
    def test_are_the_weighted_mean_of_a_plain_loop(self, landmarks: bool) -> None:
        faces = crowd(150, landmarks)
        kept = nms(faces.boxes, faces.scores, 0.4)
        found, votes = vote_boxes(faces, kept, 0.45)
        for row, k in enumerate(kept):
            voters = [j for j in range(len(faces)) if j == k or iou(faces.boxes[k], faces.boxes[j]) > 0.45]
            weights = faces.scores[voters].astype(float)
            assert votes[row] == len(voters)
            box = (weights[:, None] * faces.boxes[voters]).sum(0) / weights.sum()
            assert found.boxes[row] == pytest.approx(box, rel=1e-4)
            if landmarks:
                points = (weights[:, None, None] * faces.landmarks[voters]).sum(0) / weights.sum()
                assert found.landmarks[row] == pytest.approx(points, rel=1e-4)
        assert found.scores.tolist() == faces.scores[kept].tolist()
        assert votes.max() > 2

    def test_a_face_alone_and_without_score_keeps_its_box(self) -> None:
        faces = Faces([[1, 2, 30, 40], [100, 100, 120, 130]], [0.0, 0.5])
        found, votes = vote_boxes(faces, np.array([1, 0]), 0.4)
        assert found.boxes.tolist() == [[100, 100, 120, 130], [1, 2, 30, 40]]
        assert votes.tolist() == [1, 1]


class TestTurnedDoubles:
    """Boxes that NMS keeps: of 40 pixels, shifted by 11 in both directions, they have an IoU of 0.36."""

    first, shifted = [100, 100, 140, 140], [111, 111, 151, 151]

    @pytest.mark.parametrize("degrees", [90.0, 180.0, 270.0])
    def test_of_two_views_the_better_face_stays(self, degrees: float) -> None:
        view = turned(degrees)
        assert iou(np.array(self.first), np.array(self.shifted)) < 0.4
        for scores in ((0.6, 0.8), (0.8, 0.6)):
            found = [at(WHOLE, [self.first], [scores[0]]), at(view, [self.shifted], [scores[1]])]
            faces = merge_views([WHOLE, view], found, 0.4).faces
            assert faces.scores.tolist() == pytest.approx([0.8])
            assert faces.boxes[0] == pytest.approx(self.first if scores[0] == 0.8 else self.shifted)

    @pytest.mark.parametrize("view", [WHOLE, turned(90.0)])
    def test_of_one_view_that_may_be_right_both_stay(self, view: View) -> None:
        other = turned(180.0)
        found = [at(view, [self.first, self.shifted], [0.9, 0.7]), at(other, [[300, 300, 340, 340]], [0.5])]
        assert len(merge_views([view, other], found, 0.4).faces) == 3

    def test_of_one_oblique_view_the_better_stays(self) -> None:
        view = turned(45.0)
        found = [Faces.empty(), Faces([[200, 250, 240, 290], [215, 250, 255, 290]], [0.7, 0.9])]
        assert merge_views([WHOLE, view], found, 0.5).faces.scores.tolist() == pytest.approx([0.9])

    def test_faces_beside_each_other_stay(self) -> None:
        view = turned(90.0)
        found = [at(WHOLE, [self.first], [0.6]), at(view, [[125, 100, 165, 140]], [0.8])]
        assert len(merge_views([WHOLE, view], found, 0.4).faces) == 2

    def test_a_part_at_a_cut_yields_to_a_whole_face_that_a_turned_view_shows(self) -> None:
        left = View((0, 0, 130, 400), fit(130, 400, "original"), (False, False, True, False))
        view = turned(270.0)
        found = [Faces([[100, 100, 130, 140]], [0.95]), at(view, [self.first], [0.5])]
        faces = merge_views([left, view], found, 0.4).faces
        assert faces.boxes[0] == pytest.approx(self.first)
        assert len(faces) == 1

    def test_thousands_of_faces_take_little_memory(self) -> None:
        import tracemalloc

        random = np.random.default_rng(0)
        corners = random.uniform(0, 3900, (6000, 2))
        large = replace(WHOLE, region=(0, 0, 4000, 4000), letterbox=fit(4000, 4000, "original"))
        turn = Turn((4000, 4000), 90)
        views = [large, replace(large, turn=turn)]
        found = Faces(np.hstack([corners, corners + 20]), random.random(6000))
        tracemalloc.start()
        faces = merge_views(views, [found[:3000], found[3000:]], 0.4).faces
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(faces) > 4000
        assert peak < 150 << 20
