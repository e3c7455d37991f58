"""Checks from the sizes in its own structure whether a video file is complete.

Decoders stop silently where a file was cut off; containers state how long their parts are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

NO_INDEX = "the end of the file is missing, and with it the index; download or copy the file again"
"""Why an MP4 file that ends early cannot be opened."""
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"))
"""Types of the first box of an MP4 or QuickTime file."""


def container_kind(path: Path) -> str | None:
    """Returns ``'mp4'`` (also for MOV), ``'matroska'`` (also for WebM), ``'avi'``, ``'gif'``, or ``None`` for others.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in _BOXES:
        return "mp4"
    if head[:4] == _EBML:
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "gif" if head[:4] == b"GIF8" else None


def is_truncated(path: Path) -> bool:
    """Returns whether the file is shorter than its structure says; ``False`` if the container does not say.

    Raises:
        OSError: The file cannot be read.
    """
    kind = container_kind(path)
    if kind is None:
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        return _ENDS_EARLY[kind](file, size)


def _mp4_ends_early(file: BinaryIO, size: int) -> bool:
    """ISO/IEC 14496-12, 4.2: boxes start with a 32-bit size (1: a 64-bit one follows, 0: to the end) and a type."""
    position = 0
    while position + 8 <= size:  # fewer bytes than a box header after the last box do not belong to the video
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 0:
            return False
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return False  # damaged rather than truncated
        position += length
    return position > size


def _matroska_ends_early(file: BinaryIO, size: int) -> bool:
    """RFC 8794 and 9559: an EBML header, then a segment with everything else; the segment's size may be unknown."""
    file.seek(4)
    position = 4 + sum(_ebml_size(file))
    file.seek(position)
    if file.read(4) != _SEGMENT:
        return position > size
    width, length = _ebml_size(file)
    unknown = length == (1 << 7 * width) - 1
    return not unknown and position + 4 + width + length > size


def _ebml_size(file: BinaryIO) -> tuple[int, int]:
    """Reads a number of variable length; returns its length in bytes and its value."""
    first = (file.read(1) or b"\xff")[0]
    width = 9 - first.bit_length()
    return width, int.from_bytes(bytes([first & (0x7F >> (width - 1))]) + file.read(width - 1), "big")


def _avi_ends_early(file: BinaryIO, size: int) -> bool:
    """RIFF chunks; an OpenDML file larger than 1 GB has several."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return False
        length = int.from_bytes(head[4:], "little")
        position += 8 + length + length % 2
    return position > size + 1  # the last byte may lack its padding


def _gif_ends_early(file: BinaryIO, size: int) -> bool:
    """The last byte is a semicolon; some writers append zeros or a line break."""
    file.seek(max(0, size - 64))
    return not file.read().rstrip(b"\0\r\n").endswith(b";")


_ENDS_EARLY: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mp4": _mp4_ends_early,
    "matroska": _matroska_ends_early,
    "avi": _avi_ends_early,
    "gif": _gif_ends_early,
}
