"""Image changes that the training transforms apply, with NumPy and OpenCV only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""
Planes = NDArray[np.uint8]
"""(3, H, W) uint8, the channels of an image one after the other; or one channel, (H, W)."""


def crop_square(image: Image, left: float, top: float, side: int, size: int, fill: int = 128) -> Image:
    """Crops a square, which may extend beyond the image, and resizes it (bilinear).

    Only the visible part of the image is resized and then put on a gray square. The result equals padding before
    resizing, except that the outermost pixels of the image do not blend with the gray.

    Args:
        image: (H, W, 3) uint8.
        left: Left edge of the square in pixels of the image; an integer if positive, else a multiple of
            ``side / size``, so that the image begins at a whole pixel of the result.
        top: Top edge of the square, under the same rule.
        side: Side of the square in pixels of the image.
        size: Side of the result in pixels.
        fill: Gray value outside the image.

    Returns:
        (size, size, 3) uint8; never a view of ``image``.
    """
    x1, y1 = int(max(left, 0)), int(max(top, 0))
    seen = image[y1 : max(math.ceil(top + side), y1), x1 : max(math.ceil(left + side), x1)]
    if seen.shape[:2] == (side, side):
        return np.array(seen) if size == side else np.asarray(cv2.resize(seen, (size, size)), np.uint8)
    square = np.full((size, size, image.shape[2]), fill, np.uint8)
    if seen.size:
        factor = size / side
        height, width = (round(length * factor) for length in seen.shape[:2])
        x, y = round(max(-left, 0) * factor), round(max(-top, 0) * factor)
        room = square[y : y + height, x : x + width]
        resized = cv2.resize(seen, None, dst=room, fx=factor, fy=factor)
        if resized is not room:  # OpenCV rounded the size differently
            room[:] = cv2.resize(resized, room.shape[1::-1])
    return square


def distort_colors(
    image: Image,
    brightness: float = 0.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
    channels: Sequence[int] = (0, 1, 2),
) -> Image:
    """Applies photometric distortion in uint8.

    Contrast is a common factor of the three channels, so it commutes with saturation and hue. It is applied first
    if it darkens and last if it brightens, so that no intermediate result overflows unless the final one does.

    Args:
        image: (H, W, 3) uint8 BGR.
        brightness: Offset of every channel, in gray levels.
        contrast: Factor of every channel, applied after ``brightness``.
        saturation: Factor of the HSV saturation, which is clipped at 1.
        hue: Offset of the HSV hue, in degrees from −30 to 30.
        channels: Indices of the input channels in the order of the output.

    Returns:
        (H, W, 3) uint8; if colors changed, a view of (3, H, W) memory, the layout that a network takes.
    """
    if saturation == 1 and not hue and tuple(channels) == (0, 1, 2):
        return _linear(image, contrast, contrast * brightness)
    planes = split_channels(image, channels)
    rows = planes.reshape(-1, planes.shape[-1])
    early, late = min(contrast, 1.0), max(contrast, 1.0)
    _linear(rows, early, early * brightness, out=rows)
    if saturation != 1:
        _saturate(planes, saturation)
    if hue:
        _turn_hue(planes, hue, channels)
    _linear(rows, late, 0.0, out=rows)
    return planes.transpose(1, 2, 0)


def split_channels(image: Image, channels: Sequence[int] = (0, 1, 2)) -> Planes:
    """Returns copies of the ``channels`` as (3, H, W) uint8; twice as fast as ``cv2.split`` and stacking."""
    planes = np.empty((len(channels), *image.shape[:2]), np.uint8)
    for channel, plane in zip(channels, planes, strict=True):
        cv2.extractChannel(image, int(channel), dst=plane)
    return planes


def _linear(image: Image, factor: float, offset: float, out: Image | None = None) -> Image:
    if factor == 1 and not offset:
        return image
    result: Image = np.asarray(cv2.addWeighted(image, factor, image, 0.0, offset, dst=out), np.uint8)
    return result


def _saturate(planes: Planes, factor: float) -> None:
    """Scales the HSV saturation, which is each channel's distance from the largest, until the smallest is 0."""
    top, bottom = _extremes(planes)
    if factor <= 1:
        for plane in planes:
            cv2.addWeighted(plane, factor, top, 1 - factor, 0.0, dst=plane)
        return
    spread = np.subtract(top, bottom, out=bottom)
    limit = cv2.divide(top, spread, dst=spread, scale=255 / factor)  # in 255ths of factor; saturates at 255
    np.subtract(top, planes, out=planes)
    for distance in planes:
        cv2.multiply(distance, limit, dst=distance, scale=factor / 255)
        cv2.subtract(top, distance, dst=distance)


def _turn_hue(planes: Planes, degrees: float, channels: Sequence[int]) -> None:
    """Rotates the HSV hue by at most 30 degrees.

    Around the color circle a channel rises from the smallest value to the largest (a sixth of a turn), stays there
    (a third), falls (a sixth) and stays (a third); each channel does so a third of a turn after the previous one. So
    a channel rises by the rest of the rotation after the next channel has fallen to the smallest value, and falls by
    the rest after the next channel has risen to the largest. Subtraction saturated at 0 covers all other cases.
    """
    top, bottom = _extremes(planes)
    high: Planes = np.subtract(top, bottom)
    turn: Any = cv2.convertScaleAbs(high, alpha=abs(degrees) / 60)
    low = bottom + turn
    np.subtract(top, turn, out=high)
    step = -1 if degrees > 0 else 1  # the circle runs red, green, blue: channels 2, 1, 0
    first, second, third = (planes[list(channels).index(i * step % 3)] for i in range(3))
    left = turn  # reuses the memory: low and high contain all that is needed of turn
    for plane, following in ((first, second), (second, third), (third, first.copy())):
        cv2.add(plane, cv2.subtract(low, following, dst=left), dst=plane)
        np.minimum(plane, top, out=plane)
        cv2.subtract(plane, cv2.subtract(following, high, dst=left), dst=plane)
        np.maximum(plane, bottom, out=plane)


def _extremes(planes: Planes) -> tuple[Planes, Planes]:
    blue, green, red = planes
    return np.maximum(np.maximum(blue, green), red), np.minimum(np.minimum(blue, green), red)
