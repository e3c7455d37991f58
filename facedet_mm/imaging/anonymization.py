"""Makes faces in images unrecognizable."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.alignment import enlarge, pixel_boxes
from facedet_mm.io.images import as_bgr
from facedet_mm.structures import Faces

__all__ = ["Method", "Shape", "anonymize"]

Method: TypeAlias = Literal["blur", "pixelate", "fill"]
Shape: TypeAlias = Literal["ellipse", "box"]

_BLOCKS = 3
"""Largest number of averages along a region, at any resolution. With 16, networks still identify a face from a list of
candidates (McPherson et al. 2016, arXiv 1609.00408); with 4 or more, detectors still find a face."""
_LEAST_BLOCK = 4
"""Smallest side of a block in pixels: small faces get fewer blocks, not finer ones."""
_FILL = 0


def anonymize(
    image: NDArray[np.uint8],
    faces: Faces,
    method: Method = "blur",
    *,
    margin: float = 0.2,
    shape: Shape = "ellipse",
) -> NDArray[np.uint8]:
    """Returns a copy of the image whose faces can't be recognized or restored; the rest stays bit-identical.

    At any resolution, at most 3×3 averages over at least a third of the face's length remain: ``'blur'`` shows
    them as a smooth gradient, ``'pixelate'`` as blocks. ``'fill'`` is black and leaves nothing; choose it if
    somebody might combine many frames of a video to restore a face.

    Args:
        image: uint8 BGR (H, W, 3), gray or BGRA.
        faces: Faces to hide, in pixels of ``image``.
        method: ``'blur'``, ``'pixelate'`` or ``'fill'``.
        margin: Margin covered around the box, as a fraction of its width and height. From 0.21 on, the ellipse
            also covers the corners of the box.
        shape: Shape of the covered region: ``'ellipse'`` or ``'box'``.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ImageError: ``image`` is not a uint8 image.
        FaceDetError: ``method`` or ``shape`` is unknown, or ``margin`` is negative or not finite.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (80, 80), np.uint8)
        >>> hidden = anonymize(image, Faces([[20, 20, 60, 60]], [0.9]), "pixelate", margin=0, shape="box")
        >>> len(np.unique(image[20:60, 20:60])), len(np.unique(hidden[20:60, 20:60]))
        (255, 4)
    """
    _check_choice("method", method, get_args(Method))
    _check_choice("shape", shape, get_args(Shape))
    canvas = as_bgr(image).copy()
    wholes = enlarge(faces.boxes, margin)
    parts = pixel_boxes(wholes, canvas.shape[1], canvas.shape[0])
    for whole, (x1, y1, x2, y2) in zip(wholes, parts.tolist(), strict=True):
        if x1 < x2:
            region = canvas[y1:y2, x1:x2]
            hidden = _hidden(region, method, longest=float((whole[2:] - whole[:2]).max()))
            if shape == "ellipse":
                cv2.copyTo(hidden, _ellipse(whole - [x1, y1, x1, y1], x2 - x1, y2 - y1), region)
            else:
                region[:] = hidden
    return canvas


def _hidden(region: NDArray[np.uint8], method: Method, longest: float) -> NDArray[np.uint8]:
    """Returns the cover of a visible region of a face whose longer side, also outside the image, is ``longest``."""
    if method == "fill":
        return np.full_like(region, _FILL)
    height, width = region.shape[:2]
    block = max(_LEAST_BLOCK, math.ceil(longest / _BLOCKS))
    averages = cv2.resize(region, (max(1, width // block), max(1, height // block)), interpolation=cv2.INTER_AREA)
    enlarging = cv2.INTER_NEAREST if method == "pixelate" else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(averages, (width, height), interpolation=enlarging), np.uint8)


def _ellipse(box: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """Returns a (height, width) uint8 mask, nonzero where a pixel's center is in the ellipse inscribed in ``box``."""
    x1, y1, x2, y2 = box
    x = np.abs(np.arange(width) + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
    y = (np.arange(height) + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    half_width = np.sqrt(np.maximum(1 - y**2, 0))
    inside: NDArray[np.bool_] = x <= half_width[:, None]
    return inside.view(np.uint8)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise FaceDetError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")
