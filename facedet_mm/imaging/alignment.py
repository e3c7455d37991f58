"""Face crops: plain ones, and ones aligned by their landmarks for recognition."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import as_bgr

__all__ = ["ARCFACE_TEMPLATE", "align_faces", "arcface_template", "crop_faces", "pixel_boxes", "similarity_transforms"]

ARCFACE_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Positions of the five landmarks, in pixels, in the 112×112 images that ArcFace models are trained on."""

_SIDE = 112
_WIDE_SIDE = 128
_WIDE_SHIFT = 8.0
"""The 128×128 crop is the 112×112 one with 8 more columns on each side and 16 more rows below."""
_LARGEST_SIDE = 8192
_OPENCV_SIDE = 32766
"""Largest side of an image that ``cv2.warpAffine`` accepts."""
_FAR = 1e9
"""Finite stand-in for infinite coordinates."""


def arcface_template(size: int = 112) -> NDArray[np.float64]:
    """Returns the positions of the five landmarks in an aligned crop.

    As in InsightFace, the template is scaled, except that multiples of 128 show more at the sides and below.

    Args:
        size: Side of the crop in pixels.

    Returns:
        (5, 2) float64, x y in pixels.

    Raises:
        FaceDetError: ``size`` is not an integer from 1 to 8192.

    Example:
        >>> arcface_template(224)[0].round(4).tolist()
        [76.5892, 103.3926]
        >>> arcface_template(128)[0].round(4).tolist()
        [46.2946, 51.6963]
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= _LARGEST_SIDE:
        raise FaceDetError(f"size of an aligned face must be an integer from 1 to {_LARGEST_SIDE}, not {size!r}")
    template, scale = np.array(ARCFACE_TEMPLATE), size / _SIDE
    if size % _SIDE and not size % _WIDE_SIDE:
        template, scale = template + np.array([_WIDE_SHIFT, 0]), size / _WIDE_SIDE
    return np.asarray(scale * template)


def similarity_transforms(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Returns the rotation, uniform scale and shift that map each set of points closest to the target (least squares).

    With points of the plane as complex numbers about their means, z for the source and w for the target, the
    closest w ≈ a·z has a = Σ z̄·w / Σ |z|². This is the two-dimensional case of Umeyama (1991, eq. 40–43), and
    like it never mirrors.

    Args:
        source: Sets of points, (N, K, 2), x y.
        target: Target points, (K, 2), x y.

    Returns:
        (N, 2, 3) float64 matrices for ``cv2.warpAffine``; all zero if the points of a set coincide, are not
        finite, or have no closest rotation.

    Example:
        >>> similarity_transforms([[[0, 0], [4, 0]]], [[1, 1], [1, 3]]).tolist()
        [[[0.0, -0.5, 1.0], [0.5, 0.0, 1.0]]]
    """
    points = np.asarray(source, np.float64)
    usable: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(points), axis=(1, 2))
    points = np.where(usable[:, None, None], points, 0)
    z = points[..., 0] + 1j * points[..., 1]
    x, y = np.asarray(target, np.float64).T
    w = x + 1j * y
    z_mean, w_mean = z.mean(1), w.mean()
    z -= z_mean[:, None]
    spread = (np.abs(z) ** 2).sum(1)
    usable &= spread > 0
    a = (z.conj() @ (w - w_mean)) / np.where(usable, spread, 1)
    b = w_mean - a * z_mean
    matrices = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]]).transpose(2, 0, 1)
    return np.where((usable & (a != 0))[:, None, None], matrices, 0.0)


def align_faces(image: NDArray[np.uint8], landmarks: ArrayLike, size: int = 112) -> NDArray[np.uint8]:
    """Returns crops with eyes, nose and mouth where face recognition models expect them.

    Args:
        image: uint8 BGR (H, W, 3), gray or BGRA.
        landmarks: Landmarks of N faces, (N, 5, 2), x y in pixels of ``image``, in the order of ``LANDMARK_NAMES``.
        size: Side of the crops in pixels; see :func:`arcface_template`.

    Returns:
        (N, size, size, 3) uint8, BGR; black outside the image, and all black if the five landmarks coincide
        or are not finite.

    Raises:
        ImageError: ``image`` is not a uint8 image.
        FaceDetError: ``size`` is not an integer from 1 to 8192.

    Example:
        >>> image = np.full((200, 200, 3), 255, np.uint8)
        >>> crops = align_faces(image, [np.array(ARCFACE_TEMPLATE) + 40])
        >>> crops.shape, int(crops.min())
        ((1, 112, 112, 3), 255)
    """
    image = as_bgr(image)
    matrices = similarity_transforms(landmarks, arcface_template(size))
    crops = np.zeros((len(matrices), size, size, 3), np.uint8)
    for crop, matrix in zip(crops, matrices, strict=True):
        if matrix.any():
            _warp(image, matrix, crop)
    return crops


