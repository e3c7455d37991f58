"""``RotationMemory``: finds turned faces in a video by the angles at which they were found before."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors import Detector
from facedet_mm.structures import Faces

_PERIOD = 2.0
"""Seconds from one full search to the next, so that newly turned faces are found."""
_FIRST_WAIT = 0.1
"""Seconds from a search for lost faces that found no other angle to the next one; they double each time."""
_IDLE = 0.25
"""Seconds after which an angle is dropped at which no convincing face is found while others have some."""
_LOST = 0.7
"""Faces are lost when less than this share of those that were found before is left."""


@runtime_checkable
class TurnAwareDetector(Detector, Protocol):
    """A detector that tells at which angle it found each face."""

    def replace(self, **changes: Any) -> TurnAwareDetector:
        """Returns a detector with other settings; see :class:`~facedet_mm.detectors.Detector`."""
        ...

    def detect_with_degrees(self, image: NDArray[np.uint8]) -> tuple[Faces, NDArray[np.float64]]:
        """Returns N faces and (N,) degrees, values for ``rotations`` with which they are found again."""
        ...


class RotationMemory:
    """Runs a detector with ``rotations='auto'`` on the frames of one video.

    The search for the angles costs more than looking at a single one. It takes place at the start, after
    :meth:`reset`, when faces are lost, and every two seconds; on all other frames the detector looks only at the
    angles by which it found convincing faces, upright if there were none so far. Searches for lost faces that find no
    other angle become rarer.

    Args:
        detector: Detector with ``rotations='auto'``.
        score_thr: Score above which a face is convincing.

    Attributes:
        searches: Number of full searches.
    """

    def __init__(self, detector: TurnAwareDetector, score_thr: float) -> None:
        self._detector = detector
        self._score_thr = score_thr
        self._angles: tuple[float, ...] = (0.0,)
        self._narrow = detector.replace(rotations=self._angles)
        self.searches = 0
        self.reset()

    def reset(self) -> None:
        """Searches at the next frame: a new shot begins with it."""
        self._searched: float | None = None
        self._wait = 0.0
        self._expected = 0
        self._last_found: dict[float, float] = {}

    def detect(self, image: NDArray[np.uint8], time: float) -> Faces:
        """Returns the faces of the next frame.

        Args:
            image: (H, W, 3) uint8 BGR.
            time: Seconds since the start of the video.
        """
        if self._searched is None or time - self._searched >= _PERIOD:
            self._wait = 0.0
            return self._search(image, time)
        faces, degrees = self._narrow.detect_with_degrees(image)
        convincing = degrees[faces.scores > self._score_thr]
        if len(convincing) < _LOST * self._expected and time - self._searched >= self._wait:
            before = self._angles
            faces = self._search(image, time)
            self._wait = 0.0 if self._angles != before else max(_FIRST_WAIT, 2 * self._wait)
            return faces
        self._expected = max(self._expected, len(convincing))
        self._last_found.update(dict.fromkeys(convincing.tolist(), time))
        if len(convincing) and len(self._angles) > 1:
            kept = tuple(angle for angle in self._angles if time - self._last_found[angle] < _IDLE)
            if kept and kept != self._angles:
                self._look_at(kept)
                self._expected = len(convincing)
        return faces

    def _search(self, image: NDArray[np.uint8], time: float) -> Faces:
        self.searches += 1
        self._searched = time
        faces, degrees = self._detector.detect_with_degrees(image)
        convincing = degrees[faces.scores > self._score_thr]
        self._expected = len(convincing)
        if len(convincing):
            self._look_at(tuple(np.unique(convincing).tolist()))
        self._last_found = dict.fromkeys(self._angles, time)
        return faces

    def _look_at(self, angles: tuple[float, ...]) -> None:
        if angles != self._angles:
            self._angles = angles
            self._narrow = self._detector.replace(rotations=angles)
