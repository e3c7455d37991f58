"""PyTorch's dynamic quantization of a model in memory."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from facedet_mm.errors import FaceDetError


def quantize_model(model: nn.Module, method: str = "dynamic") -> nn.Module:
    """Returns a copy of a model with PyTorch's dynamic quantization for the CPU.

    Linear layers get INT8 weights, and their inputs are quantized on the fly. PyTorch has no dynamic convolution, and
    SCRFD consists of convolutions: a detector is returned unchanged, with a warning. To make a detector faster, export
    it and use :func:`~facedet_mm.deploy.quantization.quantize_onnx`.

    Args:
        model: Any module; it is not changed.
        method: Always ``'dynamic'``.

    Raises:
        FaceDetError: ``method`` is not ``'dynamic'``.

    Example:
        >>> from torch import nn
        >>> quantize_model(nn.Sequential(nn.Linear(8, 2)))[0].weight().dtype
        torch.qint8
    """
    if method != "dynamic":
        raise FaceDetError(
            f"method must be 'dynamic', not {method!r}; for static INT8 export the model and use facedet quantize"
        )
    if not any(isinstance(module, nn.Linear) for module in model.modules()):
        logging.getLogger(__name__).warning(
            "%s has no linear layer, so dynamic quantization changes nothing: export it and use facedet quantize",
            type(model).__name__,
        )
    quantize: Any = torch.ao.quantization.quantize_dynamic
    quantized: nn.Module = quantize(model, {nn.Linear}, dtype=torch.qint8)
    return quantized
