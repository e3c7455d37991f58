"""Small videos whose frames show their number, and functions that read it back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_BITS = 8
CLOCK = Fraction(1, 1000)


def numbered(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Returns an image with ``number`` as eight black or white bars in the upper half, above a blue and a red field."""
    image = np.zeros((height, width, 3), np.uint8)
    edges = np.linspace(0, width, _BITS + 1).astype(int)
    for bit in range(_BITS):
        image[: height // 2, edges[bit] : edges[bit + 1]] = 255 * (number >> bit & 1)
    image[height // 2 :, : width // 2] = (200, 40, 40)
    image[height // 2 :, width // 2 :] = (40, 40, 200)
    return image


def number_in(image: NDArray[np.uint8]) -> int:
    """Returns the number that an image made by :func:`numbered` shows."""
    height, width = image.shape[:2]
    centers = ((np.arange(_BITS) + 0.5) * width / _BITS).astype(int)
    return int(((image[height // 4, centers].mean(axis=1) > 127) << np.arange(_BITS)).sum())


def write_video(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    **container: Any,
) -> Path:
    """Encodes ``images`` with PyAV, at 25 frames per second or at ``times`` in seconds."""
    images = list(images)
    with av.open(str(path), "w", **container) as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = CLOCK
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            if times is not None:
                frame.pts, frame.time_base = round(times[i] / CLOCK), CLOCK
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def noise(count: int, width: int = 64, height: int = 48) -> list[NDArray[np.uint8]]:
    """Returns images that no codec can compress, so that bytes in the middle of the file belong to frames."""
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Sets the display matrix of an MP4's only track: a stored point (x, y) is shown at (ax + cy, bx + dy)."""
    data = bytearray(path.read_bytes())
    position = data.index(b"tkhd") + 4 + 40  # version 0: it follows 40 bytes
    one, unit = 1 << 16, 1 << 30
    data[position : position + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, unit)
    path.write_bytes(data)


def opencv_numbers(path: Path) -> list[int]:
    """Returns the numbers of all frames, read with OpenCV."""
    capture, numbers = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        numbers.append(number_in(got[1]))
    return numbers
