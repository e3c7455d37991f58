"""Normalization and padding of batches."""

from __future__ import annotations

from typing import Any

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS


@MODELS.register_module()
class FaceDataPreprocessor(DetDataPreprocessor):
    """``DetDataPreprocessor`` that pads images to a square for testing, and no more than needed for training.

    Padding follows normalization, so its value 0 is mid-gray, as in the training of the published weights. Black
    padding costs them one point of WIDER FACE Hard AP.

    Args:
        test_size: Outside training, both sides are padded to a multiple of this many pixels; images that were fitted
            into a square of this size fill it. ``None`` pads an image whose sample has a square ``scale`` to that
            square, and any other as in training, where ``pad_size_divisor`` is used.
        **kwargs: Arguments of ``DetDataPreprocessor``.
    """

    pad_size_divisor: int

    def __init__(self, test_size: int | None = 640, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.train_size_divisor = self.pad_size_divisor
        self.test_size = test_size

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalizes and pads a batch; ``training`` selects the padding."""
        test_size = self.test_size or self._fitted_side(data)
        self.pad_size_divisor = self.train_size_divisor if training else test_size
        return super().forward(data, training)

    def _fitted_side(self, data: dict) -> int:
        """Returns the side of the square that all images of a batch were fitted into, or ``pad_size_divisor``."""
        divisor = self.train_size_divisor
        sides = {side for sample in data.get("data_samples") or () for side in sample.get("scale", (0, 1))}
        return -(-sides.pop() // divisor) * divisor if len(sides) == 1 else divisor
