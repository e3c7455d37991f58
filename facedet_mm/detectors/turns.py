"""``Turn``: an image turned by any angle, or mirrored, and the way back for the faces found in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.structures import Faces

_QUARTERS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
_MIRRORED_LANDMARKS = np.array([1, 0, 2, 4, 3])
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
        width, height = np.abs(self._rotation()) @ self.size
        return math.ceil(width - 1e-6), math.ceil(height - 1e-6)

    def apply(self, image: NDArray[np.uint8], padding: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Returns the copy of ``image``: uint8 BGR of :attr:`turned_size`, with ``padding`` in its corners."""
        if image.shape[1::-1] != self.size:
            image = np.asarray(cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR), np.uint8)
        if self.mirrored:
            image = np.asarray(cv2.flip(image, 1), np.uint8)
        quarters, rest = divmod(self.degrees % 360, 90)
        if rest:
            matrix = self._matrix.copy()
            matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5  # OpenCV counts from the center of the first pixel
            return np.asarray(cv2.warpAffine(image, matrix, self.turned_size, borderValue=padding), np.uint8)
        return np.asarray(cv2.rotate(image, _QUARTERS[int(quarters)]), np.uint8) if quarters else image

    def restore(self, faces: Faces) -> Faces:
        """Returns faces found in the copy at their places in the resized image.

        The box of a turned face is the upright box around the ellipse that its box in the copy holds, clipped to the
        image: exact for quarter turns, and tight around a head for any other angle. A face in the copy's corners,
        outside of the image, is left out.

        Args:
            faces: Faces in pixels of the copy.
        """
        if not len(faces):
            return faces
        matrix = self._matrix
        inverse = matrix[:, :2].T
        center = ((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 - matrix[:, 2]) @ inverse.T
        half = np.sqrt((((faces.boxes[:, 2:] - faces.boxes[:, :2]) / 2) ** 2) @ (inverse**2).T)
        landmarks = faces.landmarks
        if landmarks is not None:
            landmarks = ((landmarks - matrix[:, 2]) @ inverse.T).astype(np.float32)
        if self.mirrored:
            center[:, 0] = self.size[0] - center[:, 0]
            if landmarks is not None:
                landmarks = landmarks[:, _MIRRORED_LANDMARKS]
                landmarks[..., 0] = self.size[0] - landmarks[..., 0]
        boxes = np.clip(np.hstack([center - half, center + half]), 0, self.size * 2).astype(np.float32)
        inside = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        return Faces(boxes, faces.scores, landmarks)[inside]

    def _rotation(self) -> NDArray[np.float64]:
        """Returns (2, 2): the turn in coordinates whose y axis points down; exact for quarter turns."""
        angle = math.radians(self.degrees)
        sine, cosine = math.sin(angle), math.cos(angle)
        if self.degrees % 90 == 0:
            sine, cosine = round(sine), round(cosine)
        return np.array([[cosine, sine], [-sine, cosine]], np.float64)

    @cached_property
    def _matrix(self) -> NDArray[np.float64]:
        """Returns (2, 3): from points of the resized, mirrored image to points of the copy, both counted in pixels
        from the top left corner."""
        rotation = self._rotation()
        shift = np.array(self.turned_size) / 2 - rotation @ (np.array(self.size) / 2)
        return np.hstack([rotation, shift[:, None]])
