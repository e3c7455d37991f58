"""``FaceBoxes``: boxes whose landmarks follow every transform that moves boxes the way MMDetection does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes
from numpy.typing import NDArray
from torch import Tensor

from facedet_mm.detectors.turns import MIRRORED_LANDMARKS
from facedet_mm.errors import TrainingError


class FaceBoxes(HorizontalBoxes):
    """Boxes with landmarks; for everything that does not know landmarks they are ``HorizontalBoxes``.

    MMDetection's transforms move, choose and join boxes by methods of their type. Here, landmarks do the same:
    mirroring swaps left and right, and clipping gives landmarks outside the image the weight 0.

    Args:
        data: (N, 4) x1 y1 x2 y2 in pixels.
        landmarks: (N, 5, 3) float32, x y in pixels and the weight, which is 0 where a face has no landmarks.
        **kwargs: Arguments of :class:`mmdet.structures.bbox.HorizontalBoxes`.

    Raises:
        TrainingError: A method was called that landmarks do not follow.
    """

    def __init__(self, data: Any, landmarks: NDArray[np.float32] | None = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        if landmarks is None:
            raise TrainingError(
                "a transform makes new boxes from those of faces, so their landmarks would be lost: take another one, "
                "or load no landmarks (LoadFaceAnnotations with with_keypoints=False)"
            )
        self.landmarks = landmarks

    @property
    def keypoints(self) -> NDArray[np.float32]:
        """A view of the landmarks, (N, 5, 2) float32, x y in pixels."""
        return self.landmarks[..., :2]

    @property
    def keypoints_visible(self) -> NDArray[np.float32]:
        """A view of the weights of the landmarks, (N, 5) float32."""
        return self.landmarks[..., 2]

    def __getitem__(self, index: Any) -> FaceBoxes:
        """Returns the chosen faces."""
        boxes = HorizontalBoxes(self.tensor, clone=False)[index].tensor
        landmarks = self.landmarks[np.asarray(index) if isinstance(index, Tensor) else index]
        return FaceBoxes(boxes, landmarks.reshape(-1, *self.landmarks.shape[1:]), clone=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> FaceBoxes:
        """Returns a copy."""
        memo[id(self)] = copy = self.clone()
        return copy

    def clone(self) -> FaceBoxes:
        """Returns a copy."""
        return FaceBoxes(self.tensor, self.landmarks.copy())

    @classmethod
    def cat(cls, box_list: Sequence[BaseBoxes], dim: int = 0) -> FaceBoxes:
        """Joins faces; all must have landmarks."""
        if dim != 0 or not all(isinstance(boxes, FaceBoxes) for boxes in box_list):
            raise TrainingError(
                "faces with landmarks are joined with faces without: use the same LoadFaceAnnotations for all images"
            )
        landmarks = np.concatenate([boxes.landmarks for boxes in box_list])
        return cls(torch.cat([boxes.tensor for boxes in box_list]), landmarks, clone=False)

    def convert_to(self, dst_type: str | type) -> BaseBoxes:
        """Returns plain boxes of another type."""
        return HorizontalBoxes(self.tensor, clone=False).convert_to(dst_type)

    def flip_(self, img_shape: tuple[int, int], direction: str = "horizontal") -> None:
        """Mirrors in an image of height and width ``img_shape``; ``'diagonal'`` turns by 180°."""
        super().flip_(img_shape, direction)
        self.landmarks = self.landmarks.copy()
        if direction != "vertical":
            self.landmarks[..., 0] = img_shape[1] - self.landmarks[..., 0]
        if direction != "horizontal":
            self.landmarks[..., 1] = img_shape[0] - self.landmarks[..., 1]
        if direction != "diagonal":
            self._swap_sides()

    def translate_(self, distances: Sequence[float]) -> None:
        """Moves by distances along x and y, in pixels."""
        super().translate_(distances)
        self.landmarks = self.landmarks + np.array([*distances, 0], np.float32)

    def rescale_(self, scale_factor: Sequence[float]) -> None:
        """Scales together with the image, by factors for x and y."""
        super().rescale_(scale_factor)
        self.landmarks = self.landmarks * np.array([*scale_factor, 1], np.float32)

    def project_(self, homography_matrix: Any) -> None:
        """Moves by a homography (3, 3) of pixel coordinates; the boxes become those around the moved corners."""
        super().project_(homography_matrix)
        matrix = np.asarray(homography_matrix, np.float64)
        moved = self.keypoints @ matrix[:, :2].T + matrix[:, 2]
        self.landmarks = self.landmarks.copy()
        self.landmarks[..., :2] = moved[..., :2] / moved[..., 2:]
        if np.linalg.det(matrix[:2, :2]) < 0:
            self._swap_sides()

    def rotate_(self, center: tuple[float, float], angle: float) -> None:
        """Turns by an angle in degrees, clockwise."""
        self.project_(np.vstack([cv2.getRotationMatrix2D(center, -angle, 1), [0, 0, 1]]))

    def clip_(self, img_shape: tuple[int, int]) -> None:
        """Clips the boxes to an image of height and width ``img_shape``; landmarks outside get the weight 0."""
        super().clip_(img_shape)
        inside = ((self.keypoints >= 0) & (self.keypoints <= (img_shape[1], img_shape[0]))).all(-1)
        self.landmarks = self.landmarks.copy()
        self.landmarks[..., 2] *= inside

    def _swap_sides(self) -> None:
        self.landmarks = self.landmarks[:, MIRRORED_LANDMARKS]
