"""All tracks of a tracker, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedet_mm.structures import Faces
from facedet_mm.tracking.kalman import STATE, boxes_of

_SEEN = 4 + 1 + 10


@dataclass
class Tracks:
    """N tracks; those without an id stand at the end.

    Attributes:
        state: (5, 4, N) float64, of the Kalman filter.
        ids: (N,) int64; 0 for a track that isn't confirmed yet.
        born: (N,) int64, number of the frame.
        last: (N,) int64, number of the last frame with a detection.
        lost: (N,) bool, whether the track was missed since.
        seen: (N, 15) float32, the last detection's box, score and landmarks.
    """

    state: NDArray[np.float64]
    ids: NDArray[np.int64]
    born: NDArray[np.int64]
    last: NDArray[np.int64]
    lost: NDArray[np.bool_]
    seen: NDArray[np.float32]

    @classmethod
    def none(cls) -> Tracks:
        """No tracks."""
        return cls.start(np.zeros((*STATE, 0)), np.zeros((0, _SEEN), np.float32), 0)

    @classmethod
    def start(cls, state: NDArray[np.float64], seen: NDArray[np.float32], frame: int) -> Tracks:
        """Tracks that are seen for the first time."""
        count = len(seen)
        born = np.full(count, frame, np.int64)
        return cls(state, np.zeros(count, np.int64), born, born.copy(), np.zeros(count, bool), seen)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: NDArray[np.intp]) -> Tracks:
        return Tracks(
            self.state.take(rows, axis=2),
            self.ids[rows],
            self.born[rows],
            self.last[rows],
            self.lost[rows],
            self.seen[rows],
        )

    def __add__(self, other: Tracks) -> Tracks:
        return Tracks(
            np.concatenate([self.state, other.state], axis=2),
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.born, other.born]),
            np.concatenate([self.last, other.last]),
            np.concatenate([self.lost, other.lost]),
            np.concatenate([self.seen, other.seen]),
        )

    def faces(self, landmarks: bool) -> Faces:
        """Where the tracks are: the filter's boxes, the last scores, the last landmarks moved along with the box."""
        boxes = boxes_of(self.state).T
        points = _moved(self.seen[:, 5:].reshape(-1, 5, 2), self.seen[:, :4], boxes) if landmarks else None
        return Faces(boxes, self.seen[:, 4], points, self.ids)


def ids_of(faces: Faces) -> NDArray[np.int64]:
    """(N,) the ids of what a tracker gave; none for a frame without faces, which may have no ids either."""
    return np.zeros(0, np.int64) if faces.track_ids is None else faces.track_ids


def seen_columns(faces: Faces, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """(N, 15) float32 for :attr:`Tracks.seen`; landmarks are NaN where the detector gives none."""
    seen = np.empty((len(rows), _SEEN), np.float32)
    seen[:, :4] = faces.boxes[rows]
    seen[:, 4] = faces.scores[rows]
    seen[:, 5:] = np.nan if faces.landmarks is None else faces.landmarks[rows].reshape(-1, 10)
    return seen


def _moved(points: NDArray[np.float32], old: NDArray[np.float32], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points at the same place within the new boxes as within the old ones."""
    scale = (new[:, 2:] - new[:, :2]) / (old[:, 2:] - old[:, :2])
    moved: NDArray[np.float64] = (points - old[:, None, :2]) * scale[:, None] + new[:, None, :2]
    return moved
