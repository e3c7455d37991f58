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
            into a square of this size fill it. In training, ``pad_size_divisor`` is used.
        **kwargs: Arguments of ``DetDataPreprocessor``.
    """

    pad_size_divisor: int

    def __init__(self, test_size: int = 640, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.train_size_divisor = self.pad_size_divisor
        self.test_size = test_size

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalizes and pads a batch; ``training`` selects the padding."""
        self.pad_size_divisor = self.train_size_divisor if training else self.test_size
        return super().forward(data, training)
