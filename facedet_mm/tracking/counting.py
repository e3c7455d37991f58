"""``TrackCounter``: how many different faces a video shows."""

from __future__ import annotations

from facedet_mm.structures import Faces
from facedet_mm.tracking.tracked_faces import track_ids

MIN_SECONDS = 0.25
"""Seconds for which a track must last to be counted: a false alarm is rarely confirmed for as long."""
MIN_DETECTIONS = 2
"""Frames on which the face of a track must be detected, not only predicted."""
_MAX_WAITING = 10_000
"""Tracks that are too short so far and remembered."""
_ROUNDING = 1e-6


class TrackCounter:
    """Counts the tracks that last for at least a quarter of a second, with the face detected at least twice.

    Of a video that is shorter, the tracks are counted that last for all of it. A person who leaves and is given a new
    track on return counts twice.

    Args:
        fps: Frames per second.

    Example:
        >>> counter, faces = TrackCounter(fps=25), Faces([[0, 0, 9, 9], [20, 0, 29, 9]], [0.9, 0.9], track_ids=[1, 2])
        >>> for number in range(20):
        ...     counter.update(faces if number < 3 else faces[:1], number / 25, detected=True)
        >>> counter.count
        1
    """

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._first: float | None = None
        self._last = 0.0
        self._frames = 0
        self._counted = 0
        self._newest = 0
        self._waiting: dict[int, tuple[float, float, int]] = {}  # ID → first time, last time, number of detections

    def update(self, faces: Faces, time: float, detected: bool) -> None:
        """Adds the faces of the next frame; those with the ID -1 belong to no track.

        Args:
            faces: Faces with track IDs.
            time: Time of the frame in seconds.
            detected: Whether the detector ran on the frame.
        """
        self._first = time if self._first is None else self._first
        self._last = time
        self._frames += detected
        for track in track_ids(faces).tolist():
            if track > self._newest or track in self._waiting:
                first, _, seen = self._waiting.get(track, (time, time, 0))
                self._waiting[track] = first, time, seen + detected
                self._newest = max(self._newest, track)
                if self._lasts(track, MIN_SECONDS, MIN_DETECTIONS):
                    del self._waiting[track]
                    self._counted += 1
        while len(self._waiting) > _MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]

    @property
    def count(self) -> int:
        """The number of tracks so far."""
        video = self._last - (self._first or 0.0) + self._step
        seconds, detections = min(MIN_SECONDS, video), min(MIN_DETECTIONS, self._frames)
        return self._counted + sum(self._lasts(track, seconds, detections) for track in self._waiting)

    def _lasts(self, track: int, seconds: float, detections: int) -> bool:
        first, last, seen = self._waiting[track]
        return seen >= detections and last - first + self._step >= seconds - _ROUNDING
