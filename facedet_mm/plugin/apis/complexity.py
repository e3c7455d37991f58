"""Parameters and multiply-adds of a model."""

from __future__ import annotations

import os

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config

from facedet_mm.plugin.apis.build import build_model


def complexity(config: str | os.PathLike[str] | Config, width: int = 640, height: int = 480) -> tuple[int, int]:
    """Parameters, and operations for one image by mmengine's counter, of the model that ``config`` describes.

    A multiply-add is one operation. The published figures also count ReLU, pooling and biases, and no group norm;
    counted like that the models give 34.14, 9.98, 2.53, 0.98 and 0.509 GFLOPs, the published 34.13, 9.98, 2.53, 1.1
    and 0.508: scrfd_1g's figure does not follow from its published widths.

    Args:
        config: A config file or a loaded config.
        width, height: Input size in pixels, a multiple of 32.

    Raises:
        ModelError: the model can't be built.
    """
    model = build_model(config).eval()
    analyzer = FlopAnalyzer(model, torch.zeros(1, 3, height, width))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return sum(p.numel() for p in model.parameters()), analyzer.total()
