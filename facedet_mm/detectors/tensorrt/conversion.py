"""Converts ONNX graphs for TensorRT's strongly typed networks, which compute in the types that the graph declares.

TensorRT 11 has no other networks, as the flags for FP16 and INT8 and the calibrators are gone; TensorRT 10 has both.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from facedet_mm.errors import ModelError

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def float_pixels(model: Any) -> Any:
    """Inserts a cast after the graph's uint8 input, the only operation that TensorRT supports on uint8."""
    weights = {tensor.name for tensor in model.graph.initializer}
    (pixels,) = (value.name for value in model.graph.input if value.name not in weights)
    for node in model.graph.node:
        node.input[:] = [f"{pixels}_float" if name == pixels else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Cast", [pixels], [f"{pixels}_float"], to=TensorProto.FLOAT))
    del model.graph.value_info[:]  # it declares the former types
    return model


def half_floats(model: Any) -> Any:
    """Converts a graph to FP16 up to its last convolutions; input, outputs and all that follows them stay float32.

    Boxes in pixels need the precision: above 1024, half floats are whole numbers.
    """
    # Imported here because it takes half a second, and an engine from the cache does not need it.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that are 0 in FP16
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=_after_convolutions(model.graph))
    del half.graph.value_info[:]  # it declares the former types, and sizes that some files do not have
    _skip_detours(half.graph)
    return half


def plain_biases(model: Any) -> Any:
    """Makes the biases of a quantized graph float32: ONNX Runtime's quantizer writes int32, unsupported in TensorRT.

    Raises:
        ModelError: A tensor is quantized with a zero point other than 0, which TensorRT does not support either.
    """
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type in _QUANTIZERS]:
        if any(constants[name].any() for name in node.input[2:3] if name in constants):
            raise ModelError(
                f"{node.name or node.output[0]} has a zero point other than 0, which TensorRT does not support: "
                "quantize with signed 8-bit symmetric activations and weights"
            )
        values, scale = (constants.get(name) for name in node.input[:2])
        if values is not None and scale is not None and values.dtype == np.int32:
            graph.initializer.append(numpy_helper.from_array((values * scale).astype(np.float32), node.output[0]))
            graph.node.remove(node)
    return model


def _skip_detours(graph: Any) -> None:
    """Removes the converter's casts to FP16 and back between nodes that stay float32, and before the outputs."""
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    for cast in casts.values():
        before = casts.get(cast.input[0])
        if before and _target(cast) == TensorProto.FLOAT and _target(before) == TensorProto.FLOAT16:
            cast.input[0] = before.input[0]


def _target(cast: Any) -> int:
    return next(int(attribute.i) for attribute in cast.attribute if attribute.name == "to")


def _after_convolutions(graph: Any) -> list[str]:
    """Returns the names of the nodes that no convolution depends on; nodes without a name get one."""
    names, needed = [], set[str]()
    for index, node in reversed(list(enumerate(graph.node))):
        node.name = node.name or f"node_{index}"
        if node.op_type == "Conv" or needed.intersection(node.output):
            needed.update(node.input)
        else:
            names.append(node.name)
    return names
