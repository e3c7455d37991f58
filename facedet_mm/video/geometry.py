"""The size and orientation of frames."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

_SQUARE_TOLERANCE = 0.01
"""Pixels whose sides differ by less count as square."""
_MAX_ASPECT = 16
"""No camera or disc has longer pixels; a file that says so is wrong."""
MAX_PIXELS = 2**26
"""Pixels of the largest frames that are processed: twice those of 8K."""


def fit(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Returns the image itself if it has this size, else resized with its aspect ratio kept and black borders.

    Example:
        >>> fit(np.full((10, 10, 3), 9, np.uint8), 40, 20)[0, ::10, 0].tolist()
        [0, 9, 9, 0]
    """
    h, w = image.shape[:2]
    if (w, h) == (width, height):
        return image
    scale = min(width / w, height / h)
    inner = (max(1, round(w * scale)), max(1, round(h * scale)))
    resized = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = resized
    return canvas


def upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Applies a display matrix that rotates by a multiple of 90 degrees or mirrors.

    Args:
        image: (H, W, 3) uint8, as stored.
        matrix: (9,) int32 of ISO/IEC 14496-12, 8.3.2.3: a stored point (x, y) is shown at (ax + cy, bx + dy),
            with a, b, c, d at positions 0, 1, 3, 4.

    Example:
        >>> upright(np.array([[1, 2], [3, 4]], np.uint8), np.array([0, 1, 0, -1, 0, 0, 0, 0, 1], np.int32)).tolist()
        [[3, 1], [4, 2]]
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        image = np.asarray(cv2.transpose(image), np.uint8)
        a, d = c, b
    if a >= 0 and d >= 0:
        return image
    return np.asarray(cv2.flip(image, -1 if a < 0 and d < 0 else 1 if a < 0 else 0), np.uint8)


def square_pixel_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Returns the (width, height) at which pixels become square; the side that is too short grows.

    Args:
        width: Stored width in pixels.
        height: Stored height in pixels.
        aspect: Width of a pixel divided by its height; ``None`` if unknown. One that no frame can have is ignored.

    Example:
        >>> square_pixel_size(720, 576, Fraction(64, 45)), square_pixel_size(720, 576, None)
        ((1024, 576), (720, 576))
    """
    if not aspect or abs(aspect - 1) < _SQUARE_TOLERANCE or not plausible_aspect(width, height, aspect):
        return width, height
    return _stretched(width, height, aspect)


def plausible_aspect(width: int, height: int, aspect: Fraction) -> bool:
    """Returns whether frames of this stored size can have pixels of this shape."""
    if not Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT:
        return False
    stretched = _stretched(width, height, aspect)
    return stretched[0] * stretched[1] <= MAX_PIXELS


def _stretched(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
