"""What kind of image a file is, and its size, from its first bytes: known before anything is decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

HEADER_SIZE = 64
"""Number of bytes that :func:`image_kind` needs."""

_MAGICS = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC"}
_NETPBM = re.compile(rb"P(?:([1-6])|(7)|[Ff])\s")
_PFM = re.compile(rb"P[Ff]\s+(\d{1,9})\s+(\d{1,9})\s")
_HDR = re.compile(rb"\n[-+]Y (\d{1,9}) [-+]X (\d{1,9})\n")
_EXR = re.compile(rb"dataWindow\0box2i\0\x10\0\0\0(.{16})", re.DOTALL)
_TEXT_HEADER = 4096
"""Bytes in which a header made of text must end."""


def image_kind(data: bytes) -> str | None:
    """Returns the format of an image file by its first :data:`HEADER_SIZE` bytes, ``None`` if it is not known.

    Example:
        >>> image_kind(b"GIF89a"), image_kind(b"%PDF-1.7")
        ('GIF', None)
    """
    for magic, kind in _MAGICS:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        length = min(int.from_bytes(data[:4], "big"), HEADER_SIZE)
        brands = [data[8:12], *(data[i : i + 4] for i in range(16, length, 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    if match := _NETPBM.match(data):
        return "Netpbm" if match[1] else "PAM" if match[2] else "PFM"
    return None


def image_size(kind: str, data: bytes) -> tuple[int, int] | None:
    """Returns (width, height) in pixels as the header says, before any rotation; ``None`` if the header is damaged.

    JPEG, TIFF, AVIF, JPEG 2000, Netpbm and PAM files are measured where they are decoded.

    Example:
        >>> image_size("GIF", b"GIF89a" + bytes([64, 1, 240, 0]))
        (320, 240)
    """
    try:
        return _SIZES[kind](data)
    except (KeyError, struct.error):  # the file ends within its header
        return None


def _unpacked(layout: str, offset: int) -> Callable[[bytes], tuple[int, int]]:
    def size(data: bytes) -> tuple[int, int]:
        width, height = struct.unpack_from(layout, data, offset)
        return abs(width), abs(height)

    return size


_core_bitmap, _bitmap = _unpacked("<HH", 18), _unpacked("<ii", 18)
_lossy_webp, _lossless_webp = _unpacked("<HH", 26), struct.Struct("<I")


def _bmp(data: bytes) -> tuple[int, int]:
    return (_core_bitmap if data[14:18] == b"\x0c\0\0\0" else _bitmap)(data)


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        low = struct.unpack_from("<HBHB", data, 24)
        return 1 + low[0] + (low[1] << 16), 1 + low[2] + (low[3] << 16)
    if data[12:16] == b"VP8L":
        (bits,) = _lossless_webp.unpack_from(data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = _lossy_webp(data)
    return width & 0x3FFF, height & 0x3FFF


def _pfm(data: bytes) -> tuple[int, int] | None:
    match = _PFM.match(data)
    return match and (int(match[1]), int(match[2]))


def _hdr(data: bytes) -> tuple[int, int] | None:
    match = _HDR.search(data, 0, _TEXT_HEADER)
    return match and (int(match[2]), int(match[1]))


def _exr(data: bytes) -> tuple[int, int] | None:
    match = _EXR.search(data, 0, _TEXT_HEADER)
    if not match:
        return None
    left, top, right, bottom = struct.unpack("<4i", match[1])
    return abs(right - left) + 1, abs(bottom - top) + 1


_SIZES: dict[str, Callable[[bytes], tuple[int, int] | None]] = {
    "PNG": _unpacked(">II", 16),
    "GIF": _unpacked("<HH", 6),
    "BMP": _bmp,
    "WebP": _webp,
    "Sun raster": _unpacked(">II", 4),
    "PFM": _pfm,
    "Radiance HDR": _hdr,
    "OpenEXR": _exr,
}
