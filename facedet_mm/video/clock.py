"""Frame rates, and the time of each frame."""

from __future__ import annotations

from typing import SupportsFloat

DEFAULT_FPS = 25.0
"""Frames per second of sources without a frame rate: images and raw frames."""
MAX_FPS = 960.0
_MIN_STEP = 1e-3
"""Seconds between two frames whose timestamps are equal or out of order."""
_JUMP = 1.0
"""Seconds: a timestamp that goes back by less is an error of the file, by more the start of a new recording."""


class Clock:
    """Converts timestamps to seconds since the first frame, each later than the one before.

    Args:
        fps: Frames per second; sets the time of frames without a timestamp and of the first frame after a jump back.

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
        """Returns the time of the next frame; ``stamp`` is in seconds from any origin, ``None`` if unknown."""
        if self._last is None:
            self._offset = -(stamp or 0.0)
            self._last = 0.0
            return 0.0
        following = self._last + self._step
        time = following if stamp is None else stamp + self._offset
        if time <= self._last - _JUMP:
            self._offset += following - time
            time = following
        self._last = max(time, self._last + _MIN_STEP)
        return self._last


def plausible_fps(rate: SupportsFloat | None) -> float | None:
    """Returns the rate, or ``None`` if it cannot be one: some files state their time base (1000, 90000) as the rate."""
    return fps if rate is not None and 0 < (fps := float(rate)) <= MAX_FPS else None
