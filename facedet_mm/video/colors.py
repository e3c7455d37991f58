"""``yuv420``: converts images for video encoders."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_BLUE, _RED = 0.114, 0.299
"""Weights of blue and red in the luma (BT.601)."""
_CHROMA_RANGE, _LUMA_RANGE, _LUMA_BLACK = 224 / 255, 219 / 255, 16
"""Values of the limited range relative to those from 0 to 255."""


def yuv420(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the Y, U and V planes (BT.601, limited range) with the mean chroma of each 2 x 2 pixels.

    OpenCV's own conversion takes the chroma of one pixel of the four, so that lines of one pixel lose their color or
    flicker; FFmpeg's makes everything darker by half a level or more.

    Args:
        image: (H, W, 3) uint8 BGR with even sides.

    Returns:
        (1.5 H, W) uint8, as ``av.VideoFrame.from_ndarray`` takes it.

    Example:
        >>> yuv420(np.full((2, 2, 3), (0, 0, 255), np.uint8)).tolist()
        [[82, 82], [82, 82], [90, 240]]
    """
    height, width = image.shape[:2]
    planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
    half = (width // 2, height // 2)
    luma = cv2.resize(planes[:height], half, interpolation=cv2.INTER_AREA)
    blue, _, red = cv2.split(cv2.resize(image, half, interpolation=cv2.INTER_AREA))
    chroma = planes[height:].reshape(2, *half[::-1])
    for plane, color, weight in ((chroma[0], blue, _BLUE), (chroma[1], red, _RED)):
        scale = _CHROMA_RANGE / (2 * (1 - weight))
        # U is proportional to blue - luma, V to red - luma
        plane[:] = cv2.addWeighted(color, scale, luma, -scale / _LUMA_RANGE, 128 + _LUMA_BLACK * scale / _LUMA_RANGE)
    return planes
