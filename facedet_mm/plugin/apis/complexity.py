"""Number of parameters and multiply-adds of a model."""

from __future__ import annotations

import os

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config

from facedet_mm.plugin.apis.build import build_model


def complexity(config: str | os.PathLike[str] | Config, width: int = 640, height: int = 480) -> tuple[int, int]:
    """Returns the number of parameters of a model and its operations per image, as mmengine counts them.

    A multiply-add is one operation. The published numbers include ReLU, pooling and biases, but no group norm. Counted
    that way, the models have 34.14, 9.98, 2.53, 0.98 and 0.509 GFLOPs; the published numbers are 34.13, 9.98, 2.53, 1.1
    and 0.508. The number of scrfd_1g does not follow from its published widths.

    Args:
        config: A config file or a loaded config.
        width, height: Input size in pixels, multiples of 32.

    Raises:
        ModelError: The model cannot be built.
    """
    model = build_model(config).eval()
    analyzer = FlopAnalyzer(model, torch.zeros(1, 3, height, width))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return sum(p.numel() for p in model.parameters()), analyzer.total()
