"""``Faces``: the value that detectors return and that trackers, drawing and file formats take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.system.dependencies import missing_dependency

if TYPE_CHECKING:
    import supervision

    from facedet_mm.imaging import FaceAttributes

__all__ = ["LANDMARK_NAMES", "Faces"]

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Order of the five landmarks, left and right as seen in the image."""


_COLUMNS = ("boxes", "scores", "landmarks", "track_ids")
_SHOWN = 3
"""Number of faces that ``repr`` lists."""
_COCO_VISIBLE = 2
"""COCO's visibility flag of a keypoint that is labeled and visible."""


@dataclass(frozen=True, eq=False)
class Faces:
    """N faces of one image, as immutable columns.

    Indexing returns :class:`Faces`: one face for an int, several for a slice, an index array or a mask. Iterating
    returns them one by one. Two values are equal if they have the same columns with the same numbers; like arrays,
    faces can't be hashed.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the image.
        scores: (N,) float32 in [0, 1].
        landmarks: (N, 5, 2) float32, x y in pixels, in the order of :data:`LANDMARK_NAMES`; ``None`` when
            the model predicts none.
        track_ids: (N,) int64, −1 for a face that belongs to no track; ``None`` without tracking.

    Raises:
        ValueError: The shapes do not agree.

    Example:
        >>> faces = Faces(boxes=[[10, 20, 30, 50], [0, 0, 8, 8]], scores=[0.9, 0.3])
        >>> len(faces), faces[faces.scores > 0.5].boxes.tolist()
        (2, [[10.0, 20.0, 30.0, 50.0]])
        >>> faces[0]
        Faces(n=1, boxes=[[10, 20, 30, 50]], scores=[0.9])
        >>> faces[0] == faces[:1]
        True
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
        """Returns no faces; with ``landmarks`` the landmark column exists and is empty.

        Example:
            >>> Faces.empty(landmarks=True).landmarks.shape
            (0, 5, 2)
        """
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)) if landmarks else None)

    @classmethod
    def concatenate(cls, parts: Sequence[Faces]) -> Faces:
        """Joins faces of one image; an optional column is kept only if all parts have it.

        Example:
            >>> Faces.concatenate([Faces([[0, 0, 8, 8]], [0.3]), Faces([[1, 1, 9, 9]], [0.7])]).boxes.tolist()
            [[0.0, 0.0, 8.0, 8.0], [1.0, 1.0, 9.0, 9.0]]
        """
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
        """Returns the faces at ``index``: an int (one face), a slice, an index array or a boolean mask."""
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Faces):
            return NotImplemented
        return all(_equal(getattr(self, name), getattr(other, name)) for name in _COLUMNS)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Faces], tuple[Any, ...]]:
        """Pickles the columns, so that they are read-only again after unpickling and copying."""
        return Faces, tuple(getattr(self, name) for name in _COLUMNS)

    def __repr__(self) -> str:
        columns = [f"boxes={_shown(self.boxes, 1)}", f"scores={_shown(self.scores, 3)}"]
        if self.landmarks is not None:
            columns.append("landmarks=(5 per face)")
        if self.track_ids is not None:
            columns.append(f"track_ids={_shown(self.track_ids, 0)}")
        return f"Faces(n={len(self)}, {', '.join(columns)})"

    def scale(self, sx: float, sy: float) -> Faces:
        """Returns the same faces in an image resized by ``sx`` horizontally and ``sy`` vertically.

        Example:
            >>> Faces([[10, 20, 30, 50]], [0.9]).scale(2, 0.5).boxes.tolist()
            [[20.0, 10.0, 60.0, 25.0]]
        """
        s = np.array([sx, sy], np.float32)
        return Faces(
            self.boxes * np.tile(s, 2),
            self.scores,
            None if self.landmarks is None else self.landmarks * s,
            self.track_ids,
        )

    def crop(self, image: NDArray[np.uint8], margin: float = 0.0) -> list[NDArray[np.uint8]]:
        """Returns a copy of the pixels of each face, clipped at the image's edges.

        Args:
            image: The image that contains the faces: uint8 BGR (H, W, 3), gray or BGRA.
            margin: Margin added on each side, as a fraction of the box's width and height.

        Returns:
            N images, (h, w, 3) uint8, BGR; of shape (0, 0, 3) for a box without area in the image.

        Raises:
            ImageError: ``image`` is not a uint8 image.
            FaceDetError: ``margin`` is negative or not finite.

        Example:
            >>> image = np.zeros((100, 100, 3), np.uint8)
            >>> [crop.shape for crop in Faces([[10, 10, 30, 50]], [0.9]).crop(image, margin=0.25)]
            [(60, 30, 3)]
        """
        from facedet_mm.imaging import crop_faces

        return crop_faces(image, self.boxes, margin)

    def align(self, image: NDArray[np.uint8], size: int = 112) -> NDArray[np.uint8]:
        """Returns crops with eyes, nose and mouth where face recognition models expect them (ArcFace's five points).

        Args:
            image: The image that contains the faces: uint8 BGR (H, W, 3), gray or BGRA.
            size: Side of the crops in pixels.

        Returns:
            (N, size, size, 3) uint8, BGR; black outside the image.

        Raises:
            ImageError: ``image`` is not a uint8 image.
            FaceDetError: The faces have no landmarks, or ``size`` is not an integer from 1 to 8192.

        Example:
            >>> image = np.full((100, 100, 3), 128, np.uint8)
            >>> points = [[40, 40], [60, 40], [50, 50], [42, 62], [58, 62]]
            >>> Faces([[30, 20, 70, 80]], [0.9], [points]).align(image).shape
            (1, 112, 112, 3)
        """
        from facedet_mm.imaging import align_faces

        landmarks = self.landmarks
        if landmarks is None:
            if len(self):
                raise FaceDetError("aligning needs landmarks; facedet models list shows which models predict them")
            landmarks = np.zeros((0, len(LANDMARK_NAMES), 2), np.float32)
        return align_faces(image, landmarks, size)

    def attributes(self, image: NDArray[np.uint8]) -> FaceAttributes:
        """Returns pose, sharpness, brightness, size of the faces, and whether the border of the image cuts them.

        Args:
            image: The image that contains the faces: uint8 BGR (H, W, 3), gray or BGRA.

        Raises:
            ImageError: ``image`` is not a uint8 image.

        Example:
            >>> Faces([[0, 5, 30, 45]], [0.9]).attributes(np.full((50, 60, 3), 51, np.uint8)).cut.tolist()
            [True]
        """
        from facedet_mm.imaging import face_attributes

        return face_attributes(image, self.boxes, self.landmarks)

    @property
    def roll(self) -> NDArray[np.float32] | None:
        """(N,) float32 degrees clockwise, −180 to 180, that :meth:`align` undoes; ``None`` without landmarks."""
        from facedet_mm.imaging import roll_angles

        return None if self.landmarks is None else roll_angles(self.landmarks)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists: ``{"boxes": …, "scores": …[, "landmarks": …][, "track_ids": …]}``.

        Example:
            >>> Faces([[10, 20, 30, 50]], [0.5]).to_dict()
            {'boxes': [[10.0, 20.0, 30.0, 50.0]], 'scores': [0.5]}
        """
        return {name: value.tolist() for name in _COLUMNS if (value := getattr(self, name)) is not None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Faces:
        """Returns the faces of a dict that :meth:`to_dict` made.

        Raises:
            ValueError: Columns are missing, do not agree or hold numbers that are not finite.

        Example:
            >>> Faces.from_dict({"boxes": [[10, 20, 30, 50]], "scores": [0.5]})
            Faces(n=1, boxes=[[10, 20, 30, 50]], scores=[0.5])
        """
        if missing := {"boxes", "scores"} - set(data):
            raise ValueError(f"faces need {' and '.join(sorted(missing))}; there are {sorted(data)}")
        faces = cls(data["boxes"], data["scores"], data.get("landmarks"), data.get("track_ids"))
        for name in ("boxes", "scores", "landmarks"):
            column = getattr(faces, name)
            if column is not None and not np.isfinite(column).all():
                raise ValueError(f"{name} must be finite numbers")
        return faces

    def to_json(self, indent: int | None = None) -> str:
        """Returns :meth:`to_dict` as JSON text.

        Example:
            >>> Faces([[10, 20, 30, 50]], [0.5]).to_json()
            '{"boxes": [[10.0, 20.0, 30.0, 50.0]], "scores": [0.5]}'
        """
        return json.dumps(self.to_dict(), indent=indent)

    def to_coco(self, image_id: int, first_id: int = 1) -> list[dict[str, Any]]:
        """Returns one COCO dict per face, valid as a detection result and as an annotation.

        Args:
            image_id: ID of the image in the COCO file.
            first_id: ID of the first face; the following IDs count up from there.

        Returns:
            Dicts with ``id``, ``image_id``, ``category_id`` 1, ``iscrowd`` 0, ``bbox`` (x y width height in
            pixels), ``area``, ``score``; with landmarks ``keypoints`` (x, y, 2 for each of
            :data:`LANDMARK_NAMES`) and ``num_keypoints``; with tracks ``track_id``.

        Example:
            >>> Faces([[10, 20, 30, 50]], [0.9]).to_coco(image_id=7)[0]["bbox"]
            [10.0, 20.0, 20.0, 30.0]
        """
        corners = self.boxes.astype(np.float64)
        boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        columns: dict[str, list[Any]] = {
            "bbox": boxes.round(2).tolist(),
            "area": (boxes[:, 2] * boxes[:, 3]).round(2).tolist(),
            "score": self.scores.astype(np.float64).round(6).tolist(),
        }
        if self.landmarks is not None:
            points = np.full((len(self), len(LANDMARK_NAMES), 3), _COCO_VISIBLE, np.float64)
            points[..., :2] = self.landmarks.astype(np.float64).round(2)
            columns["keypoints"] = points.reshape(len(self), 3 * len(LANDMARK_NAMES)).tolist()
            columns["num_keypoints"] = [len(LANDMARK_NAMES)] * len(self)
        if self.track_ids is not None:
            columns["track_id"] = self.track_ids.tolist()
        common = {"image_id": image_id, "category_id": 1, "iscrowd": 0}
        rows = zip(*columns.values(), strict=True)
        return [{"id": i, **common, **dict(zip(columns, row, strict=True))} for i, row in enumerate(rows, first_id)]

    def to_supervision(self) -> supervision.Detections:
        """Returns the faces as ``supervision.Detections``, for its annotators, zones and counters.

        ``track_ids`` become ``tracker_id``, landmarks ``data["landmarks"]``; the class is 0, ``face``.

        Raises:
            MissingDependencyError: The package ``supervision`` is not installed.

        Example:
            >>> detections = Faces([[10, 20, 30, 50]], [0.5]).to_supervision()
            >>> detections.xyxy.tolist()
            [[10.0, 20.0, 30.0, 50.0]]
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise missing_dependency("to_supervision needs supervision", "supervision", error) from error
        data: dict[str, Any] = {"class_name": np.full(len(self), "face")}
        if self.landmarks is not None:
            data["landmarks"] = self.landmarks.copy()
        return Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=np.zeros(len(self), int),
            tracker_id=None if self.track_ids is None else self.track_ids.copy(),
            data=data,
        )

    @classmethod
    def from_supervision(cls, detections: supervision.Detections) -> Faces:
        """Returns the faces of ``supervision.Detections``; those without ``confidence`` get the score 1.

        Raises:
            ValueError: ``data["landmarks"]`` is not (N, 5, 2).

        Example:
            >>> detections = Faces([[10, 20, 30, 50]], [0.5]).to_supervision()
            >>> Faces.from_supervision(detections[detections.confidence > 0.4])
            Faces(n=1, boxes=[[10, 20, 30, 50]], scores=[0.5])
        """
        boxes, scores = detections.xyxy, detections.confidence
        return cls(
            boxes,
            np.ones(len(boxes)) if scores is None else scores,
            detections.data.get("landmarks"),
            detections.tracker_id,
        )


def _column(value: ArrayLike, dtype: Any, tail: tuple[int, ...], name: str, n: int | None) -> NDArray[Any]:
    array = np.array(value, dtype)  # a copy, so that changes of the caller's array do not reach it
    if array.size == 0:
        array = array.reshape(0, *tail)
    if array.shape[1:] != tail or array.ndim != 1 + len(tail) or (n is not None and len(array) != n):
        expected = ", ".join(str(d) for d in ("N" if n is None else n, *tail))
        raise ValueError(f"{name} must have shape ({expected}), not {array.shape}")
    array.setflags(write=False)
    return array


def _equal(first: NDArray[Any] | None, second: NDArray[Any] | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def _shown(column: NDArray[Any], digits: int) -> str:
    """Returns the first rows of a column, rounded and without trailing zeros."""

    def text(row: NDArray[Any]) -> str:
        if row.ndim:
            return f"[{', '.join(map(text, row))}]"
        return f"{row:.{digits}f}".rstrip("0").rstrip(".") if digits else str(row)

    more = ["…"] if len(column) > _SHOWN else []
    return f"[{', '.join([*map(text, column[:_SHOWN]), *more])}]"
