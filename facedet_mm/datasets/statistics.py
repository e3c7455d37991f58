"""Numbers of a data set: images, faces, landmarks, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.records import FaceData

INPUT_SIDE = 640
"""Side of the input of the published models in pixels, to which sizes are also given."""
_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Numbers of a data set.

    Attributes:
        images: Number of images.
        empty_images: Number of images without a face that counts.
        faces: Number of faces that count.
        ignored: Number of faces to ignore.
        with_landmarks: Number of faces that count and have landmarks.
        per_image: (M,) int64, faces that count per image.
        image_sizes: (M, 2) int64, width and height in pixels.
        face_sizes: (F,) float64, √(width × height) in pixels, of the faces that count.
        fitted_sizes: (F,) float64, the same when the image is fitted into :data:`INPUT_SIDE` pixels.
    """

    images: int
    empty_images: int
    faces: int
    ignored: int
    with_landmarks: int
    per_image: NDArray[np.int64]
    image_sizes: NDArray[np.int64]
    face_sizes: NDArray[np.float64]
    fitted_sizes: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Returns counts, and percentiles 0, 5, 25, 50, 75, 95 and 100 of the sizes, as plain values."""
        return {
            "images": self.images,
            "images_without_faces": self.empty_images,
            "faces": self.faces,
            "ignored_faces": self.ignored,
            "faces_with_landmarks": self.with_landmarks,
            "percentiles": list(_PERCENTILES),
            "faces_per_image": percentiles(self.per_image),
            "image_width": percentiles(self.image_sizes[:, 0]),
            "image_height": percentiles(self.image_sizes[:, 1]),
            "face_size": percentiles(self.face_sizes),
            f"face_size_at_{INPUT_SIDE}": percentiles(self.fitted_sizes),
        }


def percentiles(values: NDArray[Any]) -> list[float]:
    """Returns the percentiles 0, 5, 25, 50, 75, 95 and 100, rounded to 0.01; none of an empty array."""
    if not len(values):
        return []
    rounded: list[float] = np.percentile(values, _PERCENTILES).round(2).tolist()
    return rounded


def measure(data: FaceData, sizes: Sequence[tuple[int, int]]) -> Statistics:
    """Returns the numbers of a data set.

    Args:
        data: The data set.
        sizes: Width and height of each image in pixels.

    Example:
        >>> from facedet_mm.datasets.records import ImageAnnotation, Place
        >>> faces = np.array([[0, 0, 30, 30], [0, 0, 40, 90]], np.float32)
        >>> image = ImageAnnotation("a.jpg", faces, np.array([False, False]))
        >>> measure(FaceData("coco", [image], [Place("a.json", "annotations")]), [(1280, 720)]).fitted_sizes.tolist()
        [15.0, 30.0]
    """
    counted = [~image.ignore for image in data.images]
    sides = [np.sqrt(np.prod(i.boxes[c, 2:] - i.boxes[c, :2], axis=1, dtype=np.float64)) for i, c in _pairs(data)]
    scales = [min(INPUT_SIDE / max(size), np.inf) for size in sizes]
    landmarks = sum(int(i.landmark_weights[c].any(1).sum()) for i, c in _pairs(data) if i.landmark_weights is not None)
    per_image = np.array([int(c.sum()) for c in counted], np.int64)
    none = [np.zeros(0)]
    return Statistics(
        images=len(data.images),
        empty_images=int((per_image == 0).sum()),
        faces=int(per_image.sum()),
        ignored=sum(len(c) for c in counted) - int(per_image.sum()),
        with_landmarks=landmarks,
        per_image=per_image,
        image_sizes=np.array(sizes, np.int64).reshape(-1, 2),
        face_sizes=np.concatenate(none + sides),
        fitted_sizes=np.concatenate(none + [s * scale for s, scale in zip(sides, scales, strict=True)]),
    )


def _pairs(data: FaceData) -> list[tuple[Any, NDArray[np.bool_]]]:
    return [(image, ~image.ignore) for image in data.images]
