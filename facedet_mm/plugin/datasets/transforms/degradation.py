"""Robustness augmentation: images as bad cameras, networks and light make them."""

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
    """Degrades ``img`` with probability ``prob`` by a strength between ``low`` and ``high``."""

    def __init__(self, low: float, high: float, prob: float) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be between 0 and 1, not {prob}")
        if not 0 < low <= high:
            raise ValueError(f"a range of two positive numbers, the smaller one first, is wanted, not {(low, high)}")
        self.low, self.high, self.prob = low, high, prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes ``img`` (uint8) or leaves it."""
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
        sigma: smallest and largest standard deviation in pixels.
        prob: of blurring.
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
        quality: smallest and largest quality, both included.
        prob: of compressing.
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
        gamma: smallest and largest exponent; above 1 darkens.
        prob: of darkening.
    """

    def __init__(self, gamma: tuple[float, float] = (1.5, 3.0), prob: float = 0.2) -> None:
        super().__init__(*gamma, prob)

    def _degrade(self, image: Image, strength: float) -> Image:
        return darken(image, strength)


@TRANSFORMS.register_module()
class RandomFaceErasing(RandomErasing):
    """:class:`mmdet.datasets.transforms.RandomErasing` that keeps all columns of the faces together.

    A face that is covered by more than ``bbox_erased_thr`` becomes ignored instead of vanishing, so that the
    network is neither asked for it nor told that nothing is there.

    Args:
        n_patches: smallest and largest number of erased rectangles.
        ratio: smallest and largest side of a rectangle relative to the image's.
        **kwargs: of :class:`mmdet.datasets.transforms.RandomErasing`.
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
