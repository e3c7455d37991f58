"""Input for networks with their normalisation inside: letterboxed pixels, uint8 BGR."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.letterbox import Letterbox, Normalization


def padding_of(normalization: Normalization) -> tuple[int, int, int]:
    """The BGR pixel that comes closest to 0 after normalisation; halves are rounded up: 127.5 to 128."""
    mean = normalization.mean[::-1] if normalization.to_rgb else normalization.mean
    blue, green, red = (min(max(int(value + 0.5), 0), 255) for value in mean)
    return blue, green, red


def make_pixels(
    images: Sequence[NDArray[np.uint8]], boxes: Sequence[Letterbox], padding: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """The input for pictures that share one canvas: (N, H, W, 3) uint8 BGR.

    Args:
        images: what each box was planned for.
        boxes: of one canvas.
        padding: the pixel around them, see :func:`padding_of`.
    """
    width, height = boxes[0].canvas
    pixels = np.empty((len(images), height, width, 3), np.uint8)
    for canvas, image, box in zip(pixels, images, boxes, strict=True):
        columns, rows = box.resized
        canvas[rows:] = padding
        canvas[:rows, columns:] = padding
        if box.resized == box.picture:
            canvas[:rows, :columns] = image
        else:
            canvas[:rows, :columns] = cv2.resize(image, box.resized, interpolation=cv2.INTER_LINEAR)
    return pixels
