"""``Faces``: the one value that flows from detectors through trackers to drawings and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Order of the five landmarks, left and right as seen in the picture."""


@dataclass(frozen=True, eq=False)
class Faces:
    """N faces of one picture, as immutable columns.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the picture.
        scores: (N,) float32 in [0, 1].
        landmarks: (N, 5, 2) float32, x y in pixels, in the order of :data:`LANDMARK_NAMES`; ``None`` when
            the model has none.
        track_ids: (N,) int64, −1 where a face belongs to no track; ``None`` without tracking.

    Raises:
        ValueError: when shapes do not agree.

    Example:
        >>> faces = Faces(boxes=[[10, 20, 30, 50], [0, 0, 8, 8]], scores=[0.9, 0.3])
        >>> len(faces), faces[faces.scores > 0.5].boxes.tolist()
        (2, [[10.0, 20.0, 30.0, 50.0]])
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None = None
    track_ids: NDArray[np.int64] | None = None

    def __init__(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        landmarks: ArrayLike | None = None,
        track_ids: ArrayLike | None = None,
    ) -> None:
        scores = _column(scores, np.float32, (), "scores", None)
        n = len(scores)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "boxes", _column(boxes, np.float32, (4,), "boxes", n))
        object.__setattr__(
            self, "landmarks", None if landmarks is None else _column(landmarks, np.float32, (5, 2), "landmarks", n)
        )
        object.__setattr__(
            self, "track_ids", None if track_ids is None else _column(track_ids, np.int64, (), "track_ids", n)
        )

    @classmethod
    def empty(cls, landmarks: bool = False) -> Faces:
        """No faces; with ``landmarks`` the landmark column exists and is empty."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)) if landmarks else None)

    @classmethod
    def concatenate(cls, parts: Sequence[Faces]) -> Faces:
        """Joins faces of one picture; an optional column survives only when all parts have it."""
        if not parts:
            return cls.empty()

        def join(name: str) -> NDArray[Any] | None:
            columns = [getattr(part, name) for part in parts]
            return None if any(column is None for column in columns) else np.concatenate(columns)

        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            join("landmarks"),
            join("track_ids"),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int | slice | ArrayLike) -> Faces:
        """Faces at ``index``: an int (gives one face), a slice, an index array or a boolean mask."""
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"face {index} of {len(self)}")
            index = [int(index)]
        rows: Any = index if isinstance(index, slice) else np.asarray(index)
        if isinstance(rows, np.ndarray) and rows.size == 0 and rows.dtype != bool:
            rows = rows.astype(np.intp)
        return Faces(
            self.boxes[rows],
            self.scores[rows],
            None if self.landmarks is None else self.landmarks[rows],
            None if self.track_ids is None else self.track_ids[rows],
        )

    def __iter__(self) -> Iterator[Faces]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        columns = [name for name in ("landmarks", "track_ids") if getattr(self, name) is not None]
        return f"Faces({len(self)}{''.join(f', {name}' for name in columns)})"

    def scale(self, sx: float, sy: float) -> Faces:
        """The same faces in a picture resized by ``sx`` horizontally and ``sy`` vertically."""
        s = np.array([sx, sy], np.float32)
        return Faces(
            self.boxes * np.tile(s, 2),
            self.scores,
            None if self.landmarks is None else self.landmarks * s,
            self.track_ids,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists: ``{"boxes": …, "scores": …[, "landmarks": …][, "track_ids": …]}``."""
        columns = ("boxes", "scores", "landmarks", "track_ids")
        return {name: value.tolist() for name in columns if (value := getattr(self, name)) is not None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Faces:
        """Inverse of :meth:`to_dict`."""
        return cls(data["boxes"], data["scores"], data.get("landmarks"), data.get("track_ids"))

    def to_json(self, indent: int | None = None) -> str:
        """:meth:`to_dict` as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent)


def _column(value: ArrayLike, dtype: Any, tail: tuple[int, ...], name: str, n: int | None) -> NDArray[Any]:
    array = np.array(value, dtype)  # a copy: the caller's array must not change ours
    if array.size == 0:
        array = array.reshape(0, *tail)
    if array.shape[1:] != tail or array.ndim != 1 + len(tail) or (n is not None and len(array) != n):
        expected = ", ".join(str(d) for d in ("N" if n is None else n, *tail))
        raise ValueError(f"{name} must have shape ({expected}), not {array.shape}")
    array.setflags(write=False)
    return array
