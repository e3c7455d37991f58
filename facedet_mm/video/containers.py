"""Checks from the sizes in its own structure whether a video file is complete.

Decoders stop silently where a file was cut off; containers state how long their parts are.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

NO_INDEX = "the end of the file is missing, and with it the index; download or copy the file again"
"""Why an MP4 file that ends early cannot be opened."""
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"))
"""Types of the first box of an MP4 or QuickTime file."""
_VITAL_BOXES = frozenset((b"moov", b"mdat", b"moof"))
"""Types of the boxes with the index and the frames. Cameras append data of their own that look like other boxes."""
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1
"""Flag of a recording whose header was not completed, and does not state the size."""
_MAX_OGG_PAGE = 27 + 255 + 255 * 255
_TS_SYNC = 0x47
_TS_FORMS = {188: 0, 192: 4, 204: 0}
"""Bytes per packet of an MPEG transport stream, and bytes before the sync byte."""
_TS_PACKETS = 8
"""Packets that are looked at to find where others begin."""
_FLV_TAGS = frozenset((8, 9, 18))
_FLV_TOLERANCE = 1.0
"""Seconds by which the stated duration of an FLV file may exceed its last timestamp and twice the longest gap in it."""


def container_kind(path: Path) -> str | None:
    """Returns the kind of a file by its first bytes, or ``None`` if it is none of those known here.

    Returns:
        ``'mp4'`` (also for MOV), ``'matroska'`` (also for WebM), ``'avi'``, ``'gif'``, ``'flv'``, ``'mpegts'``,
        ``'ogg'`` or ``'asf'`` (also for WMV).

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    if head[4:8] in _BOXES:
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if _ts_packet_size(head):
        return "mpegts"
    starts = {_EBML: "matroska", b"GIF8": "gif", b"FLV\x01": "flv", b"OggS": "ogg", _ASF: "asf"}
    return next((kind for start, kind in starts.items() if head.startswith(start)), None)


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


def has_another_behind(path: Path) -> bool:
    """Returns whether a whole second MP4 or FLV file follows the first; FFmpeg and players ignore most of it.

    Raises:
        OSError: The file cannot be read.
    """
    kind, size = container_kind(path), path.stat().st_size
    with path.open("rb") as file:
        if kind == "mp4":
            boxes = [box for box, _ in _mp4_boxes(file, size)]
            segments = b"moof" in boxes and b"mfra" not in boxes  # of a stream; each may repeat the first boxes
            return not segments and boxes.count(b"moov") > 1 and boxes.count(b"ftyp") > 1
        if kind != "flv":
            return False
        *_, (_, end) = (None, 0), *_flv_tags(file, size)
        file.seek(end)
        return file.read(4) == b"FLV\x01"


def _mp4_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """ISO/IEC 14496-12, 4.2: boxes start with a 32-bit size (1: a 64-bit one follows, 0: to the end) and a type.

    Yields:
        The type of each box and where it ends.
    """
    position = 0
    while position + 8 <= size:  # fewer bytes than a box header after the last box do not belong to the video
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - position
        if length < 8:
            return  # damaged rather than truncated
        position += length
        yield head[4:8], position


def _mp4_ends_early(file: BinaryIO, size: int) -> bool:
    *boxes, (kind, end) = (b"", 0), *_mp4_boxes(file, size)
    return end > size and (kind in _VITAL_BOXES or all(box != b"moov" for box, _ in boxes))


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
    """GIF89a: blocks up to a semicolon, behind which some writers append bytes of their own."""
    file.seek(max(0, size - 1))
    if file.read(1) == b";":
        return False
    file.seek(10)
    _skip_gif_colors(file, (file.read(3) or b"\0")[0])
    while kind := file.read(1):
        if kind == b";":
            return False
        if kind == b",":
            _skip_gif_colors(file, (file.read(9)[8:] or b"\0")[0])
        file.read(1)  # kind of an extension, or code size of an image
        while length := (file.read(1) or b"\0")[0]:
            file.seek(length, os.SEEK_CUR)
    return True


def _skip_gif_colors(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, os.SEEK_CUR)


def _flv_tags(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Adobe FLV 10.1, E.3: tags with type, size and time in ms, each followed by its size.

    Yields:
        The header of each tag, behind which the file is then, and where the next tag begins.
    """
    file.seek(5)
    position = int.from_bytes(file.read(4), "big") + 4
    while position + 11 <= size:
        file.seek(position)
        head = file.read(11)
        if head[0] & 0x1F not in _FLV_TAGS:
            return
        position += 11 + int.from_bytes(head[1:4], "big") + 4
        yield head, position


def _flv_ends_early(file: BinaryIO, size: int) -> bool:
    """The first tag states facts."""
    stated, last, gap, position = 0.0, 0, 0, 0
    for head, end in _flv_tags(file, size):
        position = end
        if head[0] == 18:
            stated = stated or _flv_duration(file.read(min(int.from_bytes(head[1:4], "big"), 1 << 16)))
        moment = int.from_bytes(head[7:8] + head[4:7], "big")
        last, gap = max(last, moment), max(gap, moment - last)
    if position + 11 <= size:
        return False  # damaged, or bytes behind the end
    return position - 4 > size or stated - (last + 2 * gap) / 1000 > _FLV_TOLERANCE


def _flv_duration(facts: bytes) -> float:
    """Returns the ``duration`` in the facts, in seconds; 0 if it is not stated."""
    _, found, rest = facts.partition(b"\x00\x08duration\x00")  # length and name, and the type of a number
    return float(struct.unpack(">d", rest[:8])[0]) if found and len(rest) >= 8 else 0.0


def _ts_packet_size(data: bytes) -> int | None:
    """Returns the size of the packets of a transport stream, or ``None`` if ``data`` is not the start of one."""
    for length, before in _TS_FORMS.items():
        syncs = data[before::length]
        if len(syncs) >= 3 and set(syncs) == {_TS_SYNC}:
            return length
    return None


def _ts_ends_early(file: BinaryIO, size: int) -> bool:
    """ISO/IEC 13818-1, 2.4.3.2: packets of a constant size, each with a sync byte."""
    length = _ts_packet_size(file.read(1024))
    assert length
    file.seek(max(0, size - _TS_PACKETS * length))
    tail = file.read()
    for phase in range(length):
        *syncs, last = tail[phase::length]
        if len(syncs) >= 2 and set(syncs) == {_TS_SYNC}:
            end = phase + len(syncs) * length + length - _TS_FORMS[length]
            return last == _TS_SYNC and end > len(tail)
    return False


def _ogg_ends_early(file: BinaryIO, size: int) -> bool:
    """RFC 3533, 6: pages with a table of the sizes of their segments."""
    file.seek(max(0, size - 2 * _MAX_OGG_PAGE))
    _, found, page = file.read().rpartition(b"OggS\0")
    page = found + page
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _asf_ends_early(file: BinaryIO, size: int) -> bool:
    """ASF 1.2, 3.2: the file properties object has the size of the file after its GUID, its size and an ID."""
    _, found, properties = file.read(1 << 16).partition(_ASF_PROPERTIES)
    stated = int.from_bytes(properties[24:32], "little")
    flags = int.from_bytes(properties[72:76], "little")
    return bool(found) and not flags & _ASF_BROADCAST and stated > size


_ENDS_EARLY: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mp4": _mp4_ends_early,
    "matroska": _matroska_ends_early,
    "avi": _avi_ends_early,
    "gif": _gif_ends_early,
    "flv": _flv_ends_early,
    "mpegts": _ts_ends_early,
    "ogg": _ogg_ends_early,
    "asf": _asf_ends_early,
}
