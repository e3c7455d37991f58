"""What an annotated copy of an image loses: metadata, the color profile, transparency and bit depth."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

_HEAD = 1 << 20
"""Bytes of a file that are looked at."""
_NAMES = {
    b"Exif": "EXIF data", b"ICC_": "color profile", b"eXIf": "EXIF data", b"iCCP": "color profile",
    b"tRNS": "transparency", b"EXIF": "EXIF data", b"ICCP": "color profile", b"ALPH": "transparency",
}  # fmt: skip
_JPEG_MARKERS = range(0xE0, 0xF0)
_WEBP_FLAGS = {0x20: "color profile", 0x10: "transparency", 0x08: "EXIF data"}
_TIFF_TAGS = {34665: "EXIF data", 34675: "color profile", 338: "transparency"}
_TIFF_BITS = 258


def losses(path: str | os.PathLike[str]) -> set[str]:
    """Returns what is in a JPEG, PNG, WebP or TIFF file and will not be in an 8-bit BGR copy of it.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> losses(asset_path("solvay_1927.jpg"))
        set()
    """
    try:
        if not Path(path).is_file():  # a pipe gives its data once
            return set()
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return set()
    kinds = ((b"\xff\xd8", _jpeg), (b"\x89PNG", _png), (b"RIFF", _webp), (b"II*\0", _tiff), (b"MM\0*", _tiff))
    return {loss for magic, look in kinds if head.startswith(magic) for loss in look(head)}


def _jpeg(data: bytes) -> Iterator[str]:
    position = 2
    while position + 8 <= len(data) and data[position] == 0xFF:
        if data[position + 1] in _JPEG_MARKERS and (name := _NAMES.get(data[position + 4 : position + 8])):
            yield name
        if data[position + 1] == 0xDA:  # the pixels
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def _png(data: bytes) -> Iterator[str]:
    if len(data) > 25 and data[24] == 16:
        yield "16 bits per channel"
    if len(data) > 25 and data[25] & 4:
        yield "transparency"
    position = 8
    while position + 8 <= len(data):
        if name := _NAMES.get(data[position + 4 : position + 8]):
            yield name
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def _webp(data: bytes) -> Iterator[str]:
    if data[12:16] == b"VP8X" and len(data) > 20:
        yield from (name for bit, name in _WEBP_FLAGS.items() if data[20] & bit)


def _tiff(data: bytes) -> Iterator[str]:
    order = "<" if data.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, values, value, _ = struct.unpack_from(f"{order}HHIHH", data, entry)
            if tag == _TIFF_BITS:
                place = struct.unpack_from(f"{order}I", data, entry + 8)[0]
                bits = value if values <= 2 else struct.unpack_from(f"{order}H", data, place)[0]
                if bits > 8:
                    yield f"{bits} bits per channel"
            elif name := _TIFF_TAGS.get(tag):
                yield name
    except struct.error:  # cut off, or the directory is behind the head
        return
