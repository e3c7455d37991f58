"""``Turn``: an image turned by any angle, or mirrored, and the way back for the faces found in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.imaging.rotation import Rotation
from facedet_mm.structures import Faces

_QUARTERS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
MIRRORED_LANDMARKS = np.array([1, 0, 2, 4, 3])
"""Order of the landmarks of a mirrored face: left and right change places."""


@dataclass(frozen=True)
class Turn:
    """A copy of an image, resized, perhaps mirrored, then turned around its center.

    Attributes:
        size: (width, height) of the resized image in pixels.
        degrees: Angle by which the copy is turned, counterclockwise.
        mirrored: Whether left and right are swapped before the turn.
    """

    size: tuple[int, int]
    degrees: float = 0.0
    mirrored: bool = False

    @cached_property
    def turned_size(self) -> tuple[int, int]:
        """(width, height) of the smallest image that holds the whole copy."""
        return self._rotation.canvas

    def apply(self, image: NDArray[np.uint8], padding: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Returns the copy of ``image``: uint8 BGR of :attr:`turned_size`, with ``padding`` in its corners."""
        if image.shape[1::-1] != self.size:
            image = np.asarray(cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR), np.uint8)
        if self.mirrored:
            image = np.asarray(cv2.flip(image, 1), np.uint8)
        quarters, rest = divmod(self.degrees % 360, 90)
        if rest:
            return self._rotation.image(image, padding)
        return np.asarray(cv2.rotate(image, _QUARTERS[int(quarters)]), np.uint8) if quarters else image

    def restore(self, faces: Faces) -> Faces:
        """Returns faces found in the copy at their places in the resized image.

        Boxes are those of :meth:`~facedet_mm.imaging.rotation.Rotation.boxes`, clipped to the image. A face in the
        copy's corners, outside of the image, is left out.

        Args:
            faces: Faces in pixels of the copy.
        """
        if not len(faces):
            return faces
        back = Rotation(self.turned_size, self.degrees, self.size)
        boxes = back.boxes(faces.boxes.astype(np.float64))
        landmarks = None if faces.landmarks is None else back.points(faces.landmarks)
        if self.mirrored:
            boxes[:, [0, 2]] = self.size[0] - boxes[:, [2, 0]]
            if landmarks is not None:
                landmarks = landmarks[:, MIRRORED_LANDMARKS]
                landmarks[..., 0] = self.size[0] - landmarks[..., 0]
        boxes = np.clip(boxes, 0, self.size * 2).astype(np.float32)
        inside = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        return Faces(boxes, faces.scores, landmarks)[inside]

    @cached_property
    def _rotation(self) -> Rotation:
        return Rotation(self.size, -self.degrees)
