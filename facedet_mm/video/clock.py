"""Frame rates, and the time of each frame."""

from __future__ import annotations

from typing import NamedTuple, SupportsFloat

DEFAULT_FPS = 25.0
"""Frames per second of sources without a frame rate: images and raw frames."""
MAX_FPS = 960.0
_MIN_STEP = 1e-3
"""Seconds between two frames whose timestamps are equal or nearly so."""
_JUMP = 1.0
"""Seconds: a timestamp that goes back by as much is the start of a new recording at once."""
MAX_GAP = 30 * 3600.0
"""Seconds between two frames of a file; more is an error in its timestamps (FFmpeg's ``dts_error_threshold``)."""
JOINED_MAX_GAP = 10.0
"""Seconds between two frames of formats whose files are often joined (FFmpeg's ``dts_delta_threshold``)."""
_REORDER_DEPTH = 16
"""Frames: a timestamp that is wrong only because a file stores frames in another order is right again after fewer."""


class Recording(NamedTuple):
    """A part of a file whose timestamps belong together.

    Attributes:
        first: Timestamp of its first frame, in seconds.
        offset: Seconds to add to its timestamps for the time since the first frame of the video.
    """

    first: float
    offset: float


class Clock:
    """Converts timestamps to seconds since the first frame, each later than the one before.

    A file that was joined from several recordings has timestamps that go back, or far ahead, where the next recording
    begins: it follows without a gap. Timestamps that are out of order for a few frames only do not shift later frames.

    Args:
        fps: Frames per second; sets the time of frames without a timestamp and of the first frame after a jump.
        max_gap: Seconds: a timestamp that goes ahead by more is the start of a new recording.

    Attributes:
        recordings: The recordings found so far; other threads may read the list.

    Example:
        >>> clock = Clock(fps=10)
        >>> [round(clock(stamp), 3) for stamp in (7.0, 7.25, None, 0.0, 0.5)]
        [0.0, 0.25, 0.35, 0.45, 0.95]
    """

    def __init__(self, fps: float, max_gap: float = MAX_GAP) -> None:
        self.recordings: list[Recording] = []
        self._step = 1 / fps
        self._max_gap = max_gap
        self._offset = 0.0
        self._last: float | None = None
        self._behind = 0  # consecutive frames whose timestamps are not later than those before
        self._provisional = Recording(0.0, 0.0)  # the recording that has begun if these frames are no mistake

    def __call__(self, stamp: float | None) -> float:
        """Returns the time of the next frame; ``stamp`` is in seconds from any origin, ``None`` if unknown."""
        if self._last is None:
            self._last = 0.0
            self._begin(Recording(stamp or 0.0, -(stamp or 0.0)))
        elif stamp is None:
            self._last += self._step
        else:
            self._last = self._later(stamp, self._last)
        return self._last

    def _later(self, stamp: float, last: float) -> float:
        time = stamp + self._offset
        if last < time <= last + self._max_gap:
            self._behind = 0
            return max(time, last + _MIN_STEP)
        repeated = 0 <= last - time < self._step
        self._behind += 1
        if self._behind > 1 and last < (following := stamp + self._provisional.offset) <= last + self._max_gap:
            moment = following
        else:
            moment = last + (_MIN_STEP if repeated and self._behind == 1 else self._step)
            self._provisional = Recording(stamp, moment - stamp)
        if time > last or last - time >= _JUMP or self._behind == _REORDER_DEPTH + 1:
            self._begin(self._provisional)
        return moment

    def _begin(self, recording: Recording) -> None:
        self._offset = recording.offset
        self.recordings.append(recording)


def plausible_fps(rate: SupportsFloat | None) -> float | None:
    """Returns the rate, or ``None`` if it cannot be one: some files state their time base (1000, 90000) as the rate."""
    return fps if rate is not None and 0 < (fps := float(rate)) <= MAX_FPS else None
