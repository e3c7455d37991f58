"""``FaceAttributes``: pose, sharpness, brightness and size of faces, measured without a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.imaging.alignment import pixel_boxes
from facedet_mm.imaging.pose import head_poses
from facedet_mm.io.images import as_bgr

__all__ = ["ATTRIBUTE_NAMES", "FaceAttributes", "face_attributes"]

ATTRIBUTE_NAMES = ("roll", "pitch", "yaw", "sharpness", "brightness", "size", "cut")
"""The columns of :class:`FaceAttributes`, in their order."""

_DIGITS = {"roll": 1, "pitch": 1, "yaw": 1, "sharpness": 3, "brightness": 3, "size": 1}
_CENTER = 0.7
"""Share of a box's sides within which sharpness and brightness are measured, so that little background counts."""
_SIDE = 64
"""Side in pixels to which larger faces are reduced before their sharpness is measured."""
_SIGMA = 1.0
"""Blur, in pixels of the reduced face, at which the sharpness is one half."""
_NEAR = 0.02
"""Distance from the border, as a share of the face's size, within which a box counts as cut."""


@dataclass(frozen=True, eq=False)
class FaceAttributes:
    """What N faces of one image look like, as immutable columns.

    Indexing with a slice, an index array or a mask returns :class:`FaceAttributes`.

    Attributes:
        roll: (N,) float32 degrees, −180 to 180, clockwise as seen in the image; ``None`` without landmarks. See
            :func:`~facedet_mm.imaging.pose.head_poses`, also for what is NaN.
        pitch: (N,) float32 degrees, positive when the upright face looks up; ``None`` without landmarks.
        yaw: (N,) float32 degrees, positive when it looks to the right edge of the image; ``None`` without landmarks.
        sharpness: (N,) float32, from 0 to 1: see :func:`face_attributes`. A face as sharp as its pixels allow has 0.85
            to 1 at any size; one blurred with a sigma of 2 % of its side has 0.5. 0 for a face without contrast.
        brightness: (N,) float32, mean gray level from 0 (black) to 1 (white).
        size: (N,) float32, square root of the area of the box, in pixels.
        cut: (N,) bool, whether the border of the image cuts the face.

    Example:
        >>> from facedet_mm import Faces
        >>> attributes = Faces([[0, 5, 30, 45]], [0.9]).attributes(np.full((50, 60, 3), 51, np.uint8))
        >>> attributes.to_dict()
        {'sharpness': [0.0], 'brightness': [0.2], 'size': [34.6], 'cut': [True]}
    """

    roll: NDArray[np.float32] | None
    pitch: NDArray[np.float32] | None
    yaw: NDArray[np.float32] | None
    sharpness: NDArray[np.float32]
    brightness: NDArray[np.float32]
    size: NDArray[np.float32]
    cut: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for column in fields(self):
            values = getattr(self, column.name)
            if values is not None:
                values = np.array(values, bool if column.name == "cut" else np.float32)
                values.setflags(write=False)
                object.__setattr__(self, column.name, values)

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, rows: slice | ArrayLike) -> FaceAttributes:
        """Returns the attributes of the faces at ``rows``: a slice, an index array or a boolean mask."""
        index: Any = rows if isinstance(rows, slice) else np.asarray(rows)
        columns = {name: getattr(self, name) for name in ATTRIBUTE_NAMES}
        return replace(self, **{name: column[index] for name, column in columns.items() if column is not None})

    def __reduce__(self) -> tuple[type[FaceAttributes], tuple[Any, ...]]:
        """Pickles the columns, so that they are read-only again after unpickling and copying."""
        return FaceAttributes, tuple(getattr(self, name) for name in ATTRIBUTE_NAMES)

    def to_dict(self) -> dict[str, list[Any]]:
        """Returns plain lists, rounded; ``None`` stands for NaN, and columns that are ``None`` are left out."""
        lists = {}
        for name in ATTRIBUTE_NAMES:
            column = getattr(self, name)
            if column is not None and name in _DIGITS:
                rounded = (column.astype(np.float64).round(_DIGITS[name]) + 0.0).tolist()  # not -0
                lists[name] = [value if math.isfinite(value) else None for value in rounded]
            elif column is not None:
                lists[name] = column.tolist()
        return lists


def face_attributes(image: NDArray[np.uint8], boxes: ArrayLike, landmarks: ArrayLike | None = None) -> FaceAttributes:
    """Returns pose, sharpness, brightness and size of faces; ``Faces.attributes`` calls this.

    Sharpness and brightness are measured in the gray levels of the middle of the box. A face that is larger than 64
    pixels is reduced to 64 first, so that a blur counts relative to the face; a smaller one is measured in its own
    pixels. With E the energy of the gradient and E' that after one more blur of sigma 1, sharpness is 1 − (E'/E)²: for
    edges whose blur has the sigma s this is about 1 / (1 + s²), whatever the contrast. Noise counts as detail.

    Args:
        image: The image that contains the faces: uint8 BGR (H, W, 3), gray or BGRA.
        boxes: (N, 4), x1 y1 x2 y2 in pixels of ``image``.
        landmarks: (N, 5, 2), x y in pixels of ``image``; ``None`` if there are none.

    Raises:
        ImageError: ``image`` is not a uint8 image.

    Example:
        >>> edge = np.repeat(np.uint8([[0, 255]]), 64, axis=1).repeat(128, axis=0)
        >>> faces = [face_attributes(image, [[0, 0, 128, 128]]) for image in (edge, cv2.blur(edge, (9, 9)))]
        >>> [bool(face.sharpness[0] > 0.5) for face in faces]
        [True, False]
    """
    image = as_bgr(image)
    height, width = image.shape[:2]
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    low, high = corners[:, :2], corners[:, 2:]
    size = np.sqrt(np.maximum(high - low, 0).prod(axis=1))
    margin = (1 - _CENTER) / 2 * (high - low)
    inner = pixel_boxes(np.hstack([low + margin, high - margin]), width, height).tolist()
    measured = [
        _sharpness_and_brightness(image[y1:y2, x1:x2], side) for (x1, y1, x2, y2), side in zip(inner, size, strict=True)
    ]
    sharpness, brightness = np.array(measured, np.float32).reshape(-1, 2).T
    near = np.maximum(1, _NEAR * size)[:, None]
    cut = ((low < near) | (high > [width, height] - near)).any(axis=1)
    roll = pitch = yaw = None
    if landmarks is not None:
        roll, pitch, yaw = head_poses(landmarks).T
    return FaceAttributes(roll, pitch, yaw, sharpness, brightness, size.astype(np.float32), cut)


def _sharpness_and_brightness(pixels: NDArray[np.uint8], size: float) -> tuple[float, float]:
    if not pixels.size:
        return 0.0, 0.0
    gray: Any = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(np.float32)
    brightness = float(gray.mean()) / 255
    if size > _SIDE:
        height, width = (max(1, round(side * _SIDE / size)) for side in gray.shape)
        gray = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    energy = _gradient_energy(gray)
    blurred = _gradient_energy(cv2.GaussianBlur(gray, (0, 0), _SIGMA, borderType=cv2.BORDER_REFLECT))
    return (1 - min(1.0, blurred / energy) ** 2 if energy > 0 else 0.0), brightness


def _gradient_energy(gray: NDArray[np.float32]) -> float:
    return float((np.diff(gray, axis=0) ** 2).sum() + (np.diff(gray, axis=1) ** 2).sum())
