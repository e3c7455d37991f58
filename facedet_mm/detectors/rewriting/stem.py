"""The first convolution takes pixels as they lie in memory: no work to part their channels.

A line of W pixels of 3 channels is a line of 3 W values; where a kernel of K columns moves by S pixels, one of 3 K
values moves by 3 S. ONNX Runtime calculates that quicker, too: it sums over one channel at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from facedet_mm.detectors.rewriting.graphs import Conv, Graph

_COLORS = 3


def interleave(graph: GraphProto, *, flip: bool) -> bool:
    """Makes the graph's input (N, 3, H, W) one of (N, 1, H, 3 W), in place; tells whether its first layer allows that.

    Args:
        graph: of one input.
        flip: whether a pixel's channels come in the reverse of the network's order.
    """
    around = Graph(graph)
    weights = {tensor.name for tensor in graph.initializer}
    (source,) = (value for value in graph.input if value.name not in weights)
    users = around.users.get(source.name, [])
    conv = around.conv(users[0]) if len(users) == 1 else None
    if conv is None or not _takes_colors(conv) or len(around.users[conv.weights[0].name]) > 1:
        return False
    kernel = numpy_helper.to_array(conv.weights[0])
    count, _, height, width = kernel.shape
    by_pixel = (kernel[:, ::-1] if flip else kernel).transpose(0, 2, 3, 1).reshape(count, 1, height, width * _COLORS)
    conv.weights[0].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(by_pixel), conv.weights[0].name))
    _widen(conv.node, "kernel_shape", (height, width))
    _widen(conv.node, "strides", (1, 1))
    _widen(conv.node, "pads", (0, 0, 0, 0))
    sides = source.type.tensor_type.shape.dim
    sides[1].dim_value = 1
    if sides[3].HasField("dim_value"):
        sides[3].dim_value *= _COLORS
    else:
        sides[3].dim_param = "values"
    return True


def _takes_colors(conv: Conv) -> bool:
    """Whether it is a plain convolution, in two dimensions, of three channels."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.node.attribute}
    plain = attributes.get("auto_pad", b"NOTSET") == b"NOTSET" and set(attributes.get("dilations", [1])) == {1}
    return plain and conv.groups == 1 and len(conv.weights[0].dims) == 4 and conv.weights[0].dims[1] == _COLORS


def _widen(node: NodeProto, name: str, default: Sequence[int]) -> None:
    """Multiplies every second value of an attribute, those of columns."""
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    values = [*(found.ints if found else default)]
    values[1::2] = [_COLORS * value for value in values[1::2]]
    if found:
        node.attribute.remove(found)
    node.attribute.append(helper.make_attribute(name, values))
