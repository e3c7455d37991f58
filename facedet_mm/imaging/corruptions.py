"""Corruptions of images by cameras, networks, light, occlusion and rotation, in three or four severities each.

Random numbers depend only on the name of the image and the corruption, so every severity has the same noise,
direction and occluders, and results do not depend on the order of the images.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.rotation import Rotation

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "Corruption",
    "add_noise",
    "blur",
    "corrupt",
    "corrupted_boxes",
    "darken",
    "erase_faces",
    "lower_resolution",
    "motion_blur",
    "recompress",
]

Boxes: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""

SEVERITIES = (1, 2, 3, 4)
"""Severities, from mild to strong; only rotation has the fourth."""

_LONGEST = 2.0
"""Largest factor between a side of a patch and the side of a patch of equal area in the shape of the face."""


def corrupt(image: Image, corruption: str, severity: int, name: str, boxes: ArrayLike = ()) -> Image:
    """Applies one corruption to one image.

    Args:
        image: (H, W, 3) uint8 BGR; it is not modified.
        corruption: Key of :data:`CORRUPTIONS`.
        severity: 1, 2 or 3; of rotation also 4.
        name: Name of the image, which seeds the random numbers.
        boxes: Boxes of the faces, (N, 4), x1 y1 x2 y2 in pixels; only ``'occlusion'`` uses them.

    Returns:
        (H, W, 3) uint8 BGR, a new image; a rotated one has another size.

    Raises:
        FaceDetError: The corruption or severity is unknown.

    Example:
        >>> image = np.full((40, 60, 3), 128, np.uint8)
        >>> int(corrupt(image, "gamma", 3, "party/1.jpg")[0, 0, 0])
        32
    """
    kind, value = _find(corruption, severity)
    digest = hashlib.blake2b(f"{corruption}/{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    return kind.apply(image, value, np.asarray(boxes, np.float64).reshape(-1, 4), rng)


def corrupted_boxes(boxes: NDArray[np.float64], corruption: str, severity: int, size: tuple[int, int]) -> Boxes:
    """Returns where the faces are after :func:`corrupt`: only rotation moves them.

    Args:
        boxes: Boxes of the faces, (N, 4), x1 y1 x2 y2 in pixels.
        corruption: Key of :data:`CORRUPTIONS`.
        severity: 1, 2 or 3; of rotation also 4.
        size: Width and height of the image before the corruption.

    Raises:
        FaceDetError: The corruption or severity is unknown.

    Example:
        >>> corrupted_boxes(np.array([[0.0, 0, 20, 30]]), "rotation", 4, (60, 40)).round(6).tolist()
        [[40.0, 10.0, 60.0, 40.0]]
    """
    kind, value = _find(corruption, severity)
    return kind.move(boxes, value, size)


def _find(corruption: str, severity: int) -> tuple[Corruption, float]:
    if corruption not in CORRUPTIONS:
        raise FaceDetError(f"unknown corruption {corruption!r}; known are {', '.join(CORRUPTIONS)}")
    kind = CORRUPTIONS[corruption]
    if severity not in SEVERITIES[: len(kind.values)]:
        raise FaceDetError(f"severity of {corruption} must be 1 to {len(kind.values)}, not {severity}")
    return kind, kind.values[severity - 1]


def blur(image: Image, sigma: float) -> Image:
    """Blurs with a Gaussian of standard deviation ``sigma`` in pixels.

    Example:
        >>> edge = np.repeat(np.uint8([0, 0, 0, 255, 255, 255]), 3).reshape(1, 6, 3)
        >>> blur(edge, 1.0)[0, :, 0].tolist()
        [2, 15, 77, 178, 240, 253]
    """
    return _uint8(cv2.GaussianBlur(image, (0, 0), sigma))


def motion_blur(image: Image, length: int, degrees: float) -> Image:
    """Blurs as a camera does that moves evenly by ``length`` pixels during the exposure.

    Args:
        image: (H, W, 3) uint8.
        length: Length of the line that a point becomes, in pixels.
        degrees: Direction of the line, from the x axis toward the y axis.

    Example:
        >>> point = np.zeros((1, 7, 3), np.uint8)
        >>> point[0, 3] = 250
        >>> motion_blur(point, 5, 0.0)[0, :, 0].tolist()
        [0, 50, 50, 50, 50, 50, 0]
    """
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, length, length, length, length, cv2.BORDER_REFLECT_101)
    pixels = _line(length, math.radians(degrees))
    total = np.zeros(image.shape, np.uint16)
    for x, y in (pixels + length).tolist():  # cv2.filter2D takes twenty times as long for 12 x 12 and more
        cv2.add(total, padded[y : y + height, x : x + width], dst=total, dtype=cv2.CV_16U)
    return _uint8(cv2.convertScaleAbs(total, alpha=1 / len(pixels)))


def recompress(image: Image, quality: int) -> Image:
    """Compresses as JPEG with ``quality`` from 1 to 100.

    Example:
        >>> recompress(np.full((16, 16, 3), 128, np.uint8), 20)[0, 0].tolist()
        [128, 128, 128]
    """
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return _uint8(cv2.imdecode(data, cv2.IMREAD_COLOR))


def darken(image: Image, gamma: float) -> Image:
    """Computes 255 · (v / 255)^gamma; a ``gamma`` above 1 darkens.

    Example:
        >>> darken(np.full((1, 1, 3), 51, np.uint8), 2.0)[0, 0].tolist()  # 255 · 0.2²
        [10, 10, 10]
    """
    return _uint8(cv2.LUT(image, np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)))


def add_noise(image: Image, sigma: float, rng: Generator) -> Image:
    """Adds independent normal noise of standard deviation ``sigma`` in gray levels to every value, clipped to 0–255.

    Example:
        >>> gray = np.full((100, 100, 3), 128, np.uint8)
        >>> float(add_noise(gray, 10, np.random.default_rng(0)).std().round())
        10.0
    """
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= sigma
    return _uint8(cv2.add(image, noise, dtype=cv2.CV_8U))


def erase_faces(image: Image, share: float, boxes: NDArray[np.float64], rng: Generator) -> Image:
    """Covers ``share`` of each face with a rectangle of one random color at a random place in the face.

    After Random Erasing (Zhong et al., AAAI 2020, section 3), but once per face and with a fixed area; the rectangle
    may be up to twice as wide or high as one in the shape of the face. Sides are whole pixels, so the share is not
    exact for faces of a few pixels.

    Args:
        image: (H, W, 3) uint8; it is not modified.
        share: Covered share of the face's area, from 0 to 1.
        boxes: Boxes, (N, 4), x1 y1 x2 y2 in pixels; parts outside the image are ignored.
        rng: Random numbers for shapes, places and colors; the same state yields the same ones for every ``share``.

    Example:
        >>> image = np.zeros((100, 100, 3), np.uint8)
        >>> erased = erase_faces(image, 0.25, np.array([[20.0, 20, 80, 80]]), np.random.default_rng(0))
        >>> int((erased != image).any(axis=2).sum()) / 60**2
        0.25
    """
    shape, place = rng.uniform(-1, 1, len(boxes)), rng.random((len(boxes), 2))
    colors = rng.integers(0, 256, (len(boxes), 3)).tolist()
    corners = np.rint(boxes)
    sides = (corners[:, 2:] - corners[:, :2]).clip(min=0)
    longest = min(_LONGEST, 1 / math.sqrt(share)) if share else 1.0
    width = np.rint(sides[:, 0] * math.sqrt(share) * longest**shape)
    height = np.rint(share * sides.prod(axis=1) / width.clip(min=1)).clip(max=sides[:, 1])
    patch = np.stack([width, height], axis=1)
    start = corners[:, :2] + np.rint(place * (sides - patch))
    patches = np.concatenate([start, start + patch], axis=1).clip(min=0).astype(np.int64).tolist()
    erased = image.copy()
    for (x1, y1, x2, y2), color in zip(patches, colors, strict=True):
        erased[y1:y2, x1:x2] = color
    return erased


def lower_resolution(image: Image, factor: float) -> Image:
    """Shrinks the image by ``factor`` (averaging pixels) and enlarges it to its old size (bilinear).

    Example:
        >>> lower_resolution(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), 4)[0, 0].tolist()
        [22, 24, 24]
    """
    height, width = image.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return _uint8(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR))


def _stay(boxes: Boxes, *_: Any) -> Boxes:
    """Returns the boxes as they are."""
    return boxes


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption.

    Attributes:
        unit: Unit of ``values``.
        values: Strength for each severity, three or four.
        apply: Function (image, value, boxes (N, 4) float64, random numbers) → new image.
        move: Function (boxes (N, 4) float64, value, width and height of the image) → boxes in the new image.

    Example:
        >>> CORRUPTIONS["jpeg"].unit, CORRUPTIONS["jpeg"].values
        ('quality', (80, 50, 20))
    """

    unit: str
    values: tuple[float, ...]
    apply: Callable[[Image, float, Boxes, Generator], Image]
    move: Callable[[Boxes, float, tuple[int, int]], Boxes] = _stay


