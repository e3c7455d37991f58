"""Smooths boxes and landmarks: less jitter on a face at rest, no lag on one that moves."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces

__all__ = ["FaceSmoother"]

Array = NDArray[np.float64]

_COORDINATES = 4 + 10
_TIME, _SCORE = 0, 1
_SEEN, _VELOCITY, _SMOOTH = (slice(2 + i * _COORDINATES, 2 + (i + 1) * _COORDINATES) for i in range(3))
_COLUMNS = 2 + 3 * _COORDINATES
"""A track is a row: time of its last frame, smoothed score, last detection, velocity per second, smoothed values."""
_RATE = 30.0
"""Frames per second for which the weights are given."""
_MIN_STEP = 1e-3
"""Seconds between two frames whose times are equal or out of order."""
_VELOCITY_WEIGHT = 0.15
"""Weight of a new velocity: the noise in the difference of two boxes must not look like motion."""
_SCORE_WEIGHT = 0.3
_SLOW, _FAST = 0.4, 1.0
"""Face sizes per second: up to the first a face is at rest, from the second on it is fast."""
_SLACK = 0.1
"""Largest distance of a smoothed edge or landmark from the detected one, in face sizes."""
_MEMORY = 1.0
"""Seconds for which a track is remembered, so that the box does not jump after a missed detection."""


class FaceSmoother:
    """One exponential average per track, in which the newest detection weighs more the faster the face moves.

    The idea is that of the 1€ filter (Casiez et al., CHI 2012): noise disturbs at rest, lag disturbs in motion. Speed
    is measured in face sizes per second. The box and the landmarks of a face share one weight, so a landmark that is
    always inside the detected box is also inside the smoothed one. Weights depend on the time between frames, which
    makes the result independent of the frame rate. No point differs from its detection by more than a tenth of the
    face.

    Args:
        still: Weight of the newest detection of a face at rest, at 30 frames per second; smaller is steadier. A share
            of ``still / (2 - still)`` of the variance of independent noise remains.
        fast: Weight of the newest detection from one face size per second on; a fast face lags ``(1 - fast) / fast``
            frames behind.

    Attributes:
        still: Weight of the newest detection of a face at rest.
        fast: Weight of the newest detection of a fast face.

    Raises:
        FaceDetError: ``0 < still <= fast <= 1`` does not hold.

    Example:
        >>> smoother = FaceSmoother()
        >>> for frame, x in enumerate((20, 21, 19, 21)):
        ...     faces = smoother.update(Faces([[x, 0, x + 40, 50]], [0.9], track_ids=[1]), time=frame / 30)
        >>> [round(x, 1) for x in faces.boxes[0].tolist()]
        [20.1, 0.0, 60.1, 50.0]
    """

    def __init__(self, still: float = 0.12, fast: float = 0.9) -> None:
        if not 0 < still <= fast <= 1:
            raise FaceDetError(f"smoothing needs 0 < still <= fast <= 1, not still={still}, fast={fast}")
        self.still = still
        self.fast = fast
        self.reset()

    def reset(self) -> None:
        """Forgets all tracks: the next frame belongs to another video or scene."""
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self._tracks: Array = np.zeros((0, _COLUMNS))

    def __len__(self) -> int:
        """Returns the number of tracks that are remembered."""
        return len(self._ids)

    def update(self, faces: Faces, time: float) -> Faces:
        """Returns the faces with smoothed boxes, landmarks and scores; those with the ID -1 are unchanged.

        Args:
            faces: Faces of the next frame, with track IDs.
            time: Time of the frame in seconds. One that is not later than the last counts as a millisecond later.

        Returns:
            Faces in the same order.

        Raises:
            FaceDetError: The faces have no track IDs, or ``time`` is not finite.
        """
        if not math.isfinite(time):
            raise FaceDetError(f"the time of a frame must be finite, not {time}")
        if faces.track_ids is None:
            if len(faces):
                raise FaceDetError("smoothing needs faces with track IDs: pass the faces that a tracker returns")
            return faces
        tracked = (faces.track_ids >= 0).nonzero()[0]
        ids, seen = faces.track_ids[tracked], _coordinates(faces)[tracked]
        tracks = self._step(self._find(ids, seen, faces.scores[tracked], time), seen, faces.scores[tracked], time)
        self._remember(ids, tracks, time)
        return _replaced(faces, tracked, tracks)

    def _find(self, ids: NDArray[np.int64], seen: Array, scores: NDArray[np.float32], time: float) -> Array:
        """Returns the rows of the tracks before the frame; a new track is a face at rest at its first detection."""
        tracks = np.zeros((len(ids), _COLUMNS))
        tracks[:, _TIME], tracks[:, _SCORE], tracks[:, _SEEN], tracks[:, _SMOOTH] = time, scores, seen, seen
        if len(self._ids):
            places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
            known = self._ids[places] == ids
            tracks[known] = self._tracks[places[known]]
        return tracks

    def _step(self, tracks: Array, seen: Array, scores: NDArray[np.float32], time: float) -> Array:
        """Returns the rows of the tracks after the frame."""
        steps = np.maximum(time - tracks[:, _TIME], _MIN_STEP)
        sizes = np.sqrt(np.maximum(seen[:, 2] - seen[:, 0], 1) * np.maximum(seen[:, 3] - seen[:, 1], 1))
        change = np.nan_to_num((seen - tracks[:, _SEEN]) / steps[:, None])
        weights = _at_rate(np.full(len(seen), _VELOCITY_WEIGHT), steps)
        velocity = tracks[:, _VELOCITY] + weights[:, None] * (change - tracks[:, _VELOCITY])

        pace = np.clip((_speeds(velocity) / sizes - _SLOW) / (_FAST - _SLOW), 0, 1)
        weights = _at_rate(self.still + pace * (self.fast - self.still), steps)
        behind = np.nan_to_num(seen - tracks[:, _SMOOTH])
        farthest = np.maximum(np.abs(behind).max(axis=1, initial=0), 1e-9)
        weights = np.maximum(weights, 1 - _SLACK * sizes / farthest)
        smooth = tracks[:, _SMOOTH] + weights[:, None] * behind

        after = np.empty_like(tracks)
        after[:, _TIME], after[:, _SEEN], after[:, _VELOCITY] = time, seen, velocity
        # a coordinate without a history starts at the detection, and one without a detection stays NaN
        after[:, _SMOOTH] = np.where(np.isfinite(smooth) & np.isfinite(seen), smooth, seen)
        after[:, _SCORE] = tracks[:, _SCORE] + _SCORE_WEIGHT * (scores - tracks[:, _SCORE])
        return after

    def _remember(self, ids: NDArray[np.int64], tracks: Array, time: float) -> None:
        # absolute, so that tracks do not stay forever when the clock jumps back
        kept = (np.abs(time - self._tracks[:, _TIME]) <= _MEMORY) & ~np.isin(self._ids, ids)
        all_ids = np.concatenate([self._ids[kept], ids])
        order = np.argsort(all_ids, kind="stable")
        self._ids = all_ids.take(order)
        self._tracks = np.concatenate([self._tracks[kept], tracks]).take(order, axis=0)


def _at_rate(weights: Array, steps: Array) -> Array:
    """Converts weights for 30 frames per second to those for other time steps, in seconds."""
    converted: Array = 1 - (1 - weights) ** (steps * _RATE)
    return converted


def _speeds(velocity: Array) -> Array:
    """Returns the largest speed of box center, box growth and landmarks, (N,), from velocities (N, 14).

    Each is a mean over points, which reduces the noise of single points and keeps their common motion.
    """
    corners, landmarks = velocity[:, :4].reshape(-1, 2, 2), velocity[:, 4:].reshape(-1, 5, 2)
    means = np.stack([corners.mean(axis=1), (corners[:, 1] - corners[:, 0]) / 2, landmarks.mean(axis=1)])
    speeds: Array = np.hypot(means[..., 0], means[..., 1]).max(axis=0)
    return speeds


def _coordinates(faces: Faces) -> Array:
    """Returns (N, 14) boxes and landmarks; NaN where there are none."""
    values = np.full((len(faces), _COORDINATES), np.nan)
    values[:, :4] = faces.boxes
    if faces.landmarks is not None:
        values[:, 4:] = faces.landmarks.reshape(-1, 10)
    return values


def _replaced(faces: Faces, rows: NDArray[np.intp], tracks: Array) -> Faces:
    boxes, scores = faces.boxes.copy(), faces.scores.copy()
    boxes[rows], scores[rows] = tracks[:, _SMOOTH][:, :4], tracks[:, _SCORE]
    landmarks = None if faces.landmarks is None else faces.landmarks.copy()
    if landmarks is not None:
        landmarks[rows] = tracks[:, _SMOOTH][:, 4:].reshape(-1, 5, 2)
    return Faces(boxes, scores, landmarks, faces.track_ids)
