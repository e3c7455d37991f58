"""``RawReader``: uncompressed frames from a pipe."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from facedet_mm.errors import VideoError
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.reader import Reader

_POLL_INTERVAL = 0.1
"""Seconds between two looks at whether the reader was stopped."""


class RawReader(Reader):
    """Reads BGR pixels from standard input, frame after frame without anything in between.

    Args:
        pipe: Standard input in binary mode.
        size: (width, height) of a frame in pixels.
        fps: Frames per second.
    """

    def __init__(self, pipe: BinaryIO, size: tuple[int, int], fps: float) -> None:
        self._pipe = pipe
        self._descriptor = _selectable_descriptor(pipe)
        self._stopped = threading.Event()
        self.info = SourceInfo("standard input", *size, fps)

    def frames(self) -> Iterator[Frame]:
        """See :meth:`Reader.frames`."""
        width, height = self.info.width, self.info.height
        size, number = width * height * 3, 0
        while data := self._read(size):
            if len(data) < size:
                raise VideoError(
                    f"standard input: ends within frame {number + 1}, after {len(data)} of its {size} bytes; "
                    f"check that the frames are BGR images of {width} x {height} pixels"
                )
            number += 1
            yield Frame(np.frombuffer(data, np.uint8).reshape(height, width, 3), number, (number - 1) / self.info.fps)

    def close(self) -> None:
        """See :meth:`Reader.close`."""

    def stop(self) -> None:
        """See :meth:`Reader.stop`."""
        self._stopped.set()

    def _read(self, size: int) -> bytes | bytearray:
        """Returns ``size`` bytes, fewer at the end of the input, and none after :meth:`stop`."""
        if self._descriptor is None:
            return self._pipe.read(size)
        data = bytearray()
        while len(data) < size and not self._stopped.is_set():
            if select.select([self._descriptor], [], [], _POLL_INTERVAL)[0]:
                more = os.read(self._descriptor, size - len(data))
                if not more:
                    break
                data += more
        return b"" if self._stopped.is_set() else data


def _selectable_descriptor(pipe: BinaryIO) -> int | None:
    """Returns the file descriptor if ``select`` can wait for it, else ``None``: on Windows, or for other objects."""
    try:
        descriptor = pipe.fileno()
        select.select([descriptor], [], [], 0)
    except (OSError, ValueError):
        return None
    return descriptor