CORRUPTIONS = {
    "gaussian_blur": Corruption("sigma in pixels", (1, 2, 4), lambda image, value, *_: blur(image, value)),
    "motion_blur": Corruption(
        "length in pixels",
        (7, 13, 25),
        lambda image, value, _, rng: motion_blur(image, int(value), rng.uniform(0, 180)),
    ),
    "jpeg": Corruption("quality", (80, 50, 20), lambda image, value, *_: recompress(image, int(value))),
    "gamma": Corruption("exponent", (1.5, 2.25, 3.0), lambda image, value, *_: darken(image, value)),
    "noise": Corruption(
        "sigma in gray levels", (10, 20, 40), lambda image, value, _, rng: add_noise(image, value, rng)
    ),
    "occlusion": Corruption("share of the face", (0.2, 0.35, 0.5), erase_faces),
    "low_resolution": Corruption("times smaller", (2, 3, 4), lambda image, value, *_: lower_resolution(image, value)),
    "rotation": Corruption(
        "degrees, clockwise",
        (15, 45, 90, 180),
        lambda image, value, *_: Rotation((image.shape[1], image.shape[0]), value).image(image),
        lambda boxes, value, size: Rotation(size, value).boxes(boxes),
    ),
}
"""Name → corruption; lengths are in pixels of the image (images of WIDER FACE are 1024 pixels wide)."""


def _line(length: int, angle: float) -> NDArray[np.int64]:
    """Returns the pixels of a line through the origin, (N, 2), x y: one per column, or one per row if it is steep."""
    direction = np.array([math.cos(angle), math.sin(angle)])
    longer = float(abs(direction).max())
    count = max(1, round(length * longer))
    steps = np.arange(count) - (count - 1) / 2
    pixels: NDArray[np.int64] = np.floor(steps[:, None] * direction / longer + 0.5).astype(np.int64)
    return pixels


def _uint8(image: Any) -> Image:
    return np.asarray(image, np.uint8)
