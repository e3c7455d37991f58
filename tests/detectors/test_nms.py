"""Greedy NMS against brute force, against mmcv, and on boxes made to break it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedet_mm.detectors import nms as module
from facedet_mm.detectors.nms import nms


def brute_force(boxes: np.ndarray, scores: np.ndarray, iou_thr: float) -> list[int]:
    """The definition, one box after the other, in float32 as the compiled implementations."""
    kept: list[int] = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    dropped = np.zeros(len(boxes), bool)
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # sorted() is stable
        if dropped[i]:
            continue
        kept.append(i)
        width = np.minimum(boxes[i, 2], boxes[:, 2]) - np.maximum(boxes[i, 0], boxes[:, 0])
        height = np.minimum(boxes[i, 3], boxes[:, 3]) - np.maximum(boxes[i, 1], boxes[:, 1])
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            dropped |= inter / (area[i] + area - inter) > np.float32(iou_thr)
    return kept


def clusters(n: int, centers: int, extent: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``n`` boxes of 8 to 80 pixels scattered around ``centers`` faces, with scores that are all different."""
    rng = np.random.default_rng(seed)
    xy, side = rng.uniform(0, extent, (centers, 2)), np.exp(rng.uniform(np.log(8), np.log(80), (centers, 1)))
    face = rng.integers(0, centers, n)
    corners = xy[face] + rng.normal(0, 0.15, (n, 2)) * side[face]
    sizes = side[face] * rng.uniform(0.7, 1.4, (n, 2))
    return np.hstack([corners, corners + sizes]).astype(np.float32), rng.permutation(n).astype(np.float32) / n


@pytest.mark.parametrize("iou_thr", [0.0, 0.1, 0.4, 0.45, 0.7, 1.0])
@pytest.mark.parametrize(("n", "centers", "extent"), [(0, 1, 1), (1, 1, 9), (2, 1, 9), (60, 8, 300), (1500, 200, 640)])
def test_clusters_give_what_brute_force_gives(n: int, centers: int, extent: float, iou_thr: float) -> None:
    boxes, scores = clusters(n, centers, extent)
    assert nms(boxes, scores, iou_thr).tolist() == brute_force(boxes, scores, iou_thr)


@pytest.mark.parametrize("iou_thr", [0.3, 0.5])
def test_many_blocks_give_what_brute_force_gives(monkeypatch: pytest.MonkeyPatch, iou_thr: float) -> None:
    boxes, scores = clusters(1500, 400, 500)
    expected = brute_force(boxes, scores, iou_thr)
    for block, pairs in ((1, 1), (7, 50), (256, 1 << 16)):
        monkeypatch.setattr(module, "_BLOCK", block)
        monkeypatch.setattr(module, "_PAIRS", pairs)
        assert nms(boxes, scores, iou_thr).tolist() == expected


@pytest.mark.parametrize("stretch", [(1, 10), (10, 1)])
def test_a_tall_crowd_and_a_wide_crowd_are_one(stretch: tuple[int, int]) -> None:
    boxes, scores = clusters(800, 300, 300)
    offset = boxes[:, :2] * (np.array(stretch, np.float32) - 1)
    boxes = boxes + np.hstack([offset, offset])
    assert nms(boxes, scores, 0.4).tolist() == brute_force(boxes, scores, 0.4)


@pytest.mark.parametrize("n", [300, 5000, 20000])
def test_mmcv_keeps_the_same_boxes_in_the_same_order(n: int) -> None:
    torch = pytest.importorskip("torch")
    mmcv_nms = pytest.importorskip("mmcv.ops").nms
    boxes, scores = clusters(n, n // 12, 1200)
    _, kept = mmcv_nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4)
    assert nms(boxes, scores, 0.4).tolist() == kept.tolist()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 4, st.integers(0, 3)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 1.0]),
)
def test_ties_touching_nested_and_flat_boxes_give_what_brute_force_gives(rows: list, iou_thr: float) -> None:
    table = np.array(rows, np.float32)
    boxes = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]])
    assert nms(boxes, table[:, 4], iou_thr).tolist() == brute_force(boxes, table[:, 4], iou_thr)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2, *[st.floats(-1, 50, width=32)] * 2), max_size=30),
    st.floats(0, 1),
)
def test_far_away_and_inside_out_boxes_give_what_brute_force_gives(rows: list, iou_thr: float) -> None:
    table = np.array(rows, np.float32).reshape(-1, 4)
    boxes = np.hstack([table[:, :2], table[:, :2] + table[:, 2:]])
    scores = np.linspace(1, 0, len(boxes), dtype=np.float32)
    assert nms(boxes, scores, iou_thr).tolist() == brute_force(boxes, scores, iou_thr)


def test_an_overlap_of_exactly_the_threshold_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU 50 / 100
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.4999).tolist() == [0]


def test_a_dropped_box_does_not_drop_others() -> None:
    x = np.arange(0, 200, 4, dtype=np.float32)  # IoU with the next 6 / 14, with the one after 2 / 18
    boxes = np.stack([x, np.zeros_like(x), x + 10, np.full_like(x, 10)], axis=1)
    scores = np.linspace(1, 0.5, len(x), dtype=np.float32)
    assert nms(boxes, scores, 0.4).tolist() == list(range(0, 50, 2))


def test_equal_scores_keep_the_order_of_the_input() -> None:
    boxes = np.array([[0, 0, 9, 9], [50, 0, 59, 9], [0, 0, 9, 9.5]], np.float32)
    assert nms(boxes, np.full(3, 0.7, np.float32), 0.4).tolist() == [0, 1]


def test_twenty_thousand_equal_boxes_need_no_square_matrix() -> None:
    boxes = np.tile(np.array([[3, 3, 30, 30]], np.float32), (20000, 1))
    scores = np.random.default_rng(0).random(20000, np.float32)
    tracemalloc.start()
    kept = nms(boxes, scores, 0.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept.tolist() == [int(scores.argmax())]
    assert peak < 150e6  # bools of all pairs would be 400 MB


def test_twenty_thousand_separate_boxes_are_all_kept() -> None:
    x, y = np.meshgrid(np.arange(200), np.arange(100))
    corners = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32) * 20
    scores = np.random.default_rng(0).permutation(20000).astype(np.float32)
    assert nms(np.hstack([corners, corners + 18]), scores, 0.4).tolist() == np.argsort(-scores).tolist()
