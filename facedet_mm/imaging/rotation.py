"""Turning an image with its boxes and landmarks, by any angle."""

from __future__ import annotations

import math
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)


class Rotation:
    """A turn about the center of an image, clockwise as seen.

    Coordinates are pixels from the image's upper left corner, not from the center of its first pixel. Landmarks keep
    their order: the left eye of a face that is upside down is on the right of the image.

    Args:
        size: Width and height of the image in pixels.
        degrees: Angle, from the x axis toward the y axis.
        canvas: Width and height of the result, whose center is that of the image; ``None`` holds the whole image.

    Example:
        >>> turn = Rotation((60, 40), 90)
        >>> turn.canvas, turn.boxes(np.array([[2.0, 0, 20, 30]])).round(6).tolist()
        ((40, 60), [[10.0, 2.0, 40.0, 20.0]])
    """

    def __init__(self, size: tuple[int, int], degrees: float, canvas: tuple[int, int] | None = None) -> None:
        angle = math.radians(degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        if degrees % 90 == 0:
            cos, sin = round(cos), round(sin)
        around = np.abs([[cos, sin], [sin, cos]]) @ size
        width, height = np.ceil(around - 1e-6).astype(int).tolist()  # 1e-6: rounding must not add a pixel
        self.canvas = canvas or (width, height)
        self._matrix = np.array([[cos, -sin], [sin, cos]], np.float64)
        self._shift = np.array(self.canvas) / 2 - self._matrix @ size / 2

    def points(self, points: NDArray[F]) -> NDArray[F]:
        """Returns points (..., 2) x y at their new places."""
        turned: NDArray[F] = (points @ self._matrix.T + self._shift).astype(points.dtype)
        return turned

    def boxes(self, boxes: NDArray[F]) -> NDArray[F]:
        """Returns boxes (N, 4) x1 y1 x2 y2 around the turned faces.

        A face is taken for the ellipse in its box, so the new box is the tight one of the turned ellipse: its half
        width is √((w/2 · cos)² + (h/2 · sin)²). The box of the turned corners would be up to twice as large.
        """
        centers = self.points((boxes[:, :2] + boxes[:, 2:]) / 2)
        halves = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (self._matrix**2).T)
        turned: NDArray[F] = np.concatenate([centers - halves, centers + halves], axis=1).astype(boxes.dtype)
        return turned

    def image(self, image: NDArray[np.uint8], fill: int | tuple[int, int, int] = 128) -> NDArray[np.uint8]:
        """Returns the turned image (bilinear; quarter turns are exact), with ``fill`` where there is none.

        Args:
            image: (H, W, 3) uint8 of the size that the object was made for; it is not modified.
            fill: Gray value or BGR outside the image.
        """
        shift = self._shift + self._matrix @ [0.5, 0.5] - 0.5  # OpenCV counts from the center of the first pixel
        matrix = np.column_stack([self._matrix, shift])
        return np.asarray(
            cv2.warpAffine(image, matrix, self.canvas, borderValue=np.broadcast_to(fill, 3).tolist()), np.uint8
        )
