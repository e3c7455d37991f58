"""Netpbm and PAM images (PBM, PGM, PPM), whose brightest value need not be 255.

OpenCV reads most of them without scaling and takes the red of a PAM image for blue.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_SPACE = rb"(?:\s|#[^\n]*\n)+"
_NUMBER = rb"(\d{1,9})"
_BITMAP = re.compile(rb"P[14]" + _SPACE + _NUMBER + _SPACE + _NUMBER + rb"\s")
_MAP = re.compile(rb"P[2356]" + _SPACE + _NUMBER + _SPACE + _NUMBER + _SPACE + _NUMBER + rb"\s")
_PAM = re.compile(rb"P7\s(.{0,4096}?)\nENDHDR\n", re.DOTALL)
_HIGHEST = 65535


class NetpbmHeader(NamedTuple):
    """Header of a Netpbm or PAM image.

    Attributes:
        kind: Digit of the format, 1 to 7.
        width: Width in pixels.
        height: Height in pixels.
        channels: Samples per pixel, 1 to 4.
        highest: Value of the brightest sample, 1 to 65535.
        start: Position of the first sample.
    """

    kind: int
    width: int
    height: int
    channels: int
    highest: int
    start: int


def read_netpbm_header(data: bytes) -> NetpbmHeader | None:
    """Returns the header, ``None`` if it is damaged.

    Example:
        >>> read_netpbm_header(b"P5 # gray\\n4 3 15\\n" + bytes(12))[:5]
        (5, 4, 3, 1, 15)
    """
    kind = data[1] - ord("0")
    head = data[:8192]
    if kind == 7:
        return _pam_header(head)
    if match := (_BITMAP if kind in (1, 4) else _MAP).match(head):
        numbers = [int(number) for number in match.groups()]
        width, height, highest = numbers if len(numbers) == 3 else (*numbers, 1)
        channels = 3 if kind in (3, 6) else 1
        if 0 < highest <= _HIGHEST and width and height:
            return NetpbmHeader(kind, width, height, channels, highest, match.end())
    return None


def decode_netpbm(data: bytes, header: NetpbmHeader) -> NDArray[np.uint8] | None:
    """Returns the image as (H, W, 3) uint8, BGR; alpha is dropped. ``None`` if samples are missing.

    Example:
        >>> data = b"P5 2 1 15\\n" + bytes([3, 15])
        >>> decode_netpbm(data, read_netpbm_header(data))[..., 0].tolist()
        [[51, 255]]
    """
    shape = header.height, header.width, header.channels
    samples: NDArray[Any] | None
    if header.kind == 4:
        samples = _packed_bits(data, header)
    elif header.kind in (1, 2, 3):
        samples = _text_samples(data, header)
    else:
        dtype = np.dtype(np.uint8 if header.highest < 256 else ">u2")
        available = (len(data) - header.start) // dtype.itemsize
        samples = np.frombuffer(data, dtype, min(available, int(np.prod(shape))), header.start)
    if samples is None or samples.size < np.prod(shape):
        return None
    pixels = _scaled(samples.reshape(shape), header.highest)
    if header.channels < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1])


def _pam_header(head: bytes) -> NetpbmHeader | None:
    match = _PAM.match(head)
    if match is None:
        return None
    fields = dict(re.findall(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)[ \t]+(\d{1,9})\s*$", match[1], re.MULTILINE))
    if len(fields) < 4:
        return None
    width, height, depth, highest = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    if not (width and height and 1 <= depth <= 4 and 0 < highest <= _HIGHEST):
        return None
    return NetpbmHeader(7, width, height, depth, highest, match.end())


def _packed_bits(data: bytes, header: NetpbmHeader) -> NDArray[np.uint8] | None:
    stride = -(-header.width // 8)
    rows = np.frombuffer(data, np.uint8, min(stride * header.height, len(data) - header.start), header.start)
    if rows.size < stride * header.height:
        return None
    bits = np.unpackbits(rows.reshape(header.height, stride), axis=1, count=header.width)
    return np.asarray(1 - bits, np.uint8)  # 1 is black


def _text_samples(data: bytes, header: NetpbmHeader) -> NDArray[np.uint16] | None:
    body = re.sub(rb"#[^\n]*", b"", data[header.start :])
    if header.kind == 1:  # digits need no space between them
        digits = np.frombuffer(body, np.uint8)
        digits = digits[(digits == ord("0")) | (digits == ord("1"))][: header.width * header.height]
        return np.asarray(ord("1") - digits, np.uint16)
    words = body.split(maxsplit=header.width * header.height * header.channels)
    try:
        values = np.array(words[: header.width * header.height * header.channels]).astype(np.int64)
    except (ValueError, OverflowError):
        return None
    return np.clip(values, 0, _HIGHEST).astype(np.uint16)


def _scaled(samples: NDArray[Any], highest: int) -> NDArray[np.uint8]:
    if highest == 255:
        return np.asarray(samples, np.uint8)
    if highest == _HIGHEST:
        return np.asarray(samples >> 8, np.uint8)  # the high byte, as from 16-bit PNG files
    levels = np.minimum(np.arange(_HIGHEST + 1 if highest > 255 else 256), highest)
    table = np.round(levels * 255.0 / highest).astype(np.uint8)
    return np.asarray(table[np.minimum(samples, len(table) - 1)], np.uint8)
