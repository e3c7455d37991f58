"""Geometric transforms: square crop, resize, flip and rotation."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.image.geometric import rescale_size
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import avoid_cache_randomness
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type
from numpy.typing import NDArray

from facedet_mm.detectors.views import CLOSE_UP_SIDE, ViewPlan
from facedet_mm.imaging.augmentation import crop_square
from facedet_mm.imaging.rotation import Rotation
from facedet_mm.plugin.datasets.transforms.face_boxes import FaceBoxes


@TRANSFORMS.register_module()
@avoid_cache_randomness
class RandomSquareCrop(BaseTransform):
    """Crops a random square that contains at least one face and resizes it.

    The side is a random scale × the short side of the image. Along an axis where the image is longer than the square,
    the square lies anywhere inside it. Where the image is shorter, the square lies anywhere around it, aligned to whole
    pixels of the result, and the area outside the image is gray. Up to ``attempts`` positions are tried until the
    center of a face that counts is inside; after that the square is placed around a random face. An image without such
    a face is cropped anywhere. Faces whose center is outside the square are dropped; boxes are not clipped. Scales
    above 1 are the sample redistribution of the SCRFD paper (arXiv 2105.04714).

    Args:
        scales: Scales to choose from, relative to the short side.
        size: Side of the result in pixels; ``None`` keeps the size of the square.
        fill: Gray value outside the image.
        attempts: Number of positions to try.

    Raises:
        ValueError: ``scales`` is empty, or a scale, ``size`` or ``attempts`` is not positive.
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0),
        size: int | None = 640,
        fill: int = 128,
        attempts: int = 250,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be one or more positive numbers, not {scales!r}")
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1 pixel, or None, not {size}")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts}")
        self.scales = tuple(scales)
        self.size = size
        self.fill = fill
        self.attempts = attempts

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crops ``img``, ``gt_bboxes`` and all other annotations of the faces."""
        boxes = results["gt_bboxes"].numpy()
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        start, side = self._choose_square(results["img"].shape[1::-1], centers[~results["gt_ignore_flags"]])
        size = self.size or side
        factor = size / side

        kept = _inside(centers, start, side)
        _keep(results, kept)
        results["gt_bboxes"].translate_([-start[0], -start[1]])
        results["gt_bboxes"].rescale_([factor, factor])

        results["img"] = crop_square(results["img"], *start, side, size, self.fill)
        results["img_shape"] = (size, size)
        results["scale_factor"] = (factor, factor)
        return results

    def _choose_square(
        self, image_size: tuple[int, int], centers: NDArray[np.float32]
    ) -> tuple[tuple[float, float], int]:
        """Returns left and top of the square, and its side, in pixels of the image."""
        width, height = image_size
        side = max(1, int(random.choice(self.scales) * min(width, height)))
        pitch = side / (self.size or side)
        for _ in range(self.attempts):
            start = _random_start(width, side, pitch), _random_start(height, side, pitch)
            if not len(centers) or _inside(centers, start, side).any():
                return start, side
        x, y = random.choice(centers.tolist())
        return (_start_around(x, width, side, start[0]), _start_around(y, height, side, start[1])), side

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(scales={self.scales}, size={self.size}, fill={self.fill}, attempts={self.attempts})"
        )


def _inside(centers: NDArray[np.float32], start: tuple[float, float], side: int) -> NDArray[np.bool_]:
    """Returns a mask (N,) of the centers (N, 2) that lie strictly inside the square."""
    offset = centers - start
    return np.asarray(((offset > 0) & (offset < side)).all(axis=1))


def _random_start(length: int, side: int, pitch: float) -> float:
    """Returns the start of a span inside 0…``length``, or around it in steps of ``pitch`` if the span is longer."""
    if side <= length:
        return float(random.randint(0, length - side))
    return -pitch * random.randint(0, int((side - length) / pitch))


def _start_around(center: float, length: int, side: int, start: float) -> float:
    """Returns the start of a span inside 0…``length`` that contains ``center``; ``start`` if the span is longer."""
    if side > length:
        return start
    first, last = math.floor(center - side) + 1, math.ceil(center) - 1
    return float(min(max(random.randint(first, max(first, last)), 0), length - side))


@TRANSFORMS.register_module()
class KeepRatioResize(Resize):
    """Resizes the image to fit into ``scale`` and keeps its aspect ratio; no side becomes shorter than one pixel.

    The new sides are ``max(1, int(side · s + 0.5))``, with bilinear interpolation. ``scale_factor`` is the exact ratio
    new / old of each axis. Boxes and landmarks are scaled too.

    Args:
        scale: Width and height that the image must fit into, or one number for both.
        **kwargs: Arguments of :class:`mmdet.datasets.transforms.Resize`; ``clip_object_border`` is off by default.
    """

    def __init__(self, scale: int | tuple[int, int] | None = None, **kwargs: Any) -> None:
        super().__init__(scale, **{"keep_ratio": True, "clip_object_border": False, **kwargs})

    def _resize_img(self, results: dict[str, Any]) -> None:
        image = results["img"]
        height, width = image.shape[:2]
        _, scale = rescale_size((width, height), results["scale"], return_scale=True)
        new_width, new_height = (max(1, int(length * scale + 0.5)) for length in (width, height))
        results["img"] = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        results["img_shape"] = (new_height, new_width)
        results["scale_factor"] = (new_width / width, new_height / height)
        results["keep_ratio"] = True


@TRANSFORMS.register_module()
class CloseUpResize(KeepRatioResize):
    """Resizes the image to the small view in which the runtime looks for faces that fill the image.

    It sets ``close_up``, by which :class:`~facedet_mm.plugin.models.FaceTTAModel` knows the view.

    Args:
        side: Longer side of the view in pixels.
    """

    def __init__(self, side: int = CLOSE_UP_SIDE) -> None:
        super().__init__(side)
        self.side = side

    def _resize_img(self, results: dict[str, Any]) -> None:
        height, width = results["img"].shape[:2]
        size = ViewPlan(()).small((0, 0, width, height), self.side).letterbox.resized
        results["img"] = cv2.resize(results["img"], size, interpolation=cv2.INTER_LINEAR)
        results["img_shape"] = size[::-1]
        results["scale"], results["scale_factor"] = size, (size[0] / width, size[1] / height)
        results["keep_ratio"] = results["close_up"] = True


@TRANSFORMS.register_module()
@avoid_cache_randomness
class RandomFaceFlip(BaseTransform):
    """Mirrors the image horizontally; eyes and mouth corners swap sides.

    Args:
        prob: Probability of mirroring.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be between 0 and 1, not {prob}")
        self.prob = prob

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirrors ``img``, ``gt_bboxes`` and the landmarks, or leaves them unchanged."""
        results["flip"] = random.random() < self.prob
        results["flip_direction"] = "horizontal" if results["flip"] else None
        if not results["flip"]:
            return results
        results["img"] = cv2.flip(results["img"], 1)
        if "gt_bboxes" in results:
            results["gt_bboxes"].flip_(results["img"].shape[:2])
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prob={self.prob})"


@TRANSFORMS.register_module()
@avoid_cache_randomness
class RandomFaceRotation(BaseTransform):
    """Turns the image about its center by a random angle; size stays, and what the turn uncovers is gray.

    Boxes become the tight ones of the turned faces, see :class:`facedet_mm.imaging.rotation.Rotation`, and are not
    clipped. Landmarks keep their order: a left eye stays the left eye, wherever it is in the image, so that aligned
    faces are upright. Faces whose center leaves the image are dropped; where that would leave no face that counts, the
    image stays as it is.

    Args:
        degrees: Largest angle to either side.
        prob: Probability of turning.
        fill: Gray value outside the image.

    Raises:
        ValueError: ``degrees`` is not in (0, 180], or ``prob`` not in [0, 1].
    """

    def __init__(self, degrees: float = 180, prob: float = 0.5, fill: int = 128) -> None:
        if not 0 < degrees <= 180:
            raise ValueError(f"degrees must be above 0 and at most 180, not {degrees}")
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be between 0 and 1, not {prob}")
        self.degrees, self.prob, self.fill = degrees, prob, fill

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turns ``img``, ``gt_bboxes`` and the landmarks, or leaves them unchanged."""
        if random.random() >= self.prob:
            return results
        height, width = results["img"].shape[:2]
        turn = Rotation((width, height), random.uniform(-self.degrees, self.degrees), canvas=(width, height))
        boxes = turn.boxes(results["gt_bboxes"].numpy())
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        kept = ((centers > 0) & (centers < (width, height))).all(axis=1)
        counts = ~results["gt_ignore_flags"]
        if counts.any() and not (kept & counts).any():
            return results
        _keep(results, kept)
        faces = results["gt_bboxes"]
        faces.tensor = torch.from_numpy(boxes[kept])
        if isinstance(faces, FaceBoxes):
            faces.keypoints[:] = turn.points(faces.keypoints)
        results["img"] = turn.image(results["img"], self.fill)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(degrees={self.degrees}, prob={self.prob}, fill={self.fill})"


def _keep(results: dict[str, Any], kept: NDArray[np.bool_]) -> None:
    """Drops all annotations of the faces that are not ``kept``, (N,) bool."""
    for key in ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags"):
        if key in results:
            results[key] = results[key][kept]
