"""All tracks of a tracker, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedet_mm.structures import Faces
from facedet_mm.tracking.kalman import STATE, state_to_boxes
from facedet_mm.tracking.tracked_faces import move_landmarks

_SEEN_COLUMNS = 4 + 1 + 10


@dataclass
class Tracks:
    """N tracks; those without an ID are at the end.

    Attributes:
        state: (5, 4, N) float64, the state of the Kalman filter.
        ids: (N,) int64; 0 for a track that is not confirmed yet.
        born: (N,) int64, number of the first frame.
        last: (N,) int64, number of the last frame with a detection.
        lost: (N,) bool, whether the track was missed since.
        seen: (N, 15) float32, box, score and landmarks of the last detection.
    """

    state: NDArray[np.float64]
    ids: NDArray[np.int64]
    born: NDArray[np.int64]
    last: NDArray[np.int64]
    lost: NDArray[np.bool_]
    seen: NDArray[np.float32]

    @classmethod
    def empty(cls) -> Tracks:
        """Returns no tracks."""
        return cls.start(np.zeros((*STATE, 0)), np.zeros((0, _SEEN_COLUMNS), np.float32), 0)

    @classmethod
    def start(cls, state: NDArray[np.float64], seen: NDArray[np.float32], frame: int) -> Tracks:
        """Returns tracks that are seen for the first time in this frame."""
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

    def predicted_faces(self, landmarks: bool) -> Faces:
        """Returns the boxes of the filter with the last scores, and the last landmarks moved along with the box.

        Args:
            landmarks: Whether the faces have landmarks.
        """
        boxes = state_to_boxes(self.state).T
        points = move_landmarks(self.seen[:, 5:].reshape(-1, 5, 2), self.seen[:, :4], boxes) if landmarks else None
        return Faces(boxes, self.seen[:, 4], points, self.ids)


def seen_columns(faces: Faces, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Returns (N, 15) float32 for :attr:`Tracks.seen`; landmarks are NaN if the detector returns none."""
    seen = np.empty((len(rows), _SEEN_COLUMNS), np.float32)
    seen[:, :4] = faces.boxes[rows]
    seen[:, 4] = faces.scores[rows]
    seen[:, 5:] = np.nan if faces.landmarks is None else faces.landmarks[rows].reshape(-1, 10)
    return seen
