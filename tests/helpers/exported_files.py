"""Model files as others export them: heads as maps, scores before their sigmoid, inputs of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from facedet_mm.detectors.openvino import OpenVinoDetector

_STEPS = ("Reshape", "Transpose", "Sigmoid")


def opened(kind: Any, path: Path, **options: Any) -> Any:
    """Returns a detector of this class, in float32 and with a threshold that does not depend on the file."""
    precision = {"precision": "fp32"} if kind is OpenVinoDetector else {}
    return kind(path, **{"score_thr": 0.5, **precision, **options})


def as_maps(
    model: ModelProto, *, sigmoid: bool, channels_last: bool = False, order: Sequence[int] | None = None
) -> ModelProto:
    """Returns a copy of a raw-output model whose outputs are the maps of its rows.

    Args:
        model: Model whose outputs are rows.
        sigmoid: Whether the scores come after their sigmoid.
        channels_last: Whether the maps are (N, H, W, C).
        order: Order of the outputs.
    """
    model = _copy(model)
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    names = list[str]()
    for output in graph.output:
        score = output.type.tensor_type.shape.dim[-1].dim_value == 1
        name = output.name
        while makers[name].op_type in _STEPS:
            name = makers[name].input[0]
        made = f"{output.name}.map"
        graph.node.append(helper.make_node("Sigmoid" if score and sigmoid else "Identity", [name], [made]))
        if channels_last:
            graph.node.append(helper.make_node("Transpose", [made], [f"{made}.last"], perm=[0, 2, 3, 1]))
            made = f"{made}.last"
        names.append(made)
    _set_outputs(model, [names[i] for i in order or range(len(names))], rank=4)
    return model


def without_sigmoid(model: ModelProto) -> ModelProto:
    """Returns a copy whose scores come before their sigmoid."""
    model = _copy(model)
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Identity"
    return model


def of_one_size(model: ModelProto, width: int, height: int, batch: int = 1) -> ModelProto:
    """Returns a copy whose input has one size, which is written into every Reshape and Resize, as simplifiers do."""
    model = _copy(model)
    graph = model.graph
    for side, value in zip(graph.input[0].type.tensor_type.shape.dim, (batch, 3, height, width), strict=True):
        side.dim_value = value
    del graph.value_info[:]
    rearranged = [node.output[0] for node in graph.node if node.op_type in ("Reshape", "Resize")]
    shapes = _shapes(model, [*rearranged, *(output.name for output in graph.output)])
    for output in list(graph.output):
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shapes[output.name]))
    for node in graph.node:
        if node.op_type in ("Reshape", "Resize"):
            shape = shapes[node.output[0]]
            name = f"{node.output[0]}.baked"
            graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
            resizes = node.op_type == "Resize"  # whose second input, no region, also stands for no scales
            del node.input[2 if resizes else 1 :]
            node.input.extend([node.input[1], name] if resizes else [name])
    return model


def tiny_head(anchors: int, landmarks: bool, maps: bool, scores: float = -3.0) -> ModelProto:
    """Returns a network that predicts from the mean of each cell, with strides of 8, 16 and 32.

    Args:
        anchors: Number of anchors per cell.
        landmarks: Whether there are landmarks.
        maps: Whether the outputs are maps before the sigmoid instead of rows after it.
        scores: Mean of the scores before their sigmoid.
    """
    rng = np.random.default_rng(anchors)
    nodes, weights, outputs = list[NodeProto](), list[TensorProto](), list[str]()
    for stride in (8, 16, 32):
        pooled = f"pooled{stride}"
        nodes.append(
            helper.make_node("AveragePool", ["image"], [pooled], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        for values in (1, 4, 10) if landmarks else (1, 4):
            name, count = f"out{stride}_{values}", anchors * values
            kernel = rng.normal(0, 4 if values == 1 else 0.5, (count, 3, 1, 1)).astype(np.float32)
            bias = np.full(count, scores if values == 1 else 1.5, np.float32)
            weights += [numpy_helper.from_array(kernel, f"{name}.k"), numpy_helper.from_array(bias, f"{name}.b")]
            nodes.append(helper.make_node("Conv", [pooled, f"{name}.k", f"{name}.b"], [f"{name}.conv"]))
            if maps:
                outputs.append(f"{name}.conv")
                continue
            weights.append(numpy_helper.from_array(np.array([0, -1, values]), f"{name}.shape"))
            nodes += [
                helper.make_node("Transpose", [f"{name}.conv"], [f"{name}.turned"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}.turned", f"{name}.shape"], [f"{name}.rows"]),
                helper.make_node("Sigmoid" if values == 1 else "Identity", [f"{name}.rows"], [name]),
            ]
            outputs.append(name)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * (4 if maps else 3)) for name in outputs],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _shapes(model: ModelProto, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of values for the input that the model declares."""
    told = _copy(model)
    _set_outputs(told, list(dict.fromkeys(names)), rank=None)
    session = ort.InferenceSession(told.SerializeToString())
    image = session.get_inputs()[0]
    outputs = session.run(None, {image.name: np.zeros(image.shape, np.float32)})
    return {value.name: output.shape for value, output in zip(session.get_outputs(), outputs, strict=True)}


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _set_outputs(model: ModelProto, names: Sequence[str], rank: int | None) -> None:
    del model.graph.output[:]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, rank and [None] * rank) for name in names]
    model.graph.output.extend(infos)
