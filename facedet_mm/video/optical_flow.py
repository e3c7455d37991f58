"""Follows boxes from one frame to the next by the motion of the pixels in them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.io.images import as_bgr

FLOW_SIDE = 320
"""Longest side in pixels of the images in which points are followed."""
_MAX_RETURN_ERROR = 1.0
"""Pixels by which a point that is followed forward and back may miss its start."""
_MAX_GROWTH = 1.1
"""Largest factor by which a face grows or shrinks from one frame to the next."""
_GRID = np.stack(np.meshgrid(*[np.linspace(-0.35, 0.35, 5, dtype=np.float32)] * 2), axis=-1).reshape(-1, 2)
"""The points that are followed, in box widths and heights from the center."""


def small_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a gray image of at most :data:`FLOW_SIDE` pixels per side, for :func:`follow_boxes`.

    Raises:
        ImageError: ``image`` is not a uint8 image.
    """
    gray = cv2.cvtColor(as_bgr(image), cv2.COLOR_BGR2GRAY)
    scale = min(1.0, FLOW_SIDE / max(gray.shape))
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else gray
    return np.asarray(small, np.uint8)


def follow_boxes(
    before: NDArray[np.uint8], after: NDArray[np.uint8], boxes: NDArray[np.float32], width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Follows boxes by pyramidal Lucas-Kanade optical flow; points that do not come back are ignored.

    Args:
        before: Small gray image of the first frame.
        after: Small gray image of the second frame.
        boxes: (N, 4) boxes in the first frame, in pixels of the full-size frame.
        width: Width of the full-size frame in pixels.

    Returns:
        The (N, 4) boxes in the second frame, and for each whether it can be trusted, (N,) bool.
    """
    to_small = after.shape[1] / width
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / np.float32(2), boxes[:, 2:] - boxes[:, :2]
    points = (centers[:, None] + _GRID * sizes[:, None]).reshape(-1, 1, 2) * np.float32(to_small)
    ahead, found = _lucas_kanade(before, after, points)
    back, returned = _lucas_kanade(after, before, ahead)
    good = (found & returned & (np.abs(back - points).max(axis=2) < _MAX_RETURN_ERROR)).reshape(len(boxes), -1)
    trusted = good.sum(axis=1) >= len(_GRID) / 2

    places = np.where(good[..., None], ahead.reshape(*good.shape, 2) / to_small, np.nan)[trusted]
    grid = np.where(good[trusted][..., None], _GRID, np.nan)
    middle, origin = np.nanmedian(places, axis=1), np.nanmedian(grid, axis=1)
    spread = np.nanmedian(np.abs(places - middle[:, None]), axis=1)
    expected = np.nanmedian(np.abs(grid - origin[:, None]), axis=1) * sizes[trusted]
    growth = spread.sum(axis=1) / np.maximum(expected.sum(axis=1), 1e-6)
    growth = np.clip(growth, 1 / _MAX_GROWTH, _MAX_GROWTH)[:, None]
    half = sizes[trusted] * growth / 2
    center = middle - origin * 2 * half
    moved = boxes.copy()
    moved[trusted] = np.concatenate([center - half, center + half], axis=1)
    return moved, trusted


def _lucas_kanade(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns the (K, 1, 2) positions of the points in the second image, and which were found, (K, 1)."""
    # OpenCV's type stubs do not allow the output to be None
    places, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=(15, 15), maxLevel=3)  # type: ignore[call-overload,unused-ignore]
    return places, found > 0