def crop_faces(image: NDArray[np.uint8], boxes: ArrayLike, margin: float = 0.0) -> list[NDArray[np.uint8]]:
    """Returns the pixels that each box touches, clipped at the image's edges.

    Args:
        image: uint8 BGR (H, W, 3), gray or BGRA.
        boxes: Boxes, (N, 4), x1 y1 x2 y2 in pixels of ``image``.
        margin: Margin added on each side, as a fraction of the box's width and height.

    Returns:
        N copies, (h, w, 3) uint8, BGR; of shape (0, 0, 3) for a box without area in the image.

    Raises:
        ImageError: ``image`` is not a uint8 image.
        FaceDetError: ``margin`` is negative or not finite.

    Example:
        >>> image = np.zeros((100, 100, 3), np.uint8)
        >>> [crop.shape for crop in crop_faces(image, [[10, 10, 30, 50], [90, 90, 120, 110]], margin=0.25)]
        [(60, 30, 3), (15, 18, 3)]
    """
    image = as_bgr(image)
    regions = pixel_boxes(boxes, image.shape[1], image.shape[0], margin)
    return [image[y1:y2, x1:x2].copy() if x2 > x1 else image[:0, :0].copy() for x1, y1, x2, y2 in regions.tolist()]


def pixel_boxes(boxes: ArrayLike, width: int, height: int, margin: float = 0.0) -> NDArray[np.intp]:
    """Returns the pixels that boxes touch: corners rounded outward and clipped to the image.

    Args:
        boxes: Boxes, (N, 4), x1 y1 x2 y2 in pixels.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        margin: Margin added first on each side, as a fraction of the box's width and height.

    Returns:
        (N, 4) ints, x1 y1 x2 y2 with x2 and y2 excluded; all zero for a box with a NaN or without area in the
        image.

    Raises:
        FaceDetError: ``margin`` is negative or not finite.

    Example:
        >>> pixel_boxes([[10.2, -3, 20.5, 7], [5, 5, 5, 9]], width=16, height=16).tolist()
        [[10, 0, 16, 7], [0, 0, 0, 0]]
    """
    corners = enlarge(boxes, margin)
    limits = np.array([width, height] * 2, np.float64)
    sound = (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])  # false for a NaN
    corners = np.clip(np.where(sound[:, None], corners, 0), 0, limits)
    low, high = np.floor(corners[:, :2]).astype(np.intp), np.ceil(corners[:, 2:]).astype(np.intp)
    inside = (low[:, 0] < high[:, 0]) & (low[:, 1] < high[:, 1])
    return np.where(inside[:, None], np.hstack([low, high]), 0)


def enlarge(boxes: ArrayLike, margin: float) -> NDArray[np.float64]:
    """Returns boxes with ``margin`` times their width and height added on each side; infinite ones become finite.

    Returns:
        (N, 4) float64, x1 y1 x2 y2.

    Raises:
        FaceDetError: ``margin`` is negative or not finite.

    Example:
        >>> enlarge([[10, 10, 20, 30]], 0.5).tolist()
        [[5.0, 0.0, 25.0, 40.0]]
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise FaceDetError(f"margin must be a fraction of the face's size, 0 or more, not {margin}")
    corners = np.clip(np.asarray(boxes, np.float64), -_FAR, _FAR)
    extra = margin * (corners[:, 2:] - corners[:, :2])
    return np.hstack([corners[:, :2] - extra, corners[:, 2:] + extra])


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], crop: NDArray[np.uint8]) -> None:
    """Warps the visible part of the image into ``crop``, subsampled if it is too large for OpenCV."""
    size = crop.shape[0]
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64)
    corners = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    (left, top), (right, bottom) = corners.min(0) - 2, corners.max(0) + 2  # 2: neighbors used by the interpolation
    x1, y1, x2, y2 = pixel_boxes([[left, top, right, bottom]], image.shape[1], image.shape[0])[0].tolist()
    if x1 == x2:
        return
    step = 1 + max(x2 - x1, y2 - y1) // _OPENCV_SIDE
    local: Any = np.column_stack([matrix[:, :2] * step, matrix @ (x1, y1, 1)])
    cv2.warpAffine(image[y1:y2:step, x1:x2:step], local, (size, size), dst=crop)
