"""Detections of many images, and the keys by which images are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.errors import AnnotationError
from facedet_mm.io.images import IMAGE_SUFFIXES

__all__ = ["Predictions", "image_key"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """N detections of M images in flat columns.

    Attributes:
        names: M image keys ``event/image`` without suffix, see :func:`image_key`.
        offsets: (M + 1,) int64; the rows of image ``i`` are ``offsets[i]:offsets[i + 1]``.
        boxes: (N, 4) floating point, x1 y1 x2 y2 in pixels.
        scores: (N,) floating point, in any range and any order.

    Example:
        >>> predictions = Predictions.from_images([("party/1.jpg", [[10, 10, 50, 60]], [0.9]), ("party/2.jpg", [], [])])
        >>> [(name, len(scores)) for name, boxes, scores in predictions]
        [('party/1', 1), ('party/2', 0)]
    """

    names: tuple[str, ...]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]

    @classmethod
    def from_images(cls, images: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> Predictions:
        """Joins the detections of several images.

        Args:
            images: Name (see :func:`image_key`), boxes (n, 4) x1 y1 x2 y2 in pixels and scores (n,) of each image.

        Raises:
            AnnotationError: An image comes twice, or a box or score is not a finite number.
            ValueError: The shapes of an image's boxes and scores do not agree.
        """
        names: list[str] = []
        boxes: list[NDArray[np.floating]] = [np.zeros((0, 4), np.float32)]
        scores: list[NDArray[np.floating]] = [np.zeros(0, np.float32)]
        for name, image_boxes, image_scores in images:
            image_boxes, image_scores = check_detections(name, image_boxes, image_scores)
            names.append(image_key(name))
            boxes.append(image_boxes)
            scores.append(image_scores)
        refuse_duplicates(names, names)
        offsets = np.cumsum([len(part) for part in scores], dtype=np.int64)
        return cls(tuple(names), offsets, np.concatenate(boxes), np.concatenate(scores))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.floating], NDArray[np.floating]]]:
        """Yields ``(name, boxes, scores)`` of each image."""
        for i, name in enumerate(self.names):
            rows = slice(self.offsets[i], self.offsets[i + 1])
            yield name, self.boxes[rows], self.scores[rows]


def image_key(path: str) -> str:
    """Returns the key ``event/image`` of an image or of its prediction file.

    It is the last folder and the file name, without ``.txt`` and without the suffix of an image. Files are named by it,
    so it never leads out of a folder.

    Raises:
        AnnotationError: The last folder is ``..``.

    Example:
        >>> image_key("WIDER_val/images/0--Parade/0_Parade_marchingband_1_465.jpg")
        '0--Parade/0_Parade_marchingband_1_465'
        >>> image_key("0--Parade/0_Parade_marchingband_1_465.jpg.txt")
        '0--Parade/0_Parade_marchingband_1_465'
    """
    event, _, name = path.replace("\\", "/").rpartition("/")
    event = event.rpartition("/")[2]
    if event == "..":
        raise AnnotationError(f"image {path!r}: the folder of an image must have a name, not ..")
    stem = f"{event}/{name}" if event else name
    if stem.lower().endswith(".txt"):
        stem = stem[:-4]
    root, dot, suffix = stem.rpartition(".")
    return root if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else stem


def refuse_duplicates(names: Sequence[str], sources: Sequence[str]) -> None:
    """Checks that no name comes twice.

    Args:
        names: Image keys.
        sources: Where each key comes from, for the error message.

    Raises:
        AnnotationError: A name comes twice.
    """
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            raise AnnotationError(f"image {name} comes twice: {sources[first[name]]} and {sources[i]}")


def check_detections(
    name: str, boxes: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Returns boxes (N, 4) and scores (N,) as floating-point arrays.

    Args:
        name: Image name used in error messages.
        boxes: (N, 4) x1 y1 x2 y2 in pixels.
        scores: (N,).

    Raises:
        AnnotationError: A box or score is not a finite number.
        ValueError: The shapes do not agree.
    """
    scores = _as_float(scores)
    boxes = _as_float(boxes)
    if boxes.size == 0 and scores.size == 0:
        boxes = boxes.reshape(0, 4)
    if scores.ndim != 1 or boxes.shape != (len(scores), 4):
        raise ValueError(f"{name}: boxes must be (N, 4) and scores (N,), not {boxes.shape} and {scores.shape}")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        row = int(np.argmin(np.isfinite(boxes).all(1) & np.isfinite(scores)))
        raise AnnotationError(f"{name}: detection {row} is not finite: {boxes[row].tolist()}, score {scores[row]}")
    return boxes, scores


def _as_float(values: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
