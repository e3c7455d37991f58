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
        found = vote_boxes(faces, kept, 0.45)
        for row, k in enumerate(kept):
            voters = [j for j in range(len(faces)) if j == k or iou(faces.boxes[k], faces.boxes[j]) > 0.45]
            weights = faces.scores[voters].astype(float)
            box = (weights[:, None] * faces.boxes[voters]).sum(0) / weights.sum()
            assert found.boxes[row] == pytest.approx(box, rel=1e-4)
            if landmarks:
                points = (weights[:, None, None] * faces.landmarks[voters]).sum(0) / weights.sum()
                assert found.landmarks[row] == pytest.approx(points, rel=1e-4)
        assert found.scores.tolist() == faces.scores[kept].tolist()

    def test_of_two_looks_the_score_is_the_mean_of_the_two_best(self) -> None:
        boxes = [[0, 0, 40, 40], [1, 0, 41, 40], [0, 2, 40, 42], [100, 0, 140, 40], [100, 20, 140, 60]]
        faces = Faces(boxes, [0.9, 0.4, 0.7, 0.6, 0.5])
        found = vote_boxes(faces, np.array([0, 3, 4]), 0.5, looks=2)
        assert found.scores.tolist() == pytest.approx([0.8, 0.3, 0.25])
        assert found.boxes[1].tolist() == boxes[3]

    def test_a_vote_counts_for_no_more_than_the_face_itself(self) -> None:
        faces = Faces([[0, 0, 40, 40], [0, 10, 40, 50], [0, 19, 40, 59]], [0.9, 0.8, 0.4])  # IoU 0.6, 0.63 and 0.36
        found = vote_boxes(faces, np.array([0, 2]), 0.5, looks=2)
        assert found.scores.tolist() == pytest.approx([0.85, 0.4])

    def test_a_face_alone_and_without_score_keeps_its_box(self) -> None:
        faces = Faces([[1, 2, 30, 40], [100, 100, 120, 130]], [0.0, 0.5])
        found = vote_boxes(faces, np.array([1, 0]), 0.4)
        assert found.boxes.tolist() == [[100, 100, 120, 130], [1, 2, 30, 40]]


class TestLooks:
    mirrored = replace(WHOLE, turn=Turn((400, 400), mirrored=True))

    def test_at_mirrored_views_halve_the_score_of_a_face_that_only_one_saw(self) -> None:
        found = [Faces([[10, 10, 50, 50], [200, 200, 240, 240]], [0.8, 0.7]), Faces([[352, 10, 392, 50]], [0.6])]
        faces = merge_views([WHOLE, self.mirrored], found, 0.45, vote=True)
        assert faces.scores.tolist() == pytest.approx([0.7, 0.35])
        assert faces.boxes[0] == pytest.approx([9.14, 10, 49.14, 50], abs=0.01)

    def test_at_two_sizes_keep_it(self) -> None:
        found = [Faces([[10, 10, 50, 50]], [0.8]), Faces([[12, 10, 52, 50]], [0.6])]
        assert merge_views([WHOLE, WHOLE], found, 0.45, vote=True).scores.tolist() == pytest.approx([0.8])

    def test_at_boxes_between_both_thresholds_drop_one_and_do_not_vote(self) -> None:
        found = [Faces([[0, 0, 40, 40]], [0.8]), Faces([[0, 14, 40, 54]], [0.6])]  # IoU 0.48
        faces = merge_views([WHOLE, WHOLE], found, 0.45, vote=True)
        assert faces.boxes.tolist() == [[0, 0, 40, 40]]


class TestCoarseBoxes:
    coarse = replace(WHOLE, coarse=True)
    box, near = [100, 100, 300, 300], [110, 100, 310, 300]

    @pytest.mark.parametrize("vote", [False, True])
    @pytest.mark.parametrize(("score", "kept"), [(0.9, "box"), (0.64, "box"), (0.62, "near")])
    def test_give_way_to_a_face_of_at_least_seven_tenths_of_their_score(
        self, score: float, kept: str, vote: bool
    ) -> None:
        found = [Faces([self.box], [score]), Faces([self.near], [0.9])]
        faces = merge_views([WHOLE, self.coarse], found, 0.45, vote)
        assert faces.scores.tolist() == pytest.approx([score if kept == "box" else 0.9])
        if not vote:
            assert faces.boxes[0].tolist() == getattr(self, kept)
        else:
            assert abs(faces.boxes[0][0] - (100 if kept == "box" else 110)) < 5.1

    def test_add_the_faces_that_others_miss_in_the_place_of_their_whole_score(self) -> None:
        found = [Faces([[0, 0, 20, 20], [30, 0, 50, 20]], [0.9, 0.6]), Faces([self.box], [0.8])]
        assert merge_views([WHOLE, self.coarse], found, 0.45).scores.tolist() == pytest.approx([0.9, 0.8, 0.6])

    def test_are_not_halved_as_no_mirrored_view_looks_for_them(self) -> None:
        found = [Faces.empty(), Faces.empty(), Faces([self.box], [0.8])]
        faces = merge_views([WHOLE, TestLooks.mirrored, self.coarse], found, 0.45, vote=True)
        assert faces.scores.tolist() == pytest.approx([0.8])


class TestTurnedDoubles:
    """Boxes that NMS keeps: of 40 pixels, shifted by 11 in both directions, they have an IoU of 0.36."""

    first, shifted = [100, 100, 140, 140], [111, 111, 151, 151]

    @pytest.mark.parametrize("degrees", [90.0, 180.0, 270.0])
    def test_of_two_views_the_better_face_stays(self, degrees: float) -> None:
        view = turned(degrees)
        assert iou(np.array(self.first), np.array(self.shifted)) < 0.4
        for scores in ((0.6, 0.8), (0.8, 0.6)):
            found = [at(WHOLE, [self.first], [scores[0]]), at(view, [self.shifted], [scores[1]])]
            faces = merge_views([WHOLE, view], found, 0.4)
            assert faces.scores.tolist() == pytest.approx([0.8])
            assert faces.boxes[0] == pytest.approx(self.first if scores[0] == 0.8 else self.shifted)

    @pytest.mark.parametrize("view", [WHOLE, turned(90.0)])
    def test_of_one_view_that_may_be_right_both_stay(self, view: View) -> None:
        other = turned(180.0)
        found = [at(view, [self.first, self.shifted], [0.9, 0.7]), at(other, [[300, 300, 340, 340]], [0.5])]
        assert len(merge_views([view, other], found, 0.4)) == 3

    def test_of_one_oblique_view_the_better_stays(self) -> None:
        view = turned(45.0)
        found = [Faces.empty(), Faces([[200, 250, 240, 290], [215, 250, 255, 290]], [0.7, 0.9])]
        assert merge_views([WHOLE, view], found, 0.5).scores.tolist() == pytest.approx([0.9])

    def test_faces_beside_each_other_stay(self) -> None:
        view = turned(90.0)
        found = [at(WHOLE, [self.first], [0.6]), at(view, [[125, 100, 165, 140]], [0.8])]
        assert len(merge_views([WHOLE, view], found, 0.4)) == 2

    def test_a_part_at_a_cut_yields_to_a_whole_face_that_a_turned_view_shows(self) -> None:
        left = View((0, 0, 130, 400), fit(130, 400, "original"), (False, False, True, False))
        view = turned(270.0)
        found = [Faces([[100, 100, 130, 140]], [0.95]), at(view, [self.first], [0.5])]
        faces = merge_views([left, view], found, 0.4)
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
        faces = merge_views(views, [found[:3000], found[3000:]], 0.4)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(faces) > 4000
        assert peak < 150 << 20
