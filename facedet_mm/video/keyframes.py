"""Decides on which frames of a video the detector runs."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking.association import iou_matrix
from facedet_mm.tracking.settings import TrackerSettings
from facedet_mm.tracking.tracked_faces import track_ids
from facedet_mm.video.scene_cuts import SceneCutDetector

__all__ = ["KeyframePolicy"]

_MAX_INTERVAL = 10
"""Frames after which the detector runs even if nothing moves, so that a new face is found."""
_MAX_MOTION = 0.25
"""Face sizes by which a face may move from one detection to the next."""
_UNSURE_INTERVAL = 3
"""Frames from one detection to the next while faces are new, overlap or fade: their motion is unknown, or does not show
which face hides the other."""
_OVERLAP_IOU = 0.05
_FADING_SCORE = 0.6
"""A face with a lower score fades."""
NEW_FACE_SCORE = TrackerSettings().new_track_thr
"""Least score of a face without a track for which the detector runs again on the next frame."""


class KeyframePolicy:
    """Decides on which frames of a video the detector runs.

    It runs on every ``interval``-th frame and on the first frame of a shot. It runs again on the next frame when a
    face without a track was found, which needs a second detection to be confirmed, or when a tracked face was missed.
    With ``'adaptive'`` it runs as often as needed: before the fastest face has moved by a quarter of its size, on
    every third frame while faces are new, overlap or fade (score below 0.6), and on every tenth frame at least.

    The two methods may be called in different threads; observed faces then take effect as soon as they are known.

    Args:
        interval: Frames from one detection to the next, or ``'adaptive'``.

    Attributes:
        longest: Largest number of frames from one detection to the next.
        cut: Whether a new shot begins with the last frame; tracks must not continue across a cut.

    Raises:
        FaceDetError: ``interval`` is neither ``'adaptive'`` nor a whole number of at least 1.

    Example:
        >>> policy, frame = KeyframePolicy(interval=3), np.zeros((90, 160, 3), np.uint8)
        >>> [policy.should_detect(frame) for _ in range(5)]
        [True, False, False, True, False]
    """

    def __init__(self, interval: int | Literal["adaptive"] = 5) -> None:
        whole = isinstance(interval, (int, np.integer)) and not isinstance(interval, bool)
        if interval != "adaptive" and not (whole and int(interval) >= 1):
            raise FaceDetError(f"interval must be 'adaptive' or a whole number of frames, at least 1, not {interval!r}")
        self._adaptive = interval == "adaptive"
        self.longest = _MAX_INTERVAL if interval == "adaptive" else int(interval)
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
        """Returns whether to run the detector on this frame; call it once for each frame, in order.

        Args:
            image: (H, W, 3) uint8 BGR.

        Raises:
            ImageError: ``image`` is not a uint8 image.
        """
        self.cut = self._cuts.update(image)
        if self.cut or self._waited >= self._wanted:
            # a face that a second detection did not confirm gets no third
            self._confirming = self._wanted == 1 and not self._confirming
            self._waited, self._wanted = 1, self.longest
            return True
        self._waited += 1
        return False

    def observe(self, faces: Faces) -> None:
        """Records the faces of a frame, detected or predicted.

        Args:
            faces: Faces with track IDs; those with the ID -1 wait to be confirmed.
        """
        ids = track_ids(faces)
        tracked = faces[ids >= 0]
        missed = ~np.isin(track_ids(self._last), ids)
        if (missed.any() or (faces.scores[ids < 0] >= NEW_FACE_SCORE).any()) and not self._confirming:
            self._wanted = 1
        elif self._adaptive:
            self._wanted = min(self._wanted, _needed_interval(self._last, tracked))
        self._last = tracked


def _needed_interval(last: Faces, faces: Faces) -> int:
    """Returns the frames from one detection to the next that the tracked faces of the last two frames need."""
    _, now, before = np.intersect1d(track_ids(faces), track_ids(last), return_indices=True)
    boxes = faces.boxes.astype(np.float64)
    crowded = np.triu(iou_matrix(boxes.T, boxes.T) > _OVERLAP_IOU, 1).any()
    unclear = crowded or len(now) < len(faces) or bool((faces.scores < _FADING_SCORE).any())
    moved, sizes = boxes[now] - last.boxes[before], np.sqrt(np.prod(boxes[now, 2:] - boxes[now, :2], axis=1))
    step = np.abs(moved).max(axis=1, initial=0) / np.maximum(sizes, 1)
    return int(np.clip(_MAX_MOTION / max(step.max(initial=0), 1e-9), 1, _UNSURE_INTERVAL if unclear else _MAX_INTERVAL))
