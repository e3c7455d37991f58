"""Reads, checks and writes images as uint8 BGR arrays, with an error message for everything that can be wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import ImageError
from facedet_mm.system.files import write_bytes

IMAGE_SUFFIXES = frozenset(
    (
        ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
        ".ppm", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
"""Lower-case suffixes of the files that count as images."""

_FORMATS = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""A JPEG marker other than a restart; ``FF 00`` is a stuffed byte of coded data, repeated ``FF`` are fill bytes."""
_END_OF_IMAGE = b"\xd9"
_WITHOUT_LENGTH = (b"\xd8", b"\x01")


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Reads an image and rotates it by its EXIF orientation, which OpenCV reads from JPEG, PNG and TIFF files.

    Gray, palette, alpha and 16-bit images become 8-bit BGR; alpha is dropped.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ImageError: The file is missing, a folder, empty, not an image, damaged, truncated or too large.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> read_image(asset_path("solvay_1927.jpg")).shape
        (2171, 3000, 3)
    """
    data = _read_bytes(path)
    kind = next((name for magic, name in _FORMATS.items() if data.startswith(magic)), None)
    # Checked here because some versions of OpenCV silently fill the missing part with gray.
    if (kind == "JPEG" and not _jpeg_ends(data)) or (kind == "PNG" and not _png_ends(data)):
        raise ImageError(f"{path}: truncated {kind}: the file stops before the image's end")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError) as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise ImageError(f"{path}: too large for OpenCV (at most 2^20 pixels a side and 2^30 in all)") from error
        raise ImageError(f"{path}: cannot be decoded: {error}".strip()) from error
    if image is None and kind is not None:
        raise ImageError(f"{path}: damaged, truncated or oversized {kind}: it cannot be decoded")
    if image is None:
        raise ImageError(f"{path}: not an image in a format that OpenCV reads (JPEG, PNG, WebP, BMP, TIFF, …)")
    return _uint8(image)


def as_bgr(image: Any, name: str = "image") -> NDArray[np.uint8]:
    """Checks that an array is an image and converts it to three channels.

    Args:
        image: uint8 array: gray (H, W) or (H, W, 1), BGR (H, W, 3) or BGRA (H, W, 4).
        name: Name of the image in error messages.

    Returns:
        (H, W, 3) uint8, BGR; the same array, not a copy, if it already has three channels.

    Raises:
        ImageError: ``image`` is not an array, is empty, or has another type or shape.

    Example:
        >>> as_bgr(np.zeros((4, 6), np.uint8)).shape
        (4, 6, 3)
    """
    if image is None:
        raise ImageError(f"{name} is None; cv2.imread returns None for a file that it can't read")
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{name} must be a path or a uint8 BGR array, not {type(image).__name__}")
    if image.dtype != np.uint8:
        raise ImageError(f"{name} must be uint8 with values 0 to 255, not {image.dtype}")
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else None
    if channels not in (1, 3, 4):
        raise ImageError(f"{name} must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {image.shape}")
    if image.size == 0:
        raise ImageError(f"{name} is empty: its shape is {image.shape}")
    if channels == 3:
        return image
    return _uint8(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR))


def load_image(image: Any, name: str = "image") -> NDArray[np.uint8]:
    """Reads an image from a path with :func:`read_image`, or checks an array with :func:`as_bgr`.

    Example:
        >>> load_image(np.zeros((4, 6, 3), np.uint8)).shape
        (4, 6, 3)
    """
    return read_image(image) if isinstance(image, (str, os.PathLike)) else as_bgr(image, name)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes an image atomically, in the format given by the suffix of the path.

    Args:
        path: Path of the file; missing folders are created.
        image: uint8 BGR (H, W, 3) or gray.

    Raises:
        ImageError: OpenCV can't write the image in this format.
        FaceDetError: The file can't be written.

    Example:
        >>> write_image(Path("image.docx"), np.zeros((4, 4, 3), np.uint8))
        Traceback (most recent call last):
        facedet_mm.errors.ImageError: image.docx: OpenCV can't write a 4 x 4 image as .docx
    """
    try:
        done, data = cv2.imencode(path.suffix, image)
    except cv2.error:
        done = False
    if not done:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise ImageError(f"{path}: OpenCV can't write a {size} image as {path.suffix}")
    write_bytes(path, data.tobytes())


def opencv_logging() -> Any:
    """Returns the module that has OpenCV's ``getLogLevel`` and ``setLogLevel``, which differs between versions 4 and 5.

    Example:
        >>> opencv_logging().getLogLevel() >= 0
        True
    """
    opencv: Any = cv2
    return opencv if hasattr(opencv, "setLogLevel") else opencv.utils.logging


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: a folder, not an image") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise ImageError(f"{path}: empty file (0 bytes)")
    return data


def _jpeg_ends(data: bytes) -> bool:
    """Returns whether the first image in a JPEG stream reaches its end marker.

    Walks from marker to marker, so thumbnails inside segments and garbage after the end don't count.
    """
    if data.endswith(b"\xff\xd9"):
        return True
    position = 0
    while marker := _MARKER.search(data, position):
        if marker[1] == _END_OF_IMAGE:
            return True
        position = marker.end()
        if marker[1] not in _WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Returns whether the chunks of a PNG file end with a complete ``IEND``."""
    position = 8
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False


def _uint8(image: Any) -> NDArray[np.uint8]:
    return np.asarray(image, np.uint8)
