"""Making dark frames readable for the detector."""

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
"""Every eighth pixel of every eighth row is enough to measure the brightness."""
_BRIGHT, _DARK = 80.0, 40.0
"""Mean gray levels: from the first on an image is left alone, from the second down it is treated in full."""
_MOST_GAMMA = 3.5
_TILES = (8, 8)
_SIGMA = 1.1
"""Pixels, in an image of 1024: brightening shows the sensor's noise, so it is averaged away before."""
_SIDE = 1024


class LowLight:
    """Brightens dark images: less noise, a gamma curve, then CLAHE on the luma for what is still in the shadow.

    How much is done depends on how dark the image is, without a step, so that a video doesn't flicker between two
    kinds of frames; from a mean of 80 gray levels on nothing is done. The result is meant for a detector: draw on
    the original.

    Args:
        mode: ``'auto'`` measures the darkness; ``'on'`` treats every image as dark; ``'off'`` does nothing.
        gamma: exponent of the curve ``(v / 255) ** (1 / gamma)``; 1 is none, ``None`` lifts the mean to 80.
        clip_limit: of CLAHE (Zuiderveld, Graphics Gems IV, VIII.5) in dark images, in multiples of an even
            histogram; larger gives more contrast and more noise.

    Raises:
        FaceDetError: an unknown ``mode``, or a ``gamma`` or ``clip_limit`` that isn't a positive number.

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
        """The image for the detector.

        Args:
            image: uint8 BGR (H, W, 3), gray or BGRA; it is not changed.

        Returns:
            (H, W, 3) uint8, BGR: a new image, or the same one when there is nothing to do.

        Raises:
            ImageError: ``image`` is no uint8 image.
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
        clahe = cv2.createCLAHE(darkness * self.clip_limit, _TILES)  # one a call: it isn't safe to share by threads
        cv2.insertChannel(clahe.apply(cv2.extractChannel(luma_chroma, 0)), luma_chroma, 0)
        return np.asarray(cv2.cvtColor(luma_chroma, cv2.COLOR_YCrCb2BGR, dst=luma_chroma), np.uint8)


def _mean_luma(image: NDArray[np.uint8]) -> float:
    blue, green, red = image[::_STEP, ::_STEP].mean(axis=(0, 1))
    return float(0.114 * blue + 0.587 * green + 0.299 * red)


def _lifting_gamma(mean: float) -> float:
    """The gamma whose curve takes the mean to that of a bright image; never below 1."""
    return float(np.clip(math.log(max(mean, 1.0) / 255) / math.log(_BRIGHT / 255), 1.0, _MOST_GAMMA))


def _brightened(image: NDArray[np.uint8], gamma: float, darkness: float) -> NDArray[np.uint8]:
    sigma = darkness * _SIGMA * min(1.0, max(image.shape[:2]) / _SIDE)
    curve = np.rint(255 * (np.arange(256) / 255) ** (1 / gamma)).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.GaussianBlur(image, (5, 5), max(sigma, 0.1)), curve), np.uint8)
