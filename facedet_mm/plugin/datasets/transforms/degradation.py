"""Robustness augmentation: blur, compression, darkness and occlusion."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import avoid_cache_randomness
from mmdet.datasets.transforms import RandomErasing
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

from facedet_mm.imaging.corruptions import Image, blur, darken, recompress


class _RandomDegradation(BaseTransform):
    """Degrades ``img`` with probability ``prob`` and a strength between ``low`` and ``high``."""

    def __init__(self, low: float, high: float, prob: float) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be between 0 and 1, not {prob}")
        if not 0 < low <= high:
            raise ValueError(f"the range must be two positive numbers in ascending order, not {(low, high)}")
        self.low, self.high, self.prob = low, high, prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Degrades ``img`` (uint8) or leaves it unchanged."""
        strength = self._draw()
        if strength is not None:
            results["img"] = self._degrade(results["img"], strength)
        return results

    def _draw(self) -> float | None:
        return random.uniform(self.low, self.high) if random.random() < self.prob else None

    def _degrade(self, image: Image, strength: float) -> Image:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(({self.low}, {self.high}), prob={self.prob})"


@TRANSFORMS.register_module()
@avoid_cache_randomness
class RandomGaussianBlur(_RandomDegradation):
    """Gaussian blur.

    Args:
        sigma: Smallest and largest standard deviation in pixels.
        prob: Probability of blurring.
    """

    def __init__(self, sigma: tuple[float, float] = (0.5, 3.0), prob: float = 0.2) -> None:
        super().__init__(*sigma, prob)

    def _degrade(self, image: Image, strength: float) -> Image:
        return blur(image, strength)


@TRANSFORMS.register_module()
@avoid_cache_randomness
class RandomJPEG(_RandomDegradation):
    """JPEG compression.

    Args:
        quality: Smallest and largest quality, inclusive.
        prob: Probability of compressing.
    """

    def __init__(self, quality: tuple[int, int] = (20, 80), prob: float = 0.2) -> None:
        super().__init__(*quality, prob)

    def _draw(self) -> int | None:
        return random.randint(self.low, self.high) if random.random() < self.prob else None

    def _degrade(self, image: Image, strength: float) -> Image:
        return recompress(image, int(strength))


@TRANSFORMS.register_module()
@avoid_cache_randomness
class RandomGammaDark(_RandomDegradation):
    """Darkening by a gamma curve.

    Args:
        gamma: Smallest and largest exponent; values above 1 darken.
        prob: Probability of darkening.
    """

    def __init__(self, gamma: tuple[float, float] = (1.5, 3.0), prob: float = 0.2) -> None:
        super().__init__(*gamma, prob)

    def _degrade(self, image: Image, strength: float) -> Image:
        return darken(image, strength)


@TRANSFORMS.register_module()
class RandomFaceErasing(RandomErasing):
    """:class:`mmdet.datasets.transforms.RandomErasing` that marks covered faces as ignored.

    A face that is covered by more than ``bbox_erased_thr`` is ignored instead of removed, so that the network learns
    neither to find it nor that nothing is there.

    Args:
        n_patches: Smallest and largest number of erased rectangles.
        ratio: Smallest and largest side of a rectangle relative to that of the image.
        **kwargs: Arguments of :class:`mmdet.datasets.transforms.RandomErasing`.
    """

    def __init__(
        self, n_patches: tuple[int, int] = (0, 3), ratio: tuple[float, float] = (0.05, 0.2), **kwargs: Any
    ) -> None:
        super().__init__(n_patches, ratio, **kwargs)

    def _transform_bboxes(self, results: dict[str, Any], patches: NDArray[np.int64]) -> None:
        boxes = results["gt_bboxes"].numpy()
        patches = patches.reshape(-1, 4)
        overlap = np.minimum(boxes[:, None, 2:], patches[:, 2:]) - np.maximum(boxes[:, None, :2], patches[:, :2])
        covered = overlap.clip(min=0).prod(axis=2).sum(axis=1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        results["gt_ignore_flags"] = results["gt_ignore_flags"] | (covered > self.bbox_erased_thr * area)
