"""The pages of a TIFF file and how their samples are stored."""

from __future__ import annotations

import struct
from typing import NamedTuple

_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8)}
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _PLANAR, _FORMAT = 254, 256, 257, 258, 262, 284, 339
_WANTED = frozenset((_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _PLANAR, _FORMAT))
_DEFAULTS = {_SUBFILE: 0, _BITS: 1, _PHOTOMETRIC: 1, _PLANAR: 1, _FORMAT: 1}
_NO_PAGE = 1 | 4
"""Bits of a subfile's type: a smaller copy of another page, a mask."""
_MOST_ENTRIES = 1_000_000
_MOST_VALUES = 8
"""Number of values of a tag that are read; there are as many as channels."""


class TiffPage(NamedTuple):
    """One page of a TIFF file.

    Attributes:
        number: Place of the page in the file's chain of directories, from 0.
        offset: Position of its directory.
        width: Width in pixels, before the orientation is applied.
        height: Height in pixels.
        bits: Bits of a sample; 0 if the channels differ.
        sample_format: 1 unsigned integers, 2 signed integers, 3 floating point; 0 if the channels differ.
        photometric: 0 gray with 0 as white, 1 gray, 2 RGB, …
        planar: Whether each channel is stored on its own.
    """

    number: int
    offset: int
    width: int
    height: int
    bits: int
    sample_format: int
    photometric: int
    planar: bool


def tiff_pages(data: bytes) -> list[TiffPage]:
    """Returns the pages of a TIFF or BigTIFF file; smaller copies of a page and masks are left out.

    Raises:
        ValueError: A directory is damaged, or there are too many.

    Example:
        >>> import cv2, numpy as np
        >>> tiff = cv2.imencode(".tiff", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
        >>> [(page.width, page.height, page.bits) for page in tiff_pages(tiff)]
        [(6, 4, 8)]
    """
    try:
        pages = _all_pages(data)
    except struct.error as error:
        raise ValueError("a directory lies outside the file") from error
    return [page for page, subfile in pages if not subfile & _NO_PAGE] or [page for page, _ in pages[:1]]


def first_page_offset(data: bytes, page: TiffPage) -> tuple[int, bytes]:
    """Returns where the header keeps the offset of the first directory, and the bytes that make it ``page``."""
    order = _byte_order(data)
    return (8, struct.pack(order + "Q", page.offset)) if _is_big(data) else (4, struct.pack(order + "I", page.offset))


def _byte_order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _is_big(data: bytes) -> bool:
    return b"+" in data[2:4]


def _all_pages(data: bytes) -> list[tuple[TiffPage, int]]:
    order, big = _byte_order(data), _is_big(data)
    word, entry_size = ("Q", 20) if big else ("I", 12)
    (offset,) = struct.unpack_from(order + word, data, 8 if big else 4)
    pages: list[tuple[TiffPage, int]] = []
    seen: set[int] = set()
    entries = 0
    while offset and offset not in seen:
        seen.add(offset)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
        start = offset + (8 if big else 2)
        entries += count
        if entries > _MOST_ENTRIES:
            raise ValueError("too many directory entries")
        tags = dict(_DEFAULTS)
        for position in range(start, start + count * entry_size, entry_size):
            (tag,) = struct.unpack_from(order + "H", data, position)
            if tag in _WANTED and (value := _value(data, position, order, big)) is not None:
                tags[tag] = value
        if not (tags.get(_WIDTH) and tags.get(_HEIGHT)):
            raise ValueError("a page without a size")
        page = TiffPage(
            number=len(pages), offset=offset, width=tags[_WIDTH], height=tags[_HEIGHT], bits=tags[_BITS],
            sample_format=tags[_FORMAT], photometric=tags[_PHOTOMETRIC],
            planar=tags[_PLANAR] == 2,
        )  # fmt: skip
        pages.append((page, tags[_SUBFILE]))
        (offset,) = struct.unpack_from(order + word, data, start + count * entry_size)
    if not pages:
        raise ValueError("no page")
    return pages


def _value(data: bytes, position: int, order: str, big: bool) -> int | None:
    """Returns the value of a tag, 0 if it has several that differ, ``None`` if they are no integers."""
    kind, count = struct.unpack_from(order + ("HQ" if big else "HI"), data, position + 2)
    if kind not in _TYPES or not count:
        return None
    code, size = _TYPES[kind]
    place = position + (12 if big else 8)
    if count * size > (8 if big else 4):
        (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
    values = set(struct.unpack_from(f"{order}{min(count, _MOST_VALUES)}{code}", data, place))
    return int(values.pop()) if len(values) == 1 else 0
