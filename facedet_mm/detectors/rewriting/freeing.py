"""Files with an input of one size take any: sizes that an export wrote into the graph are computed again.

What changes is only what the size of the input was written into: targets of Resize, which are twice its input in
networks of this kind, and shapes of Reshape. Running both files shows whether that was right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from facedet_mm.detectors.rewriting.graphs import Graph, is_node, is_rewritable, opset_of, rebuild

_AXES: dict[int, dict[int, str]] = {
    TensorProto.FLOAT: {0: "batch", 2: "height", 3: "width"},
    TensorProto.UINT8: {0: "batch", 1: "height", 2: "width"},
}
"""Type of the input → the axes that may be free."""
_SINCE_SIZES = 11
"""First opset in which Resize takes sizes."""
_NORMS = ("InstanceNormalization", "Mul", "Add")
"""Operators of a group norm between its two reshapes."""


def free_axes(model: ModelProto, kept: Collection[str]) -> tuple[str, ...]:
    """Frees the batch, height and width of the graph's input, in place, as far as they are fixed.

    Args:
        model: Model of one input.
        kept: Names of axes that stay as they are.

    Returns:
        Names of the axes that were freed; the graph is the same if there are none.
    """
    graph, image = model.graph, _image(model.graph)
    if image is None or not is_rewritable(model):
        return ()
    sides = image.type.tensor_type.shape.dim
    axes = _AXES[image.type.tensor_type.elem_type]
    fixed = {axis: name for axis, name in axes.items() if sides[axis].dim_value > 0 and name not in kept}
    if not fixed:
        return ()
    around, opset = Graph(graph), opset_of(model)
    nodes = list[NodeProto]()
    for node in graph.node:
        if is_node(node, "Resize") and opset >= _SINCE_SIZES:
            _double(around, node)
        elif is_node(node, "Reshape"):
            nodes += _free_shape(around, node, batch=0 in fixed)
        nodes.append(node)
    for axis, name in fixed.items():
        sides[axis].dim_param = name
    for value in graph.output:
        for side in list(value.type.tensor_type.shape.dim)[:-1]:
            side.Clear()
    graph.ClearField("value_info")
    rebuild(graph, nodes)
    return tuple(fixed.values())


def _image(graph: GraphProto) -> ValueInfoProto | None:
    """Returns the graph's only input, if it takes images."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    if kind is None or kind.elem_type not in _AXES or len(kind.shape.dim) != 4:
        return None
    (channels,) = {0, 1, 2, 3} - _AXES[kind.elem_type].keys()
    return inputs[0] if kind.shape.dim[channels].dim_value == 3 else None


def _double(around: Graph, node: NodeProto) -> None:
    """Gives a Resize to a constant size the scale of 2."""
    sizes = around.constants.get(node.input[3]) if len(node.input) > 3 else None
    if sizes is None or [*sizes.dims] not in ([4], [2]):
        return
    del node.input[2:]
    scales = np.array([1, 1, 2, 2][-sizes.dims[0] :], np.float32)
    node.input.append(_constant(around, f"{node.output[0]}/scales", scales))


def _free_shape(around: Graph, node: NodeProto, *, batch: bool) -> Iterator[NodeProto]:
    """Frees the constant shape of a Reshape, and yields the node that must come before it."""
    tensor = around.constants.get(node.input[1]) if len(node.input) == 2 else None
    before = [] if tensor is None else _integers(tensor)
    shape, name = [*before], f"{node.output[0]}/shape"
    if len(shape) == 4 and (source := _before_norm(around, node)):
        node.input[1] = name
        yield helper.make_node("Shape", [source], [name], name=name)
        return
    if shape and min(shape) > 0:
        shape[shape.index(max(shape))] = -1
    if batch and len(shape) > 2 and shape[0] == 1:
        shape[0] = 0  # the batch of its input
    if shape != before:
        node.input[1] = _constant(around, name, np.array(shape, np.int64))


def _before_norm(around: Graph, node: NodeProto) -> str | None:
    """Returns the value before a group norm, if ``node`` is its second reshape."""
    maker, seen = around.makers.get(node.input[0]), 0
    while maker is not None and maker.op_type in _NORMS and maker.input and seen < len(_NORMS):
        maker, seen = around.makers.get(maker.input[0]), seen + 1
    return maker.input[0] if maker is not None and is_node(maker, "Reshape") and maker.input and seen else None


def _integers(tensor: TensorProto) -> list[int]:
    """Returns the values of a small tensor of whole numbers; none if it is another or damaged."""
    if tensor.data_type != TensorProto.INT64 or len(tensor.dims) != 1 or not 0 < tensor.dims[0] <= 4:
        return []
    try:
        return [int(value) for value in numpy_helper.to_array(tensor)]
    except (ValueError, TypeError):  # which the runtime reports
        return []


def _constant(around: Graph, name: str, values: NDArray[np.generic]) -> str:
    around.graph.initializer.append(numpy_helper.from_array(values, name))
    return name
