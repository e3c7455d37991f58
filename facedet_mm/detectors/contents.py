"""Checks of what an ONNX file holds, before anything in it runs: no loops, and no weights that are not numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from facedet_mm.errors import ModelError

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
_TAKE_INFINITY = frozenset({"Clip", "Min", "Max", "Where", "Pad", "Less", "Greater", "Equal", "ReduceMax", "ReduceMin"})
"""Operators for which an infinite constant is a limit or a filler, not a weight."""


_WINDOWS = frozenset({"dilations", "kernel_shape", "output_padding", "output_shape", "pads", "strides"})
"""Attributes of convolutions and pooling that say how many pixels a window or its border has."""
_LARGEST_WINDOW = 4096


def read_onnx(path: Path) -> onnx.ModelProto | None:
    """Returns the content of an ONNX file, or ``None`` if it can't be read as one; why, the runtime reports."""
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except (OSError, DecodeError):
        return None


def check_contents(path: Path, model: onnx.ModelProto) -> None:
    """Refuses a file that could run forever or can't give numbers.

    A loop may take any number of steps, a border of a million pixels takes all memory, and no signal interrupts a
    runtime; detectors need neither.

    Raises:
        ModelError: There is a loop or a huge window, or a weight is NaN or infinite; the message names the node or the
            tensor. Or the images must be float16.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in weights and value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            raise ModelError(
                f"{path}: its input {value.name!r} is float16, images come as float32: convert the file with "
                "keep_io_types=True, which leaves all inside in float16"
            )
    nodes = list[NodeProto]()
    tensors = list[tuple[str, TensorProto]]()
    for graph in _graphs(model):
        nodes.extend(graph.node)
        tensors.extend((tensor.name, tensor) for tensor in graph.initializer)
        tensors.extend((tensor.values.name, tensor.values) for tensor in graph.sparse_initializer)
    for function in model.functions:
        nodes.extend(function.node)
    users = dict[str, set[str]]()
    for node in nodes:
        if node.op_type != "If" and any(_has_body(attribute) for attribute in node.attribute):
            raise ModelError(
                f"{path} has a loop ({node.op_type} {node.name or '/'.join(node.output)}), which may never end; "
                "export the network without loops"
            )
        for name in node.input:
            users.setdefault(name, set()).add(node.op_type)
        for attribute in node.attribute:
            if attribute.name in _WINDOWS and any(abs(value) > _LARGEST_WINDOW for value in attribute.ints):
                raise ModelError(
                    f"{path} is damaged: {node.op_type} {node.name or '/'.join(node.output)} has {attribute.name} "
                    f"{list(attribute.ints)}, above {_LARGEST_WINDOW} pixels; export or download the file again"
                )
            if attribute.HasField("t"):
                tensors.append((node.output[0] if node.output else node.name, attribute.t))
    for name, tensor in tensors:
        fault = _fault(tensor, users.get(name, set()))
        if fault:
            raise ModelError(f"{path} is damaged: its weights {name!r} {fault}; export or download the file again")


def _graphs(model: onnx.ModelProto) -> Iterator[GraphProto]:
    """Yields the graph, and those that are branches of its nodes."""
    waiting = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    waiting += [graph for node in nodes for attribute in node.attribute for graph in _bodies(attribute)]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend(_bodies(attribute))


def _bodies(attribute: AttributeProto) -> list[GraphProto]:
    return [attribute.g, *attribute.graphs] if attribute.HasField("g") else [*attribute.graphs]


def _has_body(attribute: AttributeProto) -> bool:
    return attribute.HasField("g") or len(attribute.graphs) > 0


def _fault(tensor: TensorProto, users: set[str]) -> str:
    """Returns what is wrong with the values of a tensor; empty if nothing is, or if they can't be read."""
    if tensor.data_type not in _FLOATS or tensor.data_location == TensorProto.EXTERNAL:
        return ""
    try:
        values = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, AttributeError, OverflowError):  # a damaged tensor, which the runtime reports
        return ""
    if np.isfinite(values).all():
        return ""
    if np.isnan(values).any():
        return "have values that are not numbers (NaN)"
    return "" if users and users <= _TAKE_INFINITY else "have infinite values"
