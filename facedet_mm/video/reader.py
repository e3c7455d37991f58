"""The interface of all readers of frames, and ``Source``, the iterator over one of them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.video.clock import Clock
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.geometry import fit

Stamped: TypeAlias = tuple[float | None, NDArray[np.uint8]]
"""The timestamp in seconds from any origin, ``None`` if unknown, and the image."""


class Reader(ABC):
    """Reads the frames of one file, device or connection; used by one thread at a time.

    Attributes:
        info: Facts about the video; set by the constructor.
    """

    info: SourceInfo

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Yields the frames, once.

        Raises:
            VideoError: The video ends early or parts of it cannot be decoded; raised after the last readable frame.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the file, device or connection; may be called twice."""

    def stop(self) -> None:  # noqa: B027
        """Makes :meth:`frames` return even while it waits for a frame; may be called from any thread."""


class StampedReader(Reader):
    """A reader whose images have timestamps, and whose input may end early."""

    _name: str
    _clock: Clock
    _first: list[Stamped]
    """The image that was read to learn the size, until it is yielded."""

    def frames(self) -> Iterator[Frame]:
        """See :meth:`Reader.frames`."""
        number = 0
        while stamped := self._first.pop() if self._first else self._next():
            number += 1
            stamp, image = stamped
            yield Frame(fit(image, self.info.width, self.info.height), number, self._clock(stamp))
        if problem := self._problem(number):
            raise VideoError(f"{self._name}: {problem}")

    @abstractmethod
    def _next(self) -> Stamped | None:
        """Returns the next image, or ``None`` after the last."""

    @abstractmethod
    def _problem(self, number: int) -> str | None:
        """Returns the reason why the video is incomplete, or ``None``; called after the last of ``number`` images."""


class Source:
    """The frames of a video, in order; can be iterated once and is a context manager.

    Args:
        reader: Reader of the frames.

    Attributes:
        info: Facts about the video.
        dropped: Number of frames of a live source that were skipped because a newer one had arrived.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._closed = threading.Event()
        self.info: SourceInfo = reader.info
        self.dropped = 0

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Generator[Frame, None, None]:
        try:
            for frame in self._reader.frames():
                if self._closed.is_set():
                    return
                yield frame
        finally:
            self._reader.close()

    def close(self) -> None:
        """Ends the iteration at its next frame; may be called from any thread, and twice."""
        self._closed.set()
        self._reader.stop()
