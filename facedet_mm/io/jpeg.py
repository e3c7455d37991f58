"""Checks that a JPEG file holds its whole image: libjpeg fills what is missing with gray and only prints a warning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""A marker other than a restart; ``FF 00`` is a stuffed byte of coded data, repeated ``FF`` are fill bytes."""
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_RESTART_INTERVAL = 0xDD
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_WITHOUT_LENGTH = frozenset((0xD8, 0x01))
_BLOCK = 8
_COEFFICIENTS = _BLOCK * _BLOCK
_UNSEEN = 255
_MISSING_GRAY = 128
"""Value of all channels where coded data are missing."""


class JpegFrame(NamedTuple):
    """What the frame header of a JPEG file says.

    Attributes:
        width: Width in pixels, before the EXIF orientation is applied.
        height: Height in pixels.
        progressive: Whether the image is spread over scans of growing quality.
        components: ``(identifier, horizontal sampling, vertical sampling)`` of each component.
        scanned: Number of components in the first scan; 0 without a scan.
    """

    width: int
    height: int
    progressive: bool
    components: tuple[tuple[int, int, int], ...]
    scanned: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


class _Segment(NamedTuple):
    marker: int
    start: int
    """Position of the first byte after the length."""
    end: int


def read_frame(data: bytes) -> JpegFrame | None:
    """Returns the first frame header of a JPEG file, ``None`` if there is none before the coded data.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> read_frame(asset_path("solvay_1927.jpg").read_bytes())[:3]
        (3000, 2171, False)
    """
    frame: JpegFrame | None = None
    for marker, start, end in _segments(data):
        if marker == _START_OF_SCAN:
            return frame and frame._replace(scanned=data[start] if start < len(data) else 0)
        if marker in _FRAMES and frame is None:
            body = data[start:end]
            if len(body) < 6 or len(body) < 6 + 3 * body[5]:
                return None
            components = tuple((body[i], body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, 6 + 3 * body[5], 3))
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            frame = JpegFrame(width, height, marker in _PROGRESSIVE, components, 0)
    return frame


def reaches_end(data: bytes) -> bool:
    """Returns whether the first image in a JPEG file reaches its end marker.

    Walks from marker to marker, so thumbnails inside segments and garbage after the end don't count.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> data = asset_path("solvay_1927.jpg").read_bytes()
        >>> reaches_end(data), reaches_end(data[:-2])
        (True, False)
    """
    return data.endswith(b"\xff\xd9") or any(marker == _END_OF_IMAGE for marker, _, _ in _segments(data))


def is_whole(data: bytes, frame: JpegFrame, image: NDArray[np.uint8]) -> bool:
    """Returns whether the coded data of a JPEG file that reaches its end marker cover the image.

    Coded data that stop early leave gray in the last corner, so other baseline images pass at once. The rest is
    decoded again by FFmpeg, which reports the end of the data. For progressive images the scans must bring all bits
    of all coefficients; data missing within the last scan, which is the least bit of some, are not found.

    Args:
        data: Content of the file.
        frame: Result of :func:`read_frame`.
        image: Decoded image, (H, W, 3).

    Example:
        >>> import cv2
        >>> jpeg = cv2.imencode(".jpg", np.arange(64, dtype=np.uint8).repeat(64).reshape(64, 64))[1].tobytes()
        >>> for data in (jpeg, jpeg[:-30] + jpeg[-2:]):
        ...     is_whole(data, read_frame(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
        True
        False
    """
    if frame.progressive:
        return _scans_are_complete(data, frame)
    usual = len(frame.components) in (1, 3) and frame.scanned == len(frame.components)
    return (usual and not _ends_gray(image)) or (_has_all_restarts(data, frame) and _ffmpeg_decodes(data))


def _ends_gray(image: NDArray[np.uint8]) -> bool:
    """Returns whether a row or column ends in a corner, any after the EXIF rotation, as if its data were missing."""
    if not any(image[y, x, 0] == _MISSING_GRAY for y in (0, -1) for x in (0, -1)):
        return False
    lines = (image[0], image[-1], image[:, 0], image[:, -1])
    ends = (end for line in lines for end in (line[:_BLOCK], line[-_BLOCK:]))
    return any((end == _MISSING_GRAY).all() for end in ends)


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yields the markers of the first image; coded data lie between a start of scan and the next marker."""
    position = 0
    while match := _MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _END_OF_IMAGE:
            yield _Segment(marker, position, position)
            return
        end = position + max(2, int.from_bytes(data[position : position + 2], "big"))
        yield _Segment(marker, position + 2, end)
        position = end


def _scans_are_complete(data: bytes, frame: JpegFrame) -> bool:
    """Returns whether scans bring every coefficient of every component down to its last bit."""
    rows = {identifier: row for row, (identifier, _, _) in enumerate(frame.components)}
    bits = np.full((len(rows), _COEFFICIENTS), _UNSEEN, np.uint8)
    for marker, start, end in _segments(data):
        if marker != _START_OF_SCAN:
            continue
        scan = data[start:end]
        count = scan[0] if scan else 0
        if len(scan) < 1 + 2 * count + 3:
            return False
        first, last, approximation = scan[1 + 2 * count : 4 + 2 * count]
        for identifier in scan[1 : 1 + 2 * count : 2]:
            if identifier in rows:
                bits[rows[identifier], first : last + 1] = approximation & 15
    return not bits.any()


def _has_all_restarts(data: bytes, frame: JpegFrame) -> bool:
    """Returns whether the first scan of a baseline image has all its restart markers; FFmpeg doesn't count them."""
    interval, coded = 0, 0
    for marker, start, end in _segments(data):
        if marker == _RESTART_INTERVAL:
            interval = int.from_bytes(data[start : start + 2], "big")
        if marker == _START_OF_SCAN:
            if not interval or data[start] != len(frame.components):
                return True
            coded = end
        elif coded:
            break
    if not coded or not all(h and v for _, h, v in frame.components):
        return True
    across, down = (_BLOCK * max(component[axis] for component in frame.components) for axis in (1, 2))
    if len(frame.components) == 1:
        across = down = _BLOCK
    units = -(-frame.width // across) * -(-frame.height // down)
    stop = _MARKER.search(data, coded)
    found = sum(1 for _ in _RESTART.finditer(data, coded, stop.start() if stop else len(data)))
    return found >= -(-units // interval) - 1


def _ffmpeg_decodes(data: bytes) -> bool:
    import av

    codec = av.CodecContext.create("mjpeg", "r")
    codec.options = {"err_detect": "explode"}
    try:
        codec.decode(av.Packet(data))
    except av.error.InvalidDataError:
        return False
    except (av.error.FFmpegError, NotImplementedError):  # a kind of JPEG that FFmpeg doesn't know
        return True
    return True
