"""Decoding against values worked out by hand, for one image and for batches."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmdet.models.task_modules.coders import DistancePointBBoxCoder  # noqa: E402

from facedet_mm.plugin.models.coders import anchor_points, decode_faces, decode_points, flatten_levels  # noqa: E402


def test_levels_are_flattened_in_the_order_level_row_column_anchor():
    # two levels, two anchors with three values each: value = 1000·level + 100·y + 10·x + anchor, + 0.1·channel
    maps = [
        torch.tensor(
            [
                [[1000 * level + 100 * y + 10 * x + a + c / 10 for x in range(3)] for y in range(2)]
                for a in range(2)
                for c in range(3)
            ]
        )
        for level in range(2)
    ]
    flat = flatten_levels([torch.stack([m, -m]) for m in maps], 3)
    expected = [
        1000 * level + 100 * y + 10 * x + a for level in range(2) for y in range(2) for x in range(3) for a in range(2)
    ]
    assert flat.shape == (2, 24, 3)
    assert flat[0, :, 0].tolist() == expected
    assert torch.allclose(flat[0, :, 2] - flat[0, :, 0], torch.tensor(0.2), atol=1e-3)
    assert torch.equal(flat[1], -flat[0])


def test_points_are_centers_with_the_stride_of_their_level():
    anchors = [torch.tensor([[0.0, 0, 16, 16], [0, 8, 16, 24]]), torch.tensor([[-8.0, 0, 24, 64]])]
    points, strides = anchor_points(anchors, [(8, 8), (32, 32)])
    assert points.tolist() == [[8, 8], [8, 16], [8, 32]]
    assert strides.tolist() == [[8], [8], [32]]


def test_boxes_are_clipped_and_landmarks_are_not():
    points, strides = torch.tensor([[16.0, 24], [100, 40]]), torch.tensor([[8.0], [16]])
    distances = torch.tensor([[1.0, 2, 3, 4], [1, 1, 2, 9]])
    offsets = torch.tensor([[float(i) for i in range(10)], [-10.0] * 10])
    boxes, landmarks = decode_faces(DistancePointBBoxCoder(), points, strides, distances, offsets, max_shape=(90, 110))
    assert boxes.tolist() == [[8, 8, 40, 56], [84, 24, 110, 90]]
    assert landmarks[0].tolist() == [(16, 24)[i % 2] + 8 * i for i in range(10)]
    assert landmarks[1].tolist() == [100 - 160, 40 - 160] * 5
    unclipped, nothing = decode_faces(DistancePointBBoxCoder(), points, strides, distances)
    assert unclipped[1].tolist() == [84, 24, 132, 184]
    assert nothing is None


def test_a_batch_shares_its_points():
    points = torch.tensor([[1.0, 2], [3, 4]])
    offsets = torch.arange(16.0).reshape(2, 2, 4)
    moved = decode_points(points[None], offsets)
    assert torch.equal(moved, torch.stack([decode_points(points, offset) for offset in offsets]))
    assert moved[1, 1].tolist() == [12 + 3, 13 + 4, 14 + 3, 15 + 4]
