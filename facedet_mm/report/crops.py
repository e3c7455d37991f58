"""Crops around misses and false alarms."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import ImageError
from facedet_mm.io.images import IMAGE_SUFFIXES, read_image

__all__ = ["Crop", "ImageFolder"]

Box = tuple[float, float, float, float]

_CONTEXT = 3.0
"""Side of a crop as a multiple of the longer side of the box, if the image is large enough."""
_MIN_CONTEXT = 1.2
"""Smallest multiple, in a small image."""
_MIN_SIDE = 64
_MAX_PIXELS = 192
_QUALITY = 80


@dataclass(frozen=True)
class Crop:
    """A square piece of an image.

    Attributes:
        window: x1 y1 x2 y2 in pixels of the image; pixels outside of the image are black.
        jpeg: JPEG file of the pixels, at most 192 per side.

    Example:
        >>> Crop((0, 0, 8, 8), b"x").uri
        'data:image/jpeg;base64,eA=='
    """

    window: Box
    jpeg: bytes

    @property
    def uri(self) -> str:
        """The JPEG file as a data URI."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


class ImageFolder:
    """A folder of images that are found by their keys ``event/image``.

    Attributes:
        folder: Folder with ``<event>/<image>.jpg``.

    Raises:
        ImageError: There is no such folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     os.mkdir(f"{folder}/party")
        ...     _ = cv2.imwrite(f"{folder}/party/1.png", np.zeros((90, 120, 3), np.uint8))
        ...     crops = ImageFolder(folder).cut({"party/1": [(10.0, 10.0, 40.0, 50.0)]})
        >>> crops["party/1"][0].window
        (0.0, 0.0, 90.0, 90.0)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ImageError(f"{self.folder} is not a folder; give the one with <event>/<image>.jpg")
        if (self.folder / "images").is_dir():
            self.folder = self.folder / "images"

    def path(self, key: str) -> Path | None:
        """Returns the file of an image, or ``None`` if there is none."""
        files = (self.folder / f"{key}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))
        return next((file for file in files if file.is_file()), None)

    def cut(self, wanted: dict[str, list[Box]]) -> dict[str, list[Crop]]:
        """Returns a crop around each box; images that are missing or damaged are left out.

        Args:
            wanted: Key → boxes x1 y1 x2 y2 in pixels of that image.
        """
        crops = {}
        for key, boxes in wanted.items():
            path = self.path(key)
            try:
                image = None if path is None else read_image(path)
            except ImageError:
                image = None
            if image is not None:
                crops[key] = [_cut(image, box) for box in boxes]
        return crops


def overlapping(boxes: NDArray[np.floating], window: Box) -> NDArray[np.intp]:
    """Returns the rows of the boxes (N, 4) that reach into a window.

    Example:
        >>> overlapping(np.array([[0, 0, 9, 9], [20, 0, 30, 9]]), (5, 5, 15, 15)).tolist()
        [0]
    """
    x1, y1, x2, y2 = window
    inside = (boxes[:, 0] < x2) & (boxes[:, 2] > x1) & (boxes[:, 1] < y2) & (boxes[:, 3] > y1)
    return np.flatnonzero(inside)


def _cut(image: NDArray[np.uint8], box: Box) -> Crop:
    height, width = image.shape[:2]
    farthest = 2 * max(height, width)
    x1, y1, x2, y2 = np.clip(box, -farthest, farthest).tolist()
    longest = max(x2 - x1, y2 - y1)
    side = max(round(max(min(_CONTEXT * longest, height, width), _MIN_CONTEXT * longest, _MIN_SIDE)), 1)
    left, top = _start(x1, x2, side, width), _start(y1, y2, side, height)
    rows, columns = (slice(max(start, 0), max(start + side, 0)) for start in (top, left))
    inside = image[rows, columns]
    pixels = min(side, _MAX_PIXELS)
    shown = np.zeros((pixels, pixels, 3), np.uint8)
    if inside.size:
        margins = (max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0))
        square = cv2.copyMakeBorder(inside, *margins, cv2.BORDER_CONSTANT)
        shown = np.asarray(cv2.resize(square, (pixels, pixels), interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return Crop((float(left), float(top), float(left + side), float(top + side)), data.tobytes())


def _start(low: float, high: float, side: int, end: int) -> int:
    """Returns where a window around the middle begins; it is moved into the image as far as the box stays inside."""
    start = (low + high - side) / 2
    moved = min(max(start, 0.0), max(end - side, 0.0)) if side <= end else (end - side) / 2
    return round(min(max(moved, high - side), low))
