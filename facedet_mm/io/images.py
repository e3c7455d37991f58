"""Reads, checks and writes images as uint8 BGR arrays, with an error message for everything that can be wrong."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError, ImageError
from facedet_mm.io.decoding import Pages, open_pages
from facedet_mm.io.headers import HEADER_SIZE, image_kind
from facedet_mm.system.files import write_bytes

IMAGE_SUFFIXES = frozenset(
    (
        ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
        ".ppm", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
"""Lower-case suffixes of the files that count as images."""

DEFAULT_MAX_PIXELS = 200_000_000
"""Largest number of pixels of an image: the largest camera sensors of phones have 199.8 million."""
_BYTES_PER_PIXEL = 8
_SPARE_BYTES = 1 << 26
_CHUNK = 1 << 20


def read_image(
    path: str | os.PathLike[str],
    *,
    max_pixels: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> NDArray[np.uint8]:
    """Reads an image and rotates it by its EXIF orientation or, in AVIF files, its rotation and mirror properties.

    Gray, palette, alpha and 16-bit images become 8-bit BGR; alpha is dropped. Floating-point images must have values
    from 0 to 1. Of a file with several pages or frames the first is read.

    Args:
        path: Path of the file. A pipe or device is read up to the size that ``max_pixels`` allows.
        max_pixels: Largest number of pixels, checked before the image is decoded; ``None`` means
            :func:`pixel_limit`.
        notify: Called with a message if the file has more pages; ``None`` issues a Python warning.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ImageError: The file is missing, a folder, empty, not an image, damaged, truncated or too large.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> read_image(asset_path("solvay_1927.jpg")).shape
        (2171, 3000, 3)
    """
    pages = _open(path, max_pixels)
    image = pages.decode(0)
    if pages.count > 1:
        message = f"{path}: only the first of {pages.count} pages was used"
        if notify is None:
            warnings.warn(f"{message}; read_pages reads all", stacklevel=2)
        else:
            notify(message)
    return image


def read_pages(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yields all pages of a TIFF file, or all frames of an animated GIF, PNG, WebP or AVIF file, one by one.

    Arguments, results and errors are those of :func:`read_image`; other images have one page.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> [page.shape for page in read_pages(asset_path("solvay_1927.jpg"))]
        [(2171, 3000, 3)]
    """
    pages = _open(path, max_pixels)
    for index in range(pages.count):
        yield pages.decode(index)


def count_pages(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> int:
    """Returns the number of pages or frames that :func:`read_pages` yields, without decoding them.

    Arguments and errors are those of :func:`read_image`.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> count_pages(asset_path("solvay_1927.jpg"))
        1
    """
    return _open(path, max_pixels).count


def pixel_limit() -> int:
    """Returns ``$FACEDET_MAX_PIXELS``, else :data:`DEFAULT_MAX_PIXELS`.

    Raises:
        FaceDetError: The variable is not a positive integer.

    Example:
        >>> "FACEDET_MAX_PIXELS" in os.environ or pixel_limit() == 200_000_000
        True
    """
    text = os.environ.get("FACEDET_MAX_PIXELS", "").strip()
    if not text:
        return DEFAULT_MAX_PIXELS
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit < 1:
        raise FaceDetError(f"FACEDET_MAX_PIXELS must be a positive number of pixels, not {text!r}")
    return limit


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file of a folder is taken for an image, by its suffix; hidden files, pipes and devices are not.

    A broken link counts, so that reading it says what is missing.

    Example:
        >>> is_image_file("photo.JPG"), is_image_file("notes.txt"), is_image_file("._photo.jpg")
        (True, False, False)
    """
    name = os.path.basename(path)
    if name.startswith(".") or os.path.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
        return False
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return True


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


def _open(path: str | os.PathLike[str], max_pixels: int | None) -> Pages:
    limit = pixel_limit() if max_pixels is None else max_pixels
    data, kind = _read_bytes(path, limit * _BYTES_PER_PIXEL + _SPARE_BYTES)
    return open_pages(data, kind, os.fspath(path), limit)


def _read_bytes(path: str | os.PathLike[str], most: int) -> tuple[bytes, str]:
    """Returns the content of a file and the kind of image that it is; reads no more once it is known to be none."""
    try:
        with open(path, "rb") as file:
            data = file.read(HEADER_SIZE)
            if not data:
                raise ImageError(f"{path}: empty file (0 bytes)")
            kind = image_kind(data)
            if kind is None:
                raise ImageError(f"{path}: not an image in a format that OpenCV reads (JPEG, PNG, WebP, BMP, TIFF, …)")
            if kind == "HEIC":
                raise ImageError(f"{path}: HEIC images are not supported; convert it to JPEG or AVIF")
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= most:
                return data + file.read(), kind
            chunks = [data]
            while not stat.S_ISREG(status.st_mode) and sum(map(len, chunks)) <= most:
                chunks.append(file.read(_CHUNK))
                if not chunks[-1]:
                    return b"".join(chunks), kind
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: a folder, not an image") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    raise ImageError(f"{path}: more than {most:,} bytes; set FACEDET_MAX_PIXELS to read larger images")


def _uint8(image: Any) -> NDArray[np.uint8]:
    return np.asarray(image, np.uint8)
