"""Reads the convolutions of an ONNX graph, each with the norm and scale that follow it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from facedet_mm.errors import ModelError

# operators that keep the order of channels between a convolution and the scale and shift of its norm
_TRANSPARENT = {"Reshape", "Identity", "Cast", "InstanceNormalization", "Mul", "Add"}


@dataclass
class ConvLayer:
    """One execution of a convolution.

    Attributes:
        weight: Weights (out, in / groups, k, k).
        bias: Bias (out,); zeros if the node has none.
        place: Hash of the shapes and strides of this convolution and of all convolutions before it. It is the same in
            every export of a model, in any order of nodes.
        batch_norm: Gamma, beta, mean and variance, each (out,), and epsilon, if batch norm was not folded.
        affine: Scale ``Mul`` and shift ``Add`` of a group norm, each (out,).
        scale: Scalar that multiplies the output; 1 if there is none.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    place: int
    batch_norm: tuple[list[NDArray[np.float32]], float] | None = None
    affine: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    scale: float = 1.0


def load_graph(path: str | Path) -> onnx.GraphProto:
    """Reads the graph of an ONNX file; its nodes are in an order in which they can be executed.

    Raises:
        ModelError: The file is missing, empty, truncated or not an ONNX file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:
        raise ModelError(f"{path}: not a readable ONNX file ({error})") from error
    if not graph.node:
        raise ModelError(f"{path}: not an ONNX file, or an empty graph")
    return graph


def conv_layers(graph: onnx.GraphProto) -> list[ConvLayer]:
    """Returns all convolutions in the order of the nodes; one that several levels share appears once per level."""
    constants = _Constants(graph)
    before: dict[str, frozenset[int]] = {}  # value → places of the nearest convolutions before it
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            consumers[name].append(node)
    layers = []
    for node in graph.node:
        feeding = frozenset().union(*(before.get(name, frozenset()) for name in node.input))
        if node.op_type != "Conv":
            # Shape nodes carry no image content and differ between exports
            before.update(dict.fromkeys(node.output, frozenset() if node.op_type == "Shape" else feeding))
            continue
        weight = constants.get(node.input[1])
        if weight is None:
            raise ModelError(f"convolution {node.name or node.output[0]} has no constant weight")
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        stride = next((tuple(a.ints) for a in node.attribute if a.name == "strides"), (1, 1))
        place = hash((weight.shape, stride, feeding))
        before[node.output[0]] = frozenset({place})
        layer = ConvLayer(weight, np.zeros(len(weight), np.float32) if bias is None else bias, place)
        _follow(node.output[0], layer, consumers, constants)
        layers.append(layer)
    return layers


def _follow(name: str, layer: ConvLayer, consumers: dict[str, list[onnx.NodeProto]], constants: _Constants) -> None:
    """Collects the norm and scale that are applied to the output ``name`` of a convolution."""
    channels = len(layer.weight)
    while True:
        users = [n for n in consumers[name] if n.op_type != "Shape"]
        if len(users) != 1:
            return
        node = users[0]
        if node.op_type == "BatchNormalization":
            values = [constants.get(i) for i in node.input[1:5]]
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            layer.batch_norm = ([v for v in values if v is not None], epsilon)
            return
        if node.op_type == "GroupNormalization":
            scale, shift = (constants.get(i) for i in node.input[1:3])
            if scale is not None and shift is not None and len(scale) == channels:
                layer.affine = {"Mul": scale, "Add": shift}
            return
        if node.op_type not in _TRANSPARENT:
            return
        if node.op_type in ("Mul", "Add"):
            value = next((v for i in node.input if i != name and (v := constants.get(i)) is not None), None)
            if value is None:
                return
            if node.op_type == "Mul" and value.size == 1 and channels > 1:
                layer.scale = float(value.reshape(()))
                return
            if value.size != channels:
                return
            layer.affine[node.op_type] = value.reshape(-1)
        name = node.output[0]


class _Constants:
    """Values that are known without running the graph: initializers, constants and reshaped ones."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._initializers = {i.name: i for i in graph.initializer}
        self._producers = {o: n for n in graph.node for o in n.output}

    def get(self, name: str) -> NDArray[Any] | None:
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        node = self._producers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant":
            return next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), None)
        if node.op_type in ("Unsqueeze", "Reshape", "Identity", "Squeeze"):
            return self.get(node.input[0])
        return None
