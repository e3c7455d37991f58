"""Brightens dark images for the detector."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import as_bgr

__all__ = ["LowLight", "Mode"]

Mode: TypeAlias = Literal["auto", "on", "off"]

_STEP = 8
"""Step between the pixels, in both directions, that are enough to measure the brightness."""
_BRIGHT, _DARK = 80.0, 40.0
"""Mean gray levels: images at or above the first stay as they are; at or below the second they change fully."""
_MOST_GAMMA = 3.5
_TILES = (8, 8)
_SIGMA = 1.1
"""Sigma of the blur in pixels for an image of ``_SIDE`` pixels; it removes noise that brightening would show."""
_SIDE = 1024


class LowLight:
    """Brightens dark images: a blur against noise, a gamma curve, then CLAHE on the luma for remaining shadows.

    The strength grows continuously with the darkness of the image, so that a video does not flicker; images with a
    mean of at least 80 gray levels are not changed. The result is meant for a detector; draw on the original image.

    Args:
        mode: ``'auto'`` measures the darkness; ``'on'`` treats every image as dark; ``'off'`` does nothing.
        gamma: Exponent of the curve ``(v / 255) ** (1 / gamma)``; 1 changes nothing, ``None`` raises the mean to 80.
        clip_limit: Clip limit of CLAHE (Zuiderveld, Graphics Gems IV, VIII.5) in dark images, in multiples of a
            uniform histogram; larger values give more contrast and more noise.

    Raises:
        FaceDetError: ``mode`` is unknown, or ``gamma`` or ``clip_limit`` is not a positive number.

    Example:
        >>> dark = np.full((90, 160, 3), 20, np.uint8)
        >>> bool(LowLight()(dark).mean() > 60)
        True
        >>> bright = np.full((90, 160, 3), 120, np.uint8)
        >>> LowLight()(bright) is bright
        True
    """

    def __init__(self, mode: Mode = "auto", gamma: float | None = None, clip_limit: float = 1.0) -> None:
        if mode not in get_args(Mode):
            raise FaceDetError(f"low light mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        for name, value in (("gamma", 1.0 if gamma is None else gamma), ("clip_limit", clip_limit)):
            if not 0 < value < math.inf:
                raise FaceDetError(f"{name} must be a positive number, not {value}")
        self.mode = mode
        self.gamma = gamma
        self.clip_limit = clip_limit

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the image for the detector.

        Args:
            image: uint8 BGR (H, W, 3), gray or BGRA; it is not modified.

        Returns:
            (H, W, 3) uint8, BGR: a new image, or the same one if nothing changes.

        Raises:
            ImageError: ``image`` is not a uint8 image.
        """
        image = as_bgr(image)
        if self.mode == "off":
            return image
        mean = _mean_luma(image)
        darkness = 1.0 if self.mode == "on" else min(1.0, (_BRIGHT - mean) / (_BRIGHT - _DARK))
        if darkness <= 0:
            return image
        gamma = _lifting_gamma(mean) if self.gamma is None else self.gamma**darkness
        return self._equalized(_brightened(image, gamma, darkness), darkness)

    def _equalized(self, image: NDArray[np.uint8], darkness: float) -> NDArray[np.uint8]:
        luma_chroma = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
        clahe = cv2.createCLAHE(darkness * self.clip_limit, _TILES)  # one per call, because threads can't share it
        cv2.insertChannel(clahe.apply(cv2.extractChannel(luma_chroma, 0)), luma_chroma, 0)
        return np.asarray(cv2.cvtColor(luma_chroma, cv2.COLOR_YCrCb2BGR, dst=luma_chroma), np.uint8)


def _mean_luma(image: NDArray[np.uint8]) -> float:
    blue, green, red = image[::_STEP, ::_STEP].mean(axis=(0, 1))
    return float(0.114 * blue + 0.587 * green + 0.299 * red)


def _lifting_gamma(mean: float) -> float:
    """Returns the gamma whose curve raises the mean to that of a bright image; never below 1."""
    return float(np.clip(math.log(max(mean, 1.0) / 255) / math.log(_BRIGHT / 255), 1.0, _MOST_GAMMA))


def _brightened(image: NDArray[np.uint8], gamma: float, darkness: float) -> NDArray[np.uint8]:
    sigma = darkness * _SIGMA * min(1.0, max(image.shape[:2]) / _SIDE)
    curve = np.rint(255 * (np.arange(256) / 255) ** (1 / gamma)).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.GaussianBlur(image, (5, 5), max(sigma, 0.1)), curve), np.uint8)
