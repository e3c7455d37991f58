"""``SoundClock``: the time of sound in a video whose timestamps may start anew."""

from __future__ import annotations

from collections.abc import Sequence

from facedet_mm.video.clock import Recording

_BACK = 0.1
"""Seconds: timestamps of sound that go back by more belong to another recording."""
_AHEAD = 10.0
"""Seconds: timestamps of sound that go ahead by more belong to another recording if there is one."""
_LEAD = 2.0
"""Seconds by which the sound of a recording may begin before its images, or overlap the sound before it."""
_PATIENCE = 10.0
"""Seconds of images for which sound waits for the recording that it belongs to."""


class SoundClock:
    """Converts the timestamps of a sound track to seconds since the first image.

    Args:
        recordings: The parts of the video that the reader of its images finds; the sequence may grow meanwhile.

    Example:
        >>> clock = SoundClock([Recording(first=3.0, offset=-3.0), Recording(first=0.0, offset=2.0)])
        >>> [clock(stamp, until=2.0) for stamp in (3.5, 4.5, 0.5)]
        [0.5, 1.5, 2.5]
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._recordings = recordings
        self._index = 0
        self._offset: float | None = None
        self._stamp: float | None = None
        self._end = 0.0

    def __call__(self, stamp: float, until: float) -> float | None:
        """Returns the time of a packet, or ``None`` if it is not known before more images were read.

        Args:
            stamp: Timestamp of the packet in seconds.
            until: Time of the last image that was read, in seconds.
        """
        if self._offset is None:
            if not self._recordings:
                return None
            self._offset = self._recordings[0].offset
        if self._stamp is not None and not self._stamp - _BACK <= stamp <= self._stamp + _AHEAD:
            offset = self._new_offset(stamp, self._stamp, self._offset, until)
            if offset is None:
                return None
            self._offset = offset
        self._stamp = stamp
        self._end = stamp + self._offset
        return self._end

    def _new_offset(self, stamp: float, last: float, offset: float, until: float) -> float | None:
        """Returns the offset for a timestamp that does not follow the last one, or ``None`` if it is not known yet."""
        for index in range(self._index + 1, len(self._recordings)):
            recording = self._recordings[index]
            if stamp >= recording.first - _LEAD and stamp + recording.offset >= self._end - _LEAD:
                self._index = index
                return recording.offset
        if stamp > last:
            return (
                offset if stamp + offset <= until else None
            )  # silence, unless a recording is found that it belongs to
        # without such a recording, the timestamps of the sound alone have started anew
        return self._end - stamp if until >= self._end + _PATIENCE else None
