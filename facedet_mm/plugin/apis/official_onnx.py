"""Reads the weights of published SCRFD models from ONNX files."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.apis.executed_convs import load_layers, trace_convs
from facedet_mm.plugin.apis.official_models import MODELS, unknown_weights
from facedet_mm.plugin.apis.onnx_layers import conv_layers, load_graph
from facedet_mm.zoo import config_path


def read_official_onnx(src: Path) -> tuple[str, dict[str, Tensor]]:
    """Returns the model's name and its weights; norms that were folded become the identity plus the bias.

    Raises:
        ModelError: The file cannot be read, or it is none of the models.
    """
    graph = load_graph(src)
    try:
        layers = conv_layers(graph)
    except ModelError as error:
        raise ModelError(f"{src}: {error}") from error
    shapes = Counter(layer.weight.shape for layer in layers)
    by_place = {layer.place: layer for layer in layers}
    mismatches: list[tuple[int, str, str]] = []
    for name in MODELS:
        expected = _conv_shapes(name)
        wrong = (shapes - expected) + (expected - shapes)
        if not wrong:
            model = build_model(config_path(name)).eval()
            places = [layer.place for layer in conv_layers(_export(model))]
            if set(places) == by_place.keys():
                load_layers(trace_convs(model), [by_place[place] for place in places])
                return name, model.state_dict()
        detail = "its convolutions are connected differently"
        if shape := next(iter(wrong), None):
            detail = f"{shapes[shape]} convolutions of shape {shape}, expected {expected[shape]}"
        mismatches.append((wrong.total(), name, detail))
    raise unknown_weights(src, mismatches)


@cache
def _conv_shapes(name: str) -> Counter[tuple[int, ...]]:
    """Returns how many convolutions of each shape a forward pass executes."""
    model = build_model(config_path(name)).eval()
    return Counter(tuple(executed.conv.weight.shape) for executed in trace_convs(model))


def _export(model: nn.Module) -> onnx.GraphProto:
    """Returns the model as an ONNX graph with its convolutions in execution order."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # traced shapes do not matter, only the connections do
        torch.onnx.export(
            _RawOutputs(model).eval(), (torch.zeros(1, 3, 64, 64),), buffer, dynamo=False, opset_version=17
        )
    return onnx.load_from_string(buffer.getvalue()).graph


class _RawOutputs(nn.Module):
    """A detector whose forward pass returns a flat list of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        return [t for branch in self.model(x, mode="tensor") for t in branch if t is not None]
