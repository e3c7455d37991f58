"""Two results for one image are compared face by face."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from facedet_mm.evaluation.agreement import compare_faces
from facedet_mm.structures import Faces


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    """IoU counted pixel by pixel; boxes have whole numbers and include their last row and column."""
    pixels = [
        {(x, y) for x in range(int(box[0]), int(box[2]) + 1) for y in range(int(box[1]), int(box[3]) + 1)}
        for box in (a, b)
    ]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def test_the_matching_is_the_best_of_all_that_are_possible() -> None:
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(60):
        first, second = (
            Faces(np.hstack([corner, corner + rng.integers(4, 8, (n, 2))]), rng.random(n))
            for n in rng.integers(0, 5, 2)
            for corner in [rng.integers(0, 6, (n, 2))]
        )
        agreement = compare_faces(first, second, iou_thr=0.4)
        overlaps = np.array([[slow_iou(a, b) for b in second.boxes] for a in first.boxes]).reshape(
            len(first), len(second)
        )
        allowed = np.where(overlaps >= 0.4, overlaps, 0)
        allowed = allowed if len(first) <= len(second) else allowed.T
        best = max(
            sum(allowed[i, j] for i, j in enumerate(columns))
            for columns in itertools.permutations(range(allowed.shape[1]), allowed.shape[0])
        )
        rows, columns = agreement.pairs.T
        assert overlaps[rows, columns].sum() == pytest.approx(best)
        assert (overlaps[rows, columns] >= 0.4).all()
        assert sorted([*rows, *agreement.only_first]) == list(range(len(first)))
        assert sorted([*columns, *agreement.only_second]) == list(range(len(second)))
        assert agreement.unmatched == len(first) + len(second) - 2 * len(rows)
        sizes.add(len(rows))
    assert len(sizes) > 2


def test_the_largest_differences_of_the_pairs_are_reported() -> None:
    points = np.arange(20.0).reshape(2, 5, 2)
    first = Faces([[10, 10, 50, 60], [100, 10, 150, 80]], [0.9, 0.5], points)
    moved = points.copy()
    moved[0, 4, 1] -= 3
    second = Faces([[100, 10, 150, 78], [11, 10, 50, 60]], [0.75, 0.875], moved[::-1])
    agreement = compare_faces(first, second)
    assert agreement.pairs.tolist() == [[0, 1], [1, 0]]
    assert (agreement.boxes, agreement.scores, agreement.landmarks) == (2.0, 0.25, 3.0)
    assert agreement.unmatched == 0
    assert compare_faces(first, Faces(second.boxes, second.scores)).landmarks is None


def test_faces_below_the_score_threshold_may_be_missing_and_may_differ() -> None:
    first = Faces([[10, 10, 50, 60], [100, 10, 150, 80], [200, 10, 250, 80]], [0.9, 0.3, 0.7])
    second = Faces([[10, 10, 50, 60], [100, 14, 150, 80], [300, 10, 350, 80], [400, 10, 450, 80]], [0.9, 0.2, 0.4, 0.5])
    agreement = compare_faces(first, second, score_thr=0.5)
    assert agreement.pairs.tolist() == [[0, 0]]
    assert (agreement.only_first.tolist(), agreement.only_second.tolist()) == ([2], [3])
    assert agreement.boxes == 0
    sure = compare_faces(first, Faces(second.boxes, [0.9, 0.6, 0.4, 0.5]), score_thr=0.5)
    assert sure.pairs.tolist() == [[0, 0], [1, 1]]
    assert sure.boxes == 4


def test_what_is_not_a_number_never_agrees() -> None:
    face = Faces([[10, 10, 50, 60]], [0.9], np.zeros((1, 5, 2)))
    without_box = compare_faces(face, Faces([[np.nan, 10, 50, 60]], [0.9], np.zeros((1, 5, 2))))
    assert (without_box.only_first.tolist(), without_box.only_second.tolist()) == ([0], [0])
    without_score = compare_faces(face, Faces(face.boxes, [np.nan], np.full((1, 5, 2), np.nan)), score_thr=0.5)
    assert without_score.pairs.tolist() == [[0, 0]]
    assert without_score.scores == without_score.landmarks == float("inf")
    assert compare_faces(face[:0], Faces([[0, 0, 9, 9]], [np.nan]), score_thr=0.5).only_second.tolist() == [0]


def test_no_faces_agree_with_no_faces() -> None:
    agreement = compare_faces(Faces.empty(landmarks=True), Faces.empty(landmarks=True))
    assert (agreement.unmatched, agreement.boxes, agreement.scores, agreement.landmarks) == (0, 0, 0, 0)


@pytest.mark.parametrize("iou_thr", [0, -0.1, 1.1, float("nan")])
def test_a_threshold_that_matches_everything_or_nothing_is_refused(iou_thr: float) -> None:
    with pytest.raises(ValueError, match="iou_thr must be above 0 and at most 1"):
        compare_faces(Faces.empty(), Faces.empty(), iou_thr=iou_thr)
