"""The first convolution takes pixels as they lie in memory, so that their channels need not be separated.

A line of W pixels with 3 channels is a line of 3 W values; where a kernel of K columns moves by S pixels, one of 3 K
values moves by 3 S. ONNX Runtime computes that faster, too, because it sums over one channel at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from facedet_mm.detectors.rewriting.graphs import Conv, Graph

_COLORS = 3


def interleave(graph: GraphProto, *, flip: bool) -> bool:
    """Changes the graph's input from (N, 3, H, W) to (N, 1, H, 3 W), in place, if its first layer allows that.

    Args:
        graph: Graph to change.
        flip: Whether the channels of a pixel come in the reverse of the network's order.

    Returns:
        Whether the graph was changed.
    """
    around = Graph(graph)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    users = around.users.get(inputs[0].name, []) if len(inputs) == 1 else []
    conv = around.conv(users[0]) if len(users) == 1 else None
    if conv is None or not _takes_colors(conv) or len(around.users[conv.node.input[1]]) > 1:
        return False
    sides = inputs[0].type.tensor_type.shape.dim
    if len(sides) != 4:
        return False
    kernel = numpy_helper.to_array(conv.weights[0])
    count, _, height, width = kernel.shape
    by_pixel = (kernel[:, ::-1] if flip else kernel).transpose(0, 2, 3, 1).reshape(count, 1, height, width * _COLORS)
    conv.weights[0].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(by_pixel), conv.weights[0].name))
    _widen(conv.node, "kernel_shape", (height, width))
    _widen(conv.node, "strides", (1, 1))
    _widen(conv.node, "pads", (0, 0, 0, 0))
    sides[1].dim_value = 1
    if sides[3].HasField("dim_value"):
        sides[3].dim_value *= _COLORS
    else:
        sides[3].dim_param = "values"
    return True


def _takes_colors(conv: Conv) -> bool:
    """Returns whether it is a plain two-dimensional convolution of three channels."""
    attributes = {attribute.name: attribute for attribute in conv.node.attribute}
    padded = "auto_pad" in attributes and attributes["auto_pad"].s != b"NOTSET"
    dilated = "dilations" in attributes and {*attributes["dilations"].ints} != {1}
    kernel = conv.weights[0].dims
    return not padded and not dilated and conv.groups == 1 and len(kernel) == 4 and kernel[1] == _COLORS


def _widen(node: NodeProto, name: str, default: Sequence[int]) -> None:
    """Triples every second value of an attribute, those that count columns."""
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    values = [*(found.ints if found else default)]
    values[1::2] = [_COLORS * value for value in values[1::2]]
    if found:
        node.attribute.remove(found)
    node.attribute.append(helper.make_attribute(name, values))
