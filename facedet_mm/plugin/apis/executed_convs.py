"""The convolutions of a PyTorch model in execution order, to be filled with weights from an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.cnn import Scale
from numpy.typing import NDArray
from torch import nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.onnx_layers import ConvLayer


@dataclass
class ExecutedConv:
    """One execution of a convolution, with the norm and scale that follow it.

    Attributes:
        conv: The convolution.
        norm: Batch norm or group norm after it.
        scale: Learnable scalar that multiplies its output.
    """

    conv: nn.Conv2d
    norm: nn.Module | None = None
    scale: Scale | None = None

    @torch.no_grad()
    def load(self, layer: ConvLayer) -> None:
        """Copies the weights of an ONNX layer; a norm that was folded becomes the identity plus the bias.

        Raises:
            ModelError: The model has a group norm where the layer has none.
        """
        _copy(self.conv.weight, layer.weight)
        if self.conv.bias is not None:
            _copy(self.conv.bias, layer.bias)
        if self.scale is not None:
            _copy(self.scale.scale, layer.scale)
        norm: Any = self.norm
        if norm is None:
            return
        if isinstance(norm, nn.GroupNorm):
            if layer.affine.keys() != {"Mul", "Add"}:
                raise ModelError("a convolution of the head has no group norm after it, but the model needs one")
            gamma, beta = layer.affine["Mul"], layer.affine["Add"]
        elif layer.batch_norm is not None:
            (gamma, beta, mean, variance), epsilon = layer.batch_norm
            _copy(norm.running_mean, mean)
            _copy(norm.running_var, variance + np.float32(epsilon - norm.eps))
        else:
            gamma, beta = np.ones_like(layer.bias), layer.bias
            _copy(norm.running_mean, np.zeros_like(layer.bias))
            _copy(norm.running_var, np.full_like(layer.bias, 1 - norm.eps))
        _copy(norm.weight, gamma)
        _copy(norm.bias, beta)


def trace_convs(model: nn.Module) -> list[ExecutedConv]:
    """Returns the convolutions in the order in which a forward pass executes them, shared ones once per execution."""
    executed: list[ExecutedConv] = []

    def record(module: nn.Module, _inputs: Any, _output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            executed.append(ExecutedConv(module))
        elif isinstance(module, Scale):
            executed[-1].scale = module
        else:
            executed[-1].norm = module

    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, Scale)
    handles = [module.register_forward_hook(record) for module in model.modules() if isinstance(module, kinds)]
    with torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64), mode="tensor")
    for handle in handles:
        handle.remove()
    return executed


def load_layers(executed: Sequence[ExecutedConv], layers: Sequence[ConvLayer]) -> None:
    """Fills convolutions, norms and scales of a model from the layers of an ONNX file, which are in the same order."""
    first: dict[nn.Module, ConvLayer] = {}
    for target, layer in zip(executed, layers, strict=True):
        shared = first.setdefault(target.conv, layer)
        if target.scale is not None and shared is not layer:
            # a simplifier may have folded the scales of the levels into copies of the shared convolution
            layer.scale *= float((layer.weight * shared.weight).sum() / max((shared.weight**2).sum(), 1e-12))
            layer.weight, layer.bias = shared.weight, shared.bias
        target.load(layer)


def _copy(target: Any, value: NDArray[np.float32] | float) -> None:
    target.copy_(torch.as_tensor(np.array(value, np.float32)).reshape(target.shape))
