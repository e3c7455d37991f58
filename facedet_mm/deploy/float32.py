"""Prepares a network for quantization: float32 throughout, weights as initializers, and a name for every node."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from facedet_mm.detectors.rewriting.graphs import rebuild


def prepare(model: onnx.ModelProto) -> None:
    """Changes a model in place so that ONNX Runtime's quantizer takes it; it computes the same.

    Float16 weights and values become float32, which holds all of them, and the casts between them go. ONNX Runtime's
    quantizer knows only weights that are initializers, and it tells nodes apart by their names.
    """
    graph = model.graph
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)
    _move_constants(graph)
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}_unnamed"
    rebuild(graph, list(graph.node))  # the float16 converter leaves nodes out of order
    if half:
        _widen(graph)
        _skip_casts(model)


def _move_constants(graph: onnx.GraphProto) -> None:
    for node in [node for node in graph.node if node.op_type == "Constant" and len(node.output) == 1]:
        for attribute in node.attribute:
            if attribute.name == "value":
                tensor = graph.initializer.add()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                graph.node.remove(node)
                break


def _widen(graph: onnx.GraphProto) -> None:
    """Makes every float16 tensor and value float32."""
    del graph.value_info[:]  # it declares the former types
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
                values = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def _skip_casts(model: onnx.ModelProto) -> None:
    """Removes casts of float32 values to float32: those of the input, of initializers and of other casts' results.

    Only casts to float32 whose source is a float are removed; the source of any other may be an integer.
    """
    graph = model.graph
    graph_outputs = {value.name for value in graph.output}
    floats = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    inferred = onnx.shape_inference.infer_shapes(model)
    floats |= {v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    instead = dict[str, str]()
    for node in list(graph.node):
        node.input[:] = [instead.get(name, name) for name in node.input]
        to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
        if node.op_type != "Cast" or to != TensorProto.FLOAT or node.input[0] not in floats:
            continue
        if node.output[0] in graph_outputs:
            node.op_type = "Identity"
            del node.attribute[:]
        else:
            instead[node.output[0]] = node.input[0]
            graph.node.remove(node)
