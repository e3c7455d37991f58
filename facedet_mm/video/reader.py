"""What every reader of images shares: the interface, a clock, and one size for all frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import SupportsFloat, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.video.frame import Frame, SourceInfo

Stamped: TypeAlias = tuple[float | None, NDArray[np.uint8]]
"""Seconds from anywhere, if known, and the image."""

DEFAULT_FPS = 25.0
"""Frames a second of what has no rate of its own: images, raw frames."""
MOST_FPS = 960.0
_NUDGE = 1e-3
_JUMP = 1.0
"""Seconds: a time stamp that goes back by less is a slip, by more a new beginning."""


class Reader(ABC):
    """Gives the frames of one file, device or connection; used by one thread at a time.

    Attributes:
        info: of what it reads; known from the start.
    """

    info: SourceInfo

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            VideoError: it breaks off, or parts of it can't be decoded; after the last frame that can be.
        """

    @abstractmethod
    def close(self) -> None:
        """Lets go of file, device or connection; may be called twice."""

    def stop(self) -> None:  # noqa: B027
        """Makes :meth:`frames` end where it waits for something that may never come; may be called from any thread."""


class StampedReader(Reader):
    """A reader of images that have a time stamp each, and of which the last may not be the last there should be."""

    _name: str
    _first: list[Stamped]
    """What was read to know the size, until it is given."""

    def frames(self) -> Iterator[Frame]:
        """See :meth:`Reader.frames`."""
        clock, number = Clock(self.info.fps), 0
        while stamped := self._first.pop() if self._first else self._next():
            number += 1
            stamp, image = stamped
            yield Frame(fit(image, self.info.width, self.info.height), number, clock(stamp))
        if problem := self._problem(number):
            raise VideoError(f"{self._name}: {problem}")

    @abstractmethod
    def _next(self) -> Stamped | None:
        """The next image, ``None`` after the last."""

    @abstractmethod
    def _problem(self, number: int) -> str | None:
        """What was wrong, asked after the last image; ``number`` of them were given."""


class Clock:
    """Time stamps as they come → seconds since the first one, each later than the one before.

    Args:
        fps: for frames without a time stamp, and for the step over a break.

    Example:
        >>> clock = Clock(fps=10)
        >>> [round(clock(stamp), 3) for stamp in (7.0, 7.25, None, 0.0, 0.5)]
        [0.0, 0.25, 0.35, 0.45, 0.95]
    """

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._offset = 0.0
        self._last: float | None = None

    def __call__(self, stamp: float | None) -> float:
        """The time of the next frame; ``stamp`` in seconds from anywhere, ``None`` where there is none."""
        if self._last is None:
            self._offset = -(stamp or 0.0)
            self._last = 0.0
            return 0.0
        following = self._last + self._step
        time = following if stamp is None else stamp + self._offset
        if time <= self._last - _JUMP:
            self._offset += following - time
            time = following
        self._last = max(time, self._last + _NUDGE)
        return self._last


def plausible_fps(rate: SupportsFloat | None) -> float | None:
    """The rate if it can be one; time bases of 1000 or 90000 ticks a second get stated as rates."""
    return fps if rate is not None and 0 < (fps := float(rate)) <= MOST_FPS else None


def fit(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The image itself if it has this size, else resized in its proportions, between black borders.

    Example:
        >>> fit(np.full((10, 10, 3), 9, np.uint8), 40, 20)[0, ::10, 0].tolist()
        [0, 9, 9, 0]
    """
    h, w = image.shape[:2]
    if (w, h) == (width, height):
        return image
    scale = min(width / w, height / h)
    inner = (max(1, round(w * scale)), max(1, round(h * scale)))
    resized = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = resized
    return canvas
