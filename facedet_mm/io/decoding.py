"""Decodes the content of image files, page by page, by libraries that report what they can't decode.

OpenCV decodes JPEG, PNG, still WebP, BMP and deep TIFF; Pillow decodes what has pages, frames or an orientation that
OpenCV doesn't know: TIFF, GIF, AVIF, JPEG 2000, animated PNG and WebP. Both give the same pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facedet_mm.errors import ImageError
from facedet_mm.io import jpeg
from facedet_mm.io.headers import image_size
from facedet_mm.io.netpbm import decode_netpbm, read_netpbm_header
from facedet_mm.io.tiff import TiffPage, first_page_offset, tiff_pages


@dataclass(frozen=True)
class Pages:
    """An image file whose pages are decoded when they are asked for.

    Attributes:
        count: Number of pages of a TIFF file or frames of an animation; 1 for most files.
        decode: Returns page ``index``, (H, W, 3) uint8, BGR, upright.
    """

    count: int
    decode: Callable[[int], NDArray[np.uint8]]


_PILLOW = {
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "JPEG 2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
}
"""Pillow's class for each format; ``Image.open`` would try all of its formats, some of which run other programs."""
_PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, MemoryError, OverflowError, LookupError, TypeError),
    *(AttributeError, struct.error, zlib.error, Image.DecompressionBombError),
)
_FLOATING_POINT = frozenset(("PFM", "Radiance HDR", "OpenEXR"))
_UNSIGNED, _FLOAT = 1, 3
_GRAY_FROM_WHITE, _GRAY, _RGB = 0, 1, 2


def open_pages(data: bytes, kind: str, name: str, max_pixels: int) -> Pages:
    """Opens the content of an image file; checks its size before anything is decoded.

    Args:
        data: Content of the file.
        kind: Result of :func:`facedet_mm.io.headers.image_kind`.
        name: Name of the file in error messages.
        max_pixels: Largest number of pixels of a page.

    Raises:
        ImageError: The file is damaged, truncated, too large or of a kind that is not supported.
    """
    source = _Source(data, kind, name, max_pixels)
    if kind == "TIFF":
        return source.tiff()
    if kind in ("AVIF", "JPEG 2000"):
        return source.pillow()
    if kind in ("Netpbm", "PAM"):
        return source.netpbm()
    # Checked here because libjpeg fills the missing part with gray, and so do some builds of OpenCV for PNG.
    if (kind == "JPEG" and not jpeg.reaches_end(data)) or (kind == "PNG" and not _png_ends(data)):
        raise ImageError(f"{name}: truncated {kind}: the file stops before the image's end")
    frame = jpeg.read_frame(data) if kind == "JPEG" else None
    size = frame.size if frame else image_size(kind, data)
    if size is None:
        raise source.damaged("its header is not complete")
    source.check_size(*size)
    if frame:
        return Pages(1, lambda _: source.jpeg(frame))
    if kind == "GIF" or (kind == "WebP" and _needs_pillow(data)) or (kind == "PNG" and _is_animated(data)):
        return source.pillow()
    if kind in _FLOATING_POINT:
        return Pages(1, lambda _: source.from_float(source.opencv(cv2.IMREAD_UNCHANGED)))
    return Pages(1, lambda _: source.opencv(cv2.IMREAD_COLOR))


