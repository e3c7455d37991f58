"""Which frames of a video the detector runs on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking.association import iou_matrix
from facedet_mm.tracking.settings import TrackerSettings
from facedet_mm.tracking.tracks import ids_of
from facedet_mm.video.scene_cuts import SceneCutDetector

__all__ = ["KeyframePolicy"]

_LONGEST = 10
"""Frames: where nothing moves, a face that comes in is found after so many at the latest."""
_DRIFT = 0.25
"""Face sizes that a face may move from one detection to the next."""
_OFTEN = 3
"""Frames from one detection to the next while faces are new, overlap or fade: their motion isn't known, or does not
tell who hides whom."""
_OVERLAP = 0.05
_SURE = 0.6
"""Least score of a face that does not fade."""
_NEWCOMER = TrackerSettings().new_track_thr


class KeyframePolicy:
    """Decides on which frames of a video the detector runs.

    It runs on every ``interval``-th frame, at once where a new shot begins, and once more on the next frame when a
    face was found that no track has yet, since a second sight confirms it, or when one was missed. With ``'adaptive'``
    it runs as often as needed: before the fastest face has moved by a quarter of its size, on every third frame while
    faces are new, overlap or fade (score below 0.6), and on every tenth at least.

    The two methods may be called in different threads: what is observed then acts as soon as it is known.

    Args:
        interval: frames from one detection to the next, or ``'adaptive'``.

    Attributes:
        longest: frames from one detection to the next, at most.
        cut: whether a new shot begins with the frame asked for last; tracks must not go on across it.

    Raises:
        FaceDetError: ``interval`` is neither ``'adaptive'`` nor a whole number from 1 on.

    Example:
        >>> policy, frame = KeyframePolicy(interval=3), np.zeros((90, 160, 3), np.uint8)
        >>> [policy.should_detect(frame) for _ in range(5)]
        [True, False, False, True, False]
    """

    def __init__(self, interval: int | Literal["adaptive"] = 5) -> None:
        whole = isinstance(interval, (int, np.integer)) and not isinstance(interval, bool)
        if interval != "adaptive" and not (whole and int(interval) >= 1):
            raise FaceDetError(f"interval must be a whole number of frames from 1 on or 'adaptive', not {interval!r}")
        self._adaptive = interval == "adaptive"
        self.longest = _LONGEST if interval == "adaptive" else int(interval)
        self._cuts = SceneCutDetector()
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first of another video."""
        self._cuts.reset()
        self.cut = False
        self._waited = self._wanted = self.longest
        self._last = Faces.empty()
        self._confirming = False

    def should_detect(self, image: NDArray[np.uint8]) -> bool:
        """Whether to run the detector on this frame; to be asked once for each, in order.

        Args:
            image: uint8 BGR (H, W, 3).

        Raises:
            ImageError: ``image`` is no uint8 image.
        """
        self.cut = self._cuts.update(image)
        if self.cut or self._waited >= self._wanted:
            # a face that a second look did not confirm isn't worth a third
            self._confirming = self._wanted == 1 and not self._confirming
            self._waited, self._wanted = 1, self.longest
            return True
        self._waited += 1
        return False

    def observe(self, faces: Faces) -> None:
        """Takes note of the faces of a frame, detected or predicted.

        Args:
            faces: with track ids; untracked ones (-1) are those that wait to be confirmed.
        """
        ids = ids_of(faces)
        tracked = faces[ids >= 0]
        missed = ~np.isin(ids_of(self._last), ids)
        if (missed.any() or (faces.scores[ids < 0] >= _NEWCOMER).any()) and not self._confirming:
            self._wanted = 1
        elif self._adaptive:
            self._wanted = min(self._wanted, _needed(self._last, tracked))
        self._last = tracked


def _needed(last: Faces, faces: Faces) -> int:
    """Frames from one detection to the next that these tracked faces and those a frame ago ask for."""
    _, now, before = np.intersect1d(ids_of(faces), ids_of(last), return_indices=True)
    boxes = faces.boxes.astype(np.float64)
    crowded = np.triu(iou_matrix(boxes.T, boxes.T) > _OVERLAP, 1).any()
    unclear = crowded or len(now) < len(faces) or bool((faces.scores < _SURE).any())
    moved, sizes = boxes[now] - last.boxes[before], np.sqrt(np.prod(boxes[now, 2:] - boxes[now, :2], axis=1))
    step = np.abs(moved).max(axis=1, initial=0) / np.maximum(sizes, 1)
    return int(np.clip(_DRIFT / max(step.max(initial=0), 1e-9), 1, _OFTEN if unclear else _LONGEST))
