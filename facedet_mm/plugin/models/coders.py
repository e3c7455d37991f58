"""Decodes the outputs of the head: anchor points, boxes from distances, landmarks from offsets.

The head decodes with these functions, and so do the graphs that are exported from it: every step can be traced.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.task_modules.coders import BaseBBoxCoder
from torch import Tensor


def flatten_levels(maps: Sequence[Tensor], channels: int) -> Tensor:
    """Returns maps (B, A·channels, H, W) of all levels as (B, N, channels), in the order (level, y, x, anchor)."""
    # shape instead of len keeps the batch size of a traced graph dynamic
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, channels) for m in maps], dim=1)


def anchor_points(anchors: Sequence[Tensor], strides: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Returns the centers and strides of all anchors.

    Args:
        anchors: One tensor (N, 4) per level, x1 y1 x2 y2 in pixels.
        strides: Stride of each level in pixels, horizontal and vertical.

    Returns:
        Centers (ΣN, 2), x y in pixels, and strides (ΣN, 1).
    """
    points = [(level[:, :2] + level[:, 2:]) / 2 for level in anchors]
    widths = [torch.full_like(level[:, :1], stride[0]) for level, stride in zip(points, strides, strict=True)]
    return torch.cat(points), torch.cat(widths)


def decode_points(points: Tensor, offsets: Tensor) -> Tensor:
    """Returns points (..., 2) moved by offsets (..., 2·K), both x y in pixels, as (..., 2·K)."""
    return points.repeat(*[1] * (points.ndim - 1), offsets.shape[-1] // 2) + offsets


def decode_faces(
    coder: BaseBBoxCoder,
    points: Tensor,
    strides: Tensor,
    distances: Tensor,
    offsets: Tensor | None = None,
    max_shape: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Decodes boxes and landmarks.

    Args:
        coder: Box coder of the head; its ``decode`` takes points and distances.
        points: Anchor points (..., 2), x y in pixels.
        strides: Strides (..., 1) in pixels.
        distances: Distances (..., 4) to left, top, right and bottom in units of the stride.
        offsets: Landmark offsets (..., 10), x y from the anchor point in units of the stride.
        max_shape: Height and width in pixels to which boxes are clipped; landmarks never are.

    Returns:
        Boxes (..., 4), x1 y1 x2 y2, and landmarks (..., 10), x y of each point, both in pixels; ``None`` for the
        landmarks where there are no offsets.
    """
    boxes = coder.decode(points, distances * strides, max_shape=max_shape)
    return boxes, None if offsets is None else decode_points(points, offsets * strides)
