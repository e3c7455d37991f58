"""The size of an image as it will be read, without decoding it where its header is enough."""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO

from PIL import JpegImagePlugin

from facedet_mm.errors import ImageError
from facedet_mm.io.headers import HEADER_SIZE, image_kind, image_size
from facedet_mm.io.images import read_image

_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, struct.error)
"""What Pillow raises for damaged headers."""
_ORIENTATION = 0x0112
_SIDEWAYS = frozenset((5, 6, 7, 8))
"""EXIF orientations that swap width and height."""


def image_dimensions(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns width and height in pixels of the upright image that :func:`~facedet_mm.io.images.read_image` returns.

    Raises:
        ImageError: The file is missing or not an image.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> image_dimensions(asset_path("solvay_1927.jpg"))
        (3000, 2171)
    """
    size = None
    try:
        with open(path, "rb") as file:
            size = _header_size(file)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except _DAMAGED:  # the reader says what is wrong
        pass
    if size is None:
        height, width = read_image(path).shape[:2]
        size = (width, height)
    return size


def _header_size(file: BinaryIO) -> tuple[int, int] | None:
    """Returns the size if the header tells it and whether the image is turned; ``None`` means: decode it."""
    head = file.read(HEADER_SIZE)
    kind = image_kind(head)
    file.seek(0)
    if kind == "JPEG":
        image: Any = JpegImagePlugin.JpegImageFile(file)
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)
    if kind in ("BMP", "GIF") or (kind == "PNG" and not _has_exif(file)):
        return image_size(kind, head)
    return None


def _has_exif(file: BinaryIO) -> bool:
    """Returns whether a PNG file has EXIF data, which may turn it, or ends early."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"eXIf", b"IEND"):
            return bool(name == b"eXIf")
        file.seek(length + 4, os.SEEK_CUR)
    return True
