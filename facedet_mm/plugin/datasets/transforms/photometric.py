"""Photometric distortion of uint8 images."""

from __future__ import annotations

import random
from typing import Any

from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import avoid_cache_randomness
from mmdet.registry import TRANSFORMS

from facedet_mm.imaging.augmentation import distort_colors


@TRANSFORMS.register_module()
@avoid_cache_randomness
class FacePhotoMetricDistortion(BaseTransform):
    """Same distortion as :class:`mmdet.datasets.transforms.PhotoMetricDistortion`, on uint8 and several times as fast.

    Each change has probability 1/2 and is drawn from the same distribution. The result equals the rounded result of
    mmdet's transform as long as its intermediate values stay within 0…255; here values beyond are clipped, there they
    continue as floats. Apart from that, mmdet's choice between contrast first and contrast last makes no difference.

    Args:
        brightness_delta: Largest change of brightness in gray levels.
        contrast_range: Smallest and largest contrast factor.
        saturation_range: Smallest and largest saturation factor.
        hue_delta: Largest change of hue in degrees, at most 30.
        swap_channels: Whether to also shuffle the color channels.

    Raises:
        ValueError: ``hue_delta`` is above 30 degrees.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: float = 18,
        swap_channels: bool = True,
    ) -> None:
        if hue_delta > 30:
            raise ValueError(f"hue_delta must be at most 30 degrees, not {hue_delta}")
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta
        self.swap_channels = swap_channels

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Distorts ``img`` (uint8)."""
        results["img"] = distort_colors(
            results["img"],
            brightness=_draw(0.0, -self.brightness_delta, self.brightness_delta),
            contrast=_draw(1.0, *self.contrast_range),
            saturation=_draw(1.0, *self.saturation_range),
            hue=_draw(0.0, -self.hue_delta, self.hue_delta),
            channels=random.sample(range(3), 3) if self.swap_channels and random.getrandbits(1) else (0, 1, 2),
        )
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(brightness_delta={self.brightness_delta}, contrast_range={self.contrast_range}, "
            f"saturation_range={self.saturation_range}, hue_delta={self.hue_delta}, swap_channels={self.swap_channels})"
        )


def _draw(neutral: float, low: float, high: float) -> float:
    return random.uniform(low, high) if random.getrandbits(1) else neutral
