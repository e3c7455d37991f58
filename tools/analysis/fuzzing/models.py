"""ONNX files: YuNet with odd metadata, shapes, types, outputs, weights, or damaged bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.random import Generator
from onnx import ModelProto, TensorProto, helper, numpy_helper

from facedet_mm import build_detector
from facedet_mm.zoo import asset_path
from fuzzing.mutations import mutate_bytes

_ODD = (None, -1, 0, 1e308, float("nan"), [], [0, 0, 0], [-8, 16, 32], "8", {"a": 1}, [8, 16, 32, 64], 10**30, [[8]])
_IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), "uint8")


def read_model(folder: Path, rng: Generator) -> str:
    """Changes the model that comes with the package, opens it and detects faces in noise."""
    model = onnx.load(asset_path("yunet_n_dynamic.onnx"))
    harmless = rng.random() < 0.2
    if harmless:
        _reorder(model, rng)
    else:
        for _ in range(int(rng.integers(1, 3))):
            _CHANGES[int(rng.integers(len(_CHANGES)))](model, rng)
    data = model.SerializeToString()
    if not harmless and rng.random() < 0.2:
        data = mutate_bytes(data, rng)
    path = folder / "model.onnx"
    path.write_bytes(data)
    faces = build_detector(path, score_thr=0.02, input_size=128).detect(_IMAGE)
    if harmless:
        expected = build_detector(score_thr=0.02, input_size=128).detect(_IMAGE)
        if len(faces) != len(expected) or not np.allclose(faces.boxes, expected.boxes, atol=0.1):
            return f"{len(faces)} faces instead of {len(expected)} after the nodes were reordered"
    return ""


def _reorder(model: ModelProto, rng: Generator) -> None:
    nodes = list(model.graph.node)
    order = rng.permutation(len(nodes))
    del model.graph.node[:]
    ready = {value.name for value in [*model.graph.input, *model.graph.initializer]}
    waiting = [nodes[i] for i in order]
    while waiting:
        node = next(n for n in waiting if all(name in ready or not name for name in n.input))
        waiting.remove(node)
        model.graph.node.append(node)
        ready |= set(node.output)


def _metadata(model: ModelProto, rng: Generator) -> None:
    keys = ("strides", "num_anchors", "mean", "std", "to_rgb", "score_thr", "iou_thr", "family", "name", "kind", "size")
    content: object = {str(key): _ODD[int(rng.integers(len(_ODD)))] for key in rng.choice(keys, 3)}
    if rng.random() < 0.2:
        content = _ODD[int(rng.integers(len(_ODD)))]
    text = json.dumps(content) if rng.random() < 0.8 else "{" * int(rng.integers(1, 5000))
    helper.set_model_props(model, {"facedet_mm": text})


def _shape(model: ModelProto, rng: Generator) -> None:
    values = [*model.graph.input, *model.graph.output]
    value = values[int(rng.integers(len(values)))]
    sides = [int(rng.choice([-1, 0, 1, 2, 3, 4, 5, 10, 640, 2**31, 2**40])) for _ in range(int(rng.integers(0, 6)))]
    value.type.tensor_type.ClearField("shape")
    for side in sides:
        value.type.tensor_type.shape.dim.add().dim_value = side


def _type(model: ModelProto, rng: Generator) -> None:
    values = [*model.graph.input, *model.graph.output]
    value = values[int(rng.integers(len(values)))]
    value.type.tensor_type.elem_type = int(rng.integers(0, 20))


def _outputs(model: ModelProto, rng: Generator) -> None:
    outputs = list(model.graph.output)
    del model.graph.output[:]
    chosen = rng.choice(len(outputs), int(rng.integers(0, len(outputs) + 2)))
    model.graph.output.extend(outputs[int(i)] for i in dict.fromkeys(chosen.tolist()))


def _weights(model: ModelProto, rng: Generator) -> None:
    tensor = model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]
    values = np.array(numpy_helper.to_array(tensor))
    if tensor.data_type != TensorProto.FLOAT or not values.size:
        return
    values.flat[int(rng.integers(values.size))] = rng.choice([np.nan, np.inf, -np.inf, 1e38, 0])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _drop_node(model: ModelProto, rng: Generator) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def _attribute(model: ModelProto, rng: Generator) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    node = nodes[int(rng.integers(len(nodes)))]
    attribute = node.attribute[int(rng.integers(len(node.attribute)))]
    if attribute.ints:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = int(rng.choice([-1, 0, 3, 2**20, 2**40]))


_CHANGES = (_metadata, _metadata, _shape, _type, _outputs, _weights, _drop_node, _attribute)