@dataclass(frozen=True, eq=False)
class _Source:
    """The content of a file, and how each kind is decoded."""

    data: bytes
    kind: str
    name: str
    max_pixels: int

    def check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise ImageError(
                f"{self.name}: {width} x {height} pixels, more than the limit of {self.max_pixels:,}; "
                "set FACEDET_MAX_PIXELS to raise it"
            )

    def damaged(self, reason: str = "it cannot be decoded") -> ImageError:
        return ImageError(f"{self.name}: damaged, truncated or oversized {self.kind}: {reason}")

    def opencv(self, flags: int, data: bytes | bytearray | None = None) -> NDArray[Any]:
        try:
            image = cv2.imdecode(np.frombuffer(self.data if data is None else data, np.uint8), flags)
        except (cv2.error, MemoryError) as error:
            if "CV_IO_MAX_IMAGE" in str(error):
                large = "too large for OpenCV (at most 2^20 pixels a side and 2^30 in all)"
                raise ImageError(f"{self.name}: {large}") from error
            if "codec is disabled" in str(error):
                raise ImageError(f"{self.name}: OpenCV reads no {self.kind}; convert it to PNG or JPEG") from error
            raise ImageError(f"{self.name}: cannot be decoded: {error}".strip()) from error
        if image is None:
            raise self.damaged()
        return np.asarray(image)

    def jpeg(self, frame: jpeg.JpegFrame) -> NDArray[np.uint8]:
        image = self.opencv(cv2.IMREAD_COLOR)
        if not jpeg.is_whole(self.data, frame, image):
            raise ImageError(f"{self.name}: truncated JPEG: a part of its coded data is missing")
        return image

    def netpbm(self) -> Pages:
        header = read_netpbm_header(self.data)
        if header is None:
            raise self.damaged("its header is not complete")
        self.check_size(header.width, header.height)

        def decode(_: int) -> NDArray[np.uint8]:
            image = decode_netpbm(self.data, header)
            if image is None:
                raise self.damaged("samples are missing")
            return image

        return Pages(1, decode)

    def pillow(self) -> Pages:
        file = self._open_pillow()
        count = self._guarded(lambda: int(getattr(file, "n_frames", 1)))
        if self.kind == "AVIF" and count == 1 and cv2.haveImageWriter("x.avif"):
            self.opencv(cv2.IMREAD_COLOR)  # reports damage that Pillow's decoder conceals, but applies no orientation
        return Pages(count, lambda index: self._pillow_page(file, index))

    def tiff(self) -> Pages:
        try:
            pages = tiff_pages(self.data)
        except ValueError as error:
            raise self.damaged(str(error)) from error
        return Pages(len(pages), lambda index: self._tiff_page(pages[index]))

    def from_float(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Converts floating-point gray, BGR or BGRA with values from 0 to 1."""
        if image.dtype == np.uint8:
            return _three_channels(image)
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise ImageError(
                f"{self.name}: a floating-point image must have values from 0 to 1, not {low:g} to {high:g}; "
                "scale it, or convert it to 8 bits"
            )
        return _three_channels(np.round(image * 255.0).astype(np.uint8))

    @cached_property
    def _copy(self) -> bytearray:
        return bytearray(self.data)

    @cached_property
    def _pillow_file(self) -> Image.Image:
        return self._open_pillow()

    def _open_pillow(self) -> Image.Image:
        module, name = _PILLOW[self.kind]
        try:
            opener = getattr(import_module(module), name)
        except ImportError as error:  # pragma: no cover
            raise ImageError(f"{self.name}: this build of Pillow reads no {self.kind}") from error
        file: Image.Image = self._guarded(lambda: opener(BytesIO(self.data)))
        self.check_size(*file.size)
        return file

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Image.DecompressionBombError as error:
            raise ImageError(f"{self.name}: a frame is too large for Pillow: {error}") from error
        except _PILLOW_ERRORS as error:
            raise self.damaged(str(error) or "it cannot be decoded") from error

    def _pillow_page(self, file: Image.Image, index: int) -> NDArray[np.uint8]:
        self._guarded(lambda: file.seek(index))
        self.check_size(*file.size)
        self._guarded(file.load)
        if file.mode == "F":
            return self.from_float(np.asarray(file))
        if file.mode == "I":
            raise self._unsupported("32-bit integers")
        upright: Image.Image = self._guarded(lambda: ImageOps.exif_transpose(file))
        if upright.mode.startswith("I;16"):
            return _three_channels((np.asarray(upright) >> 8).astype(np.uint8))
        rgb = self._guarded(lambda: np.asarray(upright.convert("RGB")))
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)

    def _tiff_page(self, page: TiffPage) -> NDArray[np.uint8]:
        self.check_size(page.width, page.height)
        if page.sample_format == _FLOAT and page.photometric in (_GRAY, _RGB) and not page.planar:
            return self.from_float(self.opencv(cv2.IMREAD_UNCHANGED, self._starting_at(page)))
        if page.sample_format != _UNSIGNED or page.bits not in (1, 2, 4, 8, 16):
            kinds = {2: "signed integers", _FLOAT: "floating point"}
            raise self._unsupported(f"{page.bits}-bit {kinds.get(page.sample_format, 'samples')}")
        if page.bits < 16:
            return self._pillow_page(self._pillow_file, page.number)
        color = cv2.IMREAD_COLOR
        if not page.planar and page.photometric in (_GRAY_FROM_WHITE, _GRAY, _RGB):
            # With its depth kept, OpenCV reports what it can't decode; else it leaves black.
            deep = self.opencv(cv2.IMREAD_ANYDEPTH | color, self._starting_at(page))
            image = (deep >> 8).astype(np.uint8)
            return 255 - image if page.photometric == _GRAY_FROM_WHITE else image
        return self.opencv(color, self._starting_at(page))

    def _starting_at(self, page: TiffPage) -> bytes | bytearray:
        """Returns the file with ``page`` as its first page, the only one that OpenCV decodes."""
        if page.number == 0:
            return self.data
        place, offset = first_page_offset(self.data, page)
        self._copy[place : place + len(offset)] = offset
        return self._copy

    def _unsupported(self, what: str) -> ImageError:
        return ImageError(f"{self.name}: a {self.kind} of {what}; convert it to 8 or 16 bits without sign")


def _png_ends(data: bytes) -> bool:
    """Returns whether the chunks of a PNG file end with a complete ``IEND``."""
    position = 8
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False


def _is_animated(data: bytes) -> bool:
    """Returns whether a PNG file has an animation's header before its pixels."""
    position = data.find(b"acTL")
    return 0 <= position < data.find(b"IDAT")


def _needs_pillow(data: bytes) -> bool:
    """Returns whether a WebP file is animated or may have an EXIF orientation."""
    return data[12:16] == b"VP8X" and (bool(data[20] & 2) or b"EXIF" in data)


def _three_channels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(image[..., :3])
