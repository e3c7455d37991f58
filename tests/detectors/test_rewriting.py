"""Rewritten files: the same faces from fewer steps, and graphs that must stay as they are."""

from __future__ import annotations

import json
import logging
import random
import tempfile
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers import float16

from facedet_mm.detectors.heads import Place
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.openvino import OpenVinoDetector
from facedet_mm.detectors.rewriting import Rewritten, rewrite
from facedet_mm.detectors.rewriting.fusion import Branch, fuse_heads
from facedet_mm.detectors.rewriting.graphs import in_order, rebuild
from facedet_mm.detectors.rewriting.maps import replace_rows_by_maps
from facedet_mm.detectors.rewriting.stem import interleave
from facedet_mm.errors import ModelError
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")


def weight(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(sum(map(ord, name))).normal(0, 0.3, shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def conv(source: str, name: str, channels: int, inside: int, kernel: int = 3, bias: bool = True, **options: Any) -> Any:
    """A convolution and its weights."""
    weights = [weight(f"{name}.w", channels, inside, kernel, kernel)] + [weight(f"{name}.b", channels)] * bias
    options = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, **options}
    return helper.make_node("Conv", [source, *(w.name for w in weights)], [name], **options), weights


def rows(source: str, name: str, values: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """The map of an anchor a cell as rows (N, H * W, values)."""
    shape = numpy_helper.from_array(np.array([0, -1, values]), f"{name}.shape")
    turned = helper.make_node("Transpose", [source], [f"{name}.turned"], perm=[0, 2, 3, 1])
    return [turned, helper.make_node("Reshape", [f"{name}.turned", shape.name], [name])], [shape]


def model_of(nodes: list[NodeProto], weights: list[TensorProto], outputs: list[str], opset: int = 17) -> ModelProto:
    """A checked model from ``image`` (N, 8, H, W)."""
    graph = helper.make_graph(
        nodes,
        "heads",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 8, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def heads(*channels: int, opset: int = 17, bias: bool = True, after: str = "Sigmoid", **options: Any) -> ModelProto:
    """Branches of so many channels, each followed by a node."""
    nodes, weights = [], []
    for i, count in enumerate(channels):
        node, of_node = conv("image", f"conv{i}", count, 8, bias=bias, **options)
        nodes += [node, helper.make_node(after, [f"conv{i}"], [f"out{i}"])]
        weights += of_node
    return model_of(nodes, weights, [f"out{i}" for i in range(len(channels))], opset)


def run(model: ModelProto, batch: int = 2) -> list[np.ndarray]:
    image = np.random.default_rng(3).normal(size=(batch, 8, 12, 20)).astype(np.float32)
    return ort.InferenceSession(model.SerializeToString()).run(None, {"image": image})


def kinds(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def assert_fused(model: ModelProto, convs: int) -> None:
    """Fuses; so many convolutions are left and the outputs stay."""
    before = run(model)
    assert fuse_heads(model)
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model)["Conv"] == convs
    for old, new in zip(before, run(model), strict=True):
        np.testing.assert_allclose(new, old, atol=2e-6)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("bias", [True, False])
def test_branches_of_one_input_become_one_convolution(opset: int, bias: bool) -> None:
    model = heads(2, 8, 20, opset=opset, bias=bias)
    assert_fused(model, convs=1)
    assert kinds(model) == {"Conv": 1, "Split": 1, "Sigmoid": 3}
    assert len(model.graph.initializer) == 2 + (opset >= 13)


def test_a_branch_without_a_bias_has_none_beside_one_that_has() -> None:
    first, weights = conv("image", "out0", 4, 8)
    second, more = conv("image", "out1", 4, 8, bias=False)
    assert_fused(model_of([first, second], weights + more, ["out0", "out1"]), convs=1)


def test_weights_may_be_nodes() -> None:
    model = yunet_like((1, 4))
    for tensor in list(model.graph.initializer):
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    assert_fused(model, convs=2)
    assert kinds(model)["Constant"] == 2  # the shapes of the rows


def plain(*layers: dict[str, Any]) -> ModelProto:
    """Convolutions of the image whose outputs are the model's."""
    made = [conv("image", f"out{i}", **layer) for i, layer in enumerate(layers)]
    weights = [tensor for _, tensors in made for tensor in tensors]
    return model_of([node for node, _ in made], weights, [node.output[0] for node, _ in made])


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(heads(16, 32), id="no block is saved"),
        pytest.param(heads(7), id="one branch"),
        pytest.param(heads(4, 4, after="Relu"), id="an activation that a runtime makes a part of the convolution"),
        pytest.param(plain(*[{"channels": 4, "inside": 4, "group": 2}] * 2), id="groups"),
        pytest.param(plain(*({"channels": 4, "inside": 8, "kernel": k} for k in (1, 3))), id="two kernels"),
        pytest.param(plain(*({"channels": 4, "inside": 8, "strides": [s, s]} for s in (1, 2))), id="two strides"),
    ],
)
def test_what_gains_nothing_or_differs_stays(model: ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    assert not fuse_heads(model)
    assert model.SerializeToString(deterministic=True) == before


def test_one_branch_with_an_activation_keeps_all_apart() -> None:
    model = heads(4, 4, 4)
    node_of(model, "out1").op_type = "Relu"
    assert not fuse_heads(model)


def test_only_those_that_are_alike_are_fused() -> None:
    assert_fused(plain(*({"channels": c, "inside": 8, "kernel": k} for c, k in ((4, 1), (2, 3), (5, 1), (3, 3)))), 2)


def test_weights_that_can_be_replaced_from_outside_stay() -> None:
    model = heads(4, 4)
    model.graph.input.append(helper.make_tensor_value_info("conv0.w", TensorProto.FLOAT, [4, 8, 3, 3]))
    assert not fuse_heads(model)


def test_convolutions_of_a_runtimes_own_kind_stay() -> None:
    model = heads(4, 4)
    for node in model.graph.node:
        node.domain = "com.microsoft.nchwc" if node.op_type == "Conv" else ""
    assert not fuse_heads(model)


def test_a_graph_with_a_body_stays() -> None:
    model = heads(4, 4)
    body = helper.make_graph(
        [helper.make_node("Identity", ["conv0"], ["same"])],
        "body",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["again"], then_branch=body, else_branch=body))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, None))
    before = run(model)
    assert not fuse_heads(model)
    assert all(map(np.array_equal, run(model), before))


def yunet_like(channels: tuple[int, ...], *, anchors: int = 1, also: list[str] | None = None) -> ModelProto:
    """Branches of a pointwise and a depthwise convolution, and rows."""
    nodes, weights = [], []
    for i, count in enumerate(channels):
        dense, dense_weights = conv("image", f"dense{i}", count, 8, kernel=1)
        depth, depth_weights = conv(f"dense{i}", f"depth{i}", count, 1, group=count)
        of_rows, shape = rows(f"depth{i}", f"out{i}", count // anchors)
        nodes += [dense, depth, *of_rows]
        weights += [*dense_weights, *depth_weights, *shape]
    return model_of(nodes, weights, [*(f"out{i}" for i in range(len(channels))), *(also or [])])


def test_depthwise_convolutions_that_follow_are_fused_too() -> None:
    model = yunet_like((1, 1, 4, 10))
    assert_fused(model, convs=2)
    assert kinds(model) == {"Conv": 2, "Split": 1, "Transpose": 4, "Reshape": 4}


def test_where_each_branch_lies_is_told() -> None:
    assert fuse_heads(yunet_like((2, 8, 20))) == {
        "depth0": Branch("depth0/fused", 0, 2),
        "depth1": Branch("depth0/fused", 2, 8),
        "depth2": Branch("depth0/fused", 10, 20),
    }


def node_of(model: ModelProto, output: str) -> NodeProto:
    return next(node for node in model.graph.node if node.output[0] == output)


def change(model: ModelProto, output: str, **attributes: Any) -> None:
    node = node_of(model, output)
    kept = [a for a in node.attribute if a.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in attributes.items())])


def use_dense_twice(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Sigmoid", ["dense1"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["n", 4, "h", "w"]))


def make_dense(model: ModelProto) -> None:
    change(model, "depth1", group=1)
    next(w for w in model.graph.initializer if w.name == "depth1.w").CopyFrom(weight("depth1.w", 4, 4, 3, 3))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda m: change(m, "depth1", dilations=[2, 2], pads=[2] * 4), id="dilation"),
        pytest.param(use_dense_twice, id="another user"),
        pytest.param(make_dense, id="not depthwise"),
    ],
)
def test_branches_that_differ_keep_their_own_nodes(changed: Any) -> None:
    model = yunet_like((1, 4))
    changed(model)
    assert not fuse_heads(model)


def test_a_value_between_that_is_an_output_stays() -> None:
    assert not fuse_heads(yunet_like((1, 4), also=["dense1"]))
    assert_fused(yunet_like((1, 4), also=["depth1"]), convs=2)


def test_optional_inputs_metadata_and_shapes_of_the_file_survive() -> None:
    model = heads(4, 4)
    model.metadata_props.add(key="facedet_mm", value="{}")
    model.graph.initializer.append(weight("free", 1))
    model.graph.input.append(helper.make_tensor_value_info("free", TensorProto.FLOAT, [1]))
    assert fuse_heads(model)
    session = ort.InferenceSession(model.SerializeToString())
    assert [value.name for value in session.get_inputs()] == ["image"]
    assert [value.name for value in session.get_overridable_initializers()] == ["free"]
    assert session.get_modelmeta().custom_metadata_map == {"facedet_mm": "{}"}


def head(
    *levels: tuple[str, ...],
    anchors: int = 2,
    order: tuple[int, ...] = (0, 2, 3, 1),
    sigmoid_first: bool = False,
    factor: float | None = None,
) -> ModelProto:
    """A whole head; a level's outputs are named by what they are: ``score``, ``object``, ``box``, ``marks``."""
    nodes, weights = [], []
    if factor is not None:
        weights.append(numpy_helper.from_array(np.array(factor, np.float32), "factor"))
    outputs = [f"{kind}{i}" for i, level in enumerate(levels) for kind in level]
    for name in outputs:
        i, values = int(name[-1]), {"box": 4, "marks": 10}.get(name[:-1], 1)
        node, of_node = conv("image", f"{name}.map", values * anchors, 8, strides=[2**i] * 2)
        (turned, to_rows), shape = rows(f"{name}.map", f"{name}.rows", values)
        turned.attribute[0].ints[:] = order
        if order[0]:
            shape = [numpy_helper.from_array(np.array([-1, values]), shape[0].name)]
        chain = [node, turned, to_rows]
        if values == 1:
            chain.insert(1 if sigmoid_first else 3, helper.make_node("Sigmoid", ["?"], [f"{name}.sigmoid"]))
        elif factor is not None:
            by = ["?", "factor"] if values == 4 else ["factor", "?"]
            chain.insert(1, helper.make_node("Mul", by, [f"{name}.product"]))
        for before, after in pairwise(chain):
            place = 1 if after.input[0] == "factor" else 0
            after.input[place] = before.output[0]
        chain[-1].output[0] = name
        nodes += chain
        weights += [*of_node, *shape]
    return model_of(nodes, weights, outputs)


def rows_at(place: Place, maps: list[np.ndarray]) -> np.ndarray:
    """The rows (N, H * W * anchors, values) of a place."""
    channels = maps[place.map][:, place.first : place.first + place.anchors * place.values]
    return channels.transpose(0, 2, 3, 1).reshape(len(channels), -1, place.values)


def places_of(model: ModelProto) -> tuple[Place, ...]:
    """Of the model with maps for outputs, which are checked to hold the same."""
    before = run(model)
    places = replace_rows_by_maps(model.graph, fuse_heads(model))
    onnx.checker.check_model(model, full_check=True)
    if not places:
        for old, new in zip(before, run(model), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-5, atol=2e-6)
        return ()
    assert kinds(model).keys() == {"Conv"}
    maps = run(model)
    for place, old in zip(places, before, strict=True):
        values = rows_at(place, maps)
        assert place.shape(maps) == values.shape
        values = 1 / (1 + np.exp(-values)) if place.values == 1 else values
        np.testing.assert_allclose(values.reshape(old.shape), old, atol=5e-6)
    return places


SCRFD = (("score", "box", "marks"),) * 3


@pytest.mark.parametrize("factor", [None, 1.7])
@pytest.mark.parametrize("sigmoid_first", [False, True])
def test_a_head_gives_maps_instead_of_rows(sigmoid_first: bool, factor: float | None) -> None:
    places = places_of(head(*SCRFD, sigmoid_first=sigmoid_first, factor=factor))
    assert places == tuple(Place(i, first, 2, values) for i in range(3) for first, values in ((0, 1), (2, 4), (10, 10)))


@pytest.mark.parametrize(
    ("levels", "anchors"),
    [
        ((("object", "marks", "score", "box"), ("score", "object", "box", "marks")), 1),
        ((("score", "box"),) * 2, 3),
        ((("box", "score", "object"),), 1),
    ],
)
def test_every_kind_of_head_in_any_order(levels: tuple[tuple[str, ...], ...], anchors: int) -> None:
    places = places_of(head(*levels, anchors=anchors))
    assert len(places) == sum(map(len, levels))
    assert {place.anchors for place in places} == {anchors}


def test_rows_without_a_batch_axis_are_those_of_one_image() -> None:
    model = head(*SCRFD, order=(2, 3, 0, 1))
    before = run(model, batch=1)
    places = replace_rows_by_maps(model.graph, fuse_heads(model))
    maps = run(model, batch=1)
    for place, old in zip(places, before, strict=True):
        values = rows_at(place, maps)[0]
        np.testing.assert_allclose(1 / (1 + np.exp(-values)) if place.values == 1 else values, old, atol=5e-6)
    assert len(places) == 9


def forget_the_sides(model: ModelProto) -> None:
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[-1].dim_param = "values"


def factor_of_many(model: ModelProto) -> None:
    model.graph.initializer.append(weight("factors", 1, 8, 1, 1))
    node_of(model, "box0.product").input[1] = "factors"


def put_between(model: ModelProto, output: str, kind: str, **attributes: Any) -> None:
    """A node of this kind before the one that makes ``output``."""
    node = node_of(model, output)
    new = helper.make_node(kind, [node.input[0]], [f"{output}.between"], **attributes)
    node.input[0] = new.output[0]
    model.graph.node.insert([n.output[0] for n in model.graph.node].index(output), new)


def two_boxes(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Reshape", ["box0.rows.turned", "box0.rows.shape"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["n", "rows", 4]))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(forget_the_sides, id="unknown sides"),
        pytest.param(factor_of_many, id="a factor for each channel"),
        pytest.param(lambda m: change(m, "box0.rows.turned", perm=[0, 3, 2, 1]), id="rows by column"),
        pytest.param(lambda m: put_between(m, "score0", "Sigmoid"), id="sigmoid twice"),
        pytest.param(lambda m: put_between(m, "box0", "Sigmoid"), id="sigmoid of boxes"),
        pytest.param(lambda m: put_between(m, "box0.rows.turned", "Exp"), id="another function"),
        pytest.param(lambda m: put_between(m, "box0.rows.turned", "Transpose", perm=[0, 1, 2, 3]), id="turned twice"),
        pytest.param(two_boxes, id="two boxes of a level"),
    ],
)
def test_what_is_more_than_rows_of_a_head_stays(changed: Any) -> None:
    model = head(("score", "box", "marks"), factor=1.7)
    changed(model)
    assert not places_of(model)


def test_a_head_of_which_one_level_lacks_boxes_stays() -> None:
    assert not places_of(head(("score", "box"), ("score", "marks")))


def test_scores_without_a_sigmoid_stay() -> None:
    model = head(("score", "box"))
    sigmoid = node_of(model, "score0")
    sigmoid.op_type = "Identity"
    assert not places_of(model)


def colors(width: int | str, channels: int = 3, **options: Any) -> ModelProto:
    """A first convolution of 3 channels."""
    node, weights = conv("image", "out0", 5, channels, **options)
    graph = helper.make_graph(
        [node],
        "first",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, "h", width])],
        [helper.make_tensor_value_info("out0", TensorProto.FLOAT, [None] * 4)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("width", ["w", 20])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": [2, 2]},
        {"strides": [1, 2], "pads": [0, 1, 2, 3], "dilations": [1, 1]},
        {"kernel": 5, "pads": [0] * 4, "strides": [2, 3], "auto_pad": "NOTSET", "group": 1},
    ],
)
def test_the_first_layer_takes_pixels_as_they_lie(options: dict[str, Any], width: int | str, flip: bool) -> None:
    model = colors(width, **options)
    pixels = np.random.default_rng(0).normal(size=(2, 12, 20, 3)).astype(np.float32)
    planes = np.ascontiguousarray((pixels[..., ::-1] if flip else pixels).transpose(0, 3, 1, 2))
    (before,) = ort.InferenceSession(model.SerializeToString()).run(None, {"image": planes})
    assert interleave(model.graph, flip=flip)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString())
    (after,) = session.run(None, {"image": pixels.reshape(2, 1, 12, 60)})
    np.testing.assert_allclose(after, before, atol=5e-6)
    assert session.get_inputs()[0].shape[1:2] == [1]
    assert session.get_inputs()[0].shape[3] == (60 if width == 20 else "values")


def test_defaults_of_a_convolution_are_widened_too() -> None:
    model = colors("w", kernel=3)
    for name in ("kernel_shape", "pads"):
        change(model, "out0", **{name: [0]})
        model.graph.node[0].attribute.pop()
    pixels = np.random.default_rng(0).normal(size=(1, 9, 8, 3)).astype(np.float32)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    (before,) = ort.InferenceSession(model.SerializeToString()).run(None, {"image": planes})
    assert interleave(model.graph, flip=False)
    (after,) = ort.InferenceSession(model.SerializeToString()).run(None, {"image": pixels.reshape(1, 1, 9, 24)})
    np.testing.assert_allclose(after, before, atol=5e-6)


def look_at_the_input(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Shape", ["image"], ["sides"]))


def share_the_weights(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["out0.w"], ["again"]))


def free_the_weights(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("out0.w", TensorProto.FLOAT, [5, 3, 3, 3]))


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"dilations": [1, 2]}, None),
        ({"dilations": [2, 1]}, None),
        ({"auto_pad": "SAME_UPPER"}, None),
        ({"channels": 4}, None),
        ({"channels": 1}, None),
        ({}, look_at_the_input),
        ({}, share_the_weights),
        ({}, free_the_weights),
        ({}, lambda model: setattr(model.graph.node[0], "op_type", "ConvTranspose")),
    ],
)
def test_a_first_layer_of_another_kind_stays(options: dict[str, Any], changed: Any) -> None:
    model = colors("w", **options)
    if changed:
        changed(model)
    before = model.SerializeToString(deterministic=True)
    assert not interleave(model.graph, flip=False)
    assert model.SerializeToString(deterministic=True) == before


def rewrite_file(path: Path) -> Any:
    return rewrite(path, may_interleave=True)


def test_files_that_cannot_be_rewritten_are_left_to_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    assert rewrite_file(tmp_path / "text.onnx") is None
    empty = heads(4, 4)
    for node in empty.graph.node:
        del node.output[:]
    (tmp_path / "empty.onnx").write_bytes(empty.SerializeToString())
    assert rewrite_file(tmp_path / "empty.onnx") is None
    assert rewrite_file(tmp_path / "gone.onnx") is None
    onnx.save(heads(16, 16), tmp_path / "full.onnx")
    assert rewrite_file(tmp_path / "full.onnx") is None
    large = heads(4, 4)
    large.graph.initializer.append(weight("large", 8, 1, 99, 99))
    large.graph.node.insert(0, helper.make_node("Conv", ["image", "large"], ["before"], group=8, pads=[49] * 4))
    node_of(large, "conv0").input[0] = node_of(large, "conv1").input[0] = "before"
    onnx.save(large, tmp_path / "beside.onnx", save_as_external_data=True, location="weights", size_threshold=99_999)
    assert (tmp_path / "weights").exists()
    assert rewrite_file(tmp_path / "beside.onnx") is None


def tensor(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def resize(model: ModelProto, name: str, *sides: int) -> None:
    tensor(model, name).dims[:] = sides


def resize_kernels(model: ModelProto, *sides: int) -> None:
    for name in ("conv0.w", "conv1.w"):
        resize(model, name, *sides)


def take_fewer_channels(model: ModelProto) -> None:
    tensor(model, "conv0.w").CopyFrom(weight("conv0.w", 4, 4, 3, 3))


def halve_one_branch(model: ModelProto) -> None:
    for name in ("conv0.w", "conv0.b"):
        values = numpy_helper.to_array(tensor(model, name)).astype(np.float16)
        tensor(model, name).CopyFrom(numpy_helper.from_array(values, name))


def make_a_cycle(model: ModelProto) -> None:
    node_of(model, "conv0").input[0] = "out1"
    node_of(model, "conv1").input[0] = "out0"


def make_a_cycle_of_rows(model: ModelProto) -> None:
    node_of(model, "score0.rows").input[0] = "score0.rows"


def make_a_value_twice(model: ModelProto) -> None:
    node_of(model, "conv1").output[0] = "conv0"


def take_what_the_head_gives(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def forget(output: str, *fields: str) -> Any:
    def change(model: ModelProto) -> None:
        for name in fields:
            node_of(model, output).ClearField(name)

    return change


def make_external(model: ModelProto) -> None:
    tensor(model, "conv0.w").data_location = TensorProto.EXTERNAL


def make_an_external_constant(model: ModelProto) -> None:
    value = weight("value", 1)
    value.data_location = TensorProto.EXTERNAL
    model.graph.node.append(helper.make_node("Constant", [], ["constant"], value=value))


@pytest.mark.parametrize(
    "changed",
    [
        make_a_cycle,
        make_a_value_twice,
        make_external,
        make_an_external_constant,
        pytest.param(forget("conv0", "input"), id="no inputs"),
        pytest.param(lambda m: resize(m, "conv0.w", 4), id="kernel of one side"),
        pytest.param(lambda m: resize(m, "conv0.w"), id="kernel of no side"),
        take_fewer_channels,
        halve_one_branch,
        pytest.param(lambda m: resize_kernels(m, 4, 8, 3, 4), id="kernels with too few values"),
        pytest.param(lambda m: resize_kernels(m, 4, 8, -3, -3), id="negative sides"),
        pytest.param(lambda m: resize(m, "conv0.b", 2, 2), id="bias of two sides"),
        pytest.param(lambda m: setattr(tensor(m, "conv0.w"), "data_type", 99), id="unknown type"),
        pytest.param(lambda m: setattr(tensor(m, "conv0.w"), "data_type", TensorProto.FLOAT16), id="half the values"),
        pytest.param(lambda m: tensor(m, "conv0.w").segment.SetInParent(), id="a segment"),
        pytest.param(lambda m: setattr(m.opset_import[0], "version", 9999), id="opset of the future"),
        pytest.param(lambda m: m.ClearField("opset_import"), id="no opset"),
        pytest.param(lambda m: m.ClearField("graph"), id="no graph"),
    ],
)
def test_damaged_branches_stay_as_they_are(changed: Any, tmp_path: Path) -> None:
    model = heads(4, 4)
    changed(model)
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    assert rewrite_file(tmp_path / "odd.onnx") is None


@pytest.mark.parametrize(
    "changed",
    [
        make_a_cycle_of_rows,
        take_what_the_head_gives,
        pytest.param(forget("score0.rows", "input"), id="reshape without inputs"),
        pytest.param(forget("box0.product", "input"), id="product without inputs"),
        pytest.param(lambda m: node_of(m, "box0.product").input.append("factor"), id="product of three"),
        pytest.param(
            lambda m: setattr(tensor(m, "factor"), "data_type", TensorProto.DOUBLE), id="factor without bytes"
        ),
        pytest.param(lambda m: forget("box0.rows.turned", "attribute")(m), id="transpose without order"),
        pytest.param(lambda m: m.graph.ClearField("input"), id="no input"),
        pytest.param(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), id="input without sides"),
        pytest.param(lambda m: m.graph.output[0].ClearField("type"), id="output without a type"),
        pytest.param(
            lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.FLOAT16), id="half outputs"
        ),
        pytest.param(
            lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[-1], "dim_value", -1), id="-1 values"
        ),
        pytest.param(lambda m: m.graph.node.add(op_type="Constant", output=["empty"]), id="constant without a value"),
        pytest.param(lambda m: m.graph.node.add(op_type="Conv"), id="a node without inputs and outputs"),
    ],
)
def test_nothing_is_raised_for_a_damaged_head(changed: Any, tmp_path: Path) -> None:
    model = head(("score", "box", "marks"), factor=1.7)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8
    changed(model)
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    rewritten = rewrite_file(tmp_path / "odd.onnx")
    assert rewritten is None or not rewritten.interleaved


@pytest.mark.parametrize(
    "text",
    ["{", "3", '{"layout": "other"}', '{"layout": ["scrfd"]}', '{"mean": 1}', '{"mean": [0], "std": 1, "to_rgb": 1}'],
)
def test_damaged_metadata_are_left_to_the_detector(text: str, tmp_path: Path) -> None:
    model = onnx.load(YUNET)
    model.metadata_props.add(key="facedet_mm", value=text)
    onnx.save(model, tmp_path / "own.onnx")
    rewritten = rewrite_file(tmp_path / "own.onnx")
    assert rewritten is None or not rewritten.interleaved
    for kind in (OnnxDetector, OpenVinoDetector):
        with pytest.raises(ModelError, match=r"own\.onnx"):
            kind(tmp_path / "own.onnx")


def test_float16_rows_stay_rows() -> None:
    model = float16.convert_float_to_float16(head(*SCRFD))
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {TensorProto.FLOAT16}
    branches = fuse_heads(model)
    assert branches
    assert not replace_rows_by_maps(model.graph, branches)


def test_a_bug_in_the_rewriting_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("facedet_mm.detectors.rewriting.replace_rows_by_maps", broken)
    with pytest.raises(ZeroDivisionError):
        OnnxDetector(YUNET)


def shuffled(model: ModelProto, order: Any) -> ModelProto:
    nodes = [*model.graph.node]
    order(nodes)
    mixed = ModelProto()
    mixed.CopyFrom(model)
    mixed.graph.ClearField("node")
    mixed.graph.node.extend(nodes)
    return mixed


@pytest.mark.parametrize("order", [list.reverse, random.Random(1).shuffle], ids=["reversed", "shuffled"])
def test_nodes_out_of_order_are_sorted_and_none_is_lost(order: Any) -> None:
    plain = yunet_like((1, 4))
    mixed = shuffled(plain, order)
    assert [node.output[0] for node in mixed.graph.node] != [node.output[0] for node in plain.graph.node]
    assert fuse_heads(plain)
    assert fuse_heads(mixed)
    onnx.checker.check_model(mixed, full_check=True)
    assert kinds(mixed) == kinds(plain)
    for old, new in zip(run(plain), run(mixed), strict=True):
        np.testing.assert_allclose(new, old, atol=2e-6)


def test_nodes_in_order_stay_in_theirs() -> None:
    model = onnx.load(YUNET)
    before = [node.output[0] for node in model.graph.node]
    assert [node.output[0] for node in in_order(model.graph.node)] == before
    rebuild(model.graph, model.graph.node)
    assert [node.output[0] for node in model.graph.node] == before


@pytest.mark.parametrize("kind", [OnnxDetector, OpenVinoDetector])
def test_files_of_the_float16_converter_find_nearly_the_same(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that are 0 in float16
        model = float16.convert_float_to_float16(onnx.load(YUNET), keep_io_types=True)
    onnx.save(model, tmp_path / "half.onnx")
    assert rewrite_file(tmp_path / "half.onnx") is not None
    photo = read_image(asset_path("solvay_1927.jpg"))
    more = {"precision": "fp32"} if kind is OpenVinoDetector else {}
    faces, expected = (kind(path, score_thr=0.6, **more).detect(photo) for path in (tmp_path / "half.onnx", YUNET))
    assert len(faces) == len(expected) == 29
    nearest = np.abs(faces.boxes[:, None] - expected.boxes).max(2).argmin(1)
    assert sorted(nearest) == list(range(29))
    np.testing.assert_allclose(faces.boxes, expected.boxes[nearest], atol=1)
    np.testing.assert_allclose(faces.scores, expected.scores[nearest], atol=5e-3)
    assert not caplog.records


class TestAFileWhoseRewrittenFormDoesNotOpen:
    @pytest.fixture(autouse=True)
    def _broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = heads(4, 4)
        node_of(content, "conv0").op_type = "NoSuchOperator"
        broken = Rewritten(content.SerializeToString(), (Place(0, 0, 1, 1),), True)
        monkeypatch.setattr("facedet_mm.detectors.rewriting.rewrite", lambda *_, **__: broken)

    @pytest.mark.parametrize("kind", [OnnxDetector, OpenVinoDetector])
    def test_opens_as_it_is_and_says_so_in_one_line(self, kind: Any, caplog: pytest.LogCaptureFixture) -> None:
        detector = kind(YUNET, score_thr=0.6)
        assert (detector._session.places, detector._session.interleaved) == ((), False)
        assert len(detector.detect(asset_path("solvay_1927.jpg"))) == 29
        (record,) = caplog.records
        message = record.getMessage()
        assert message.startswith(f"{YUNET}: running the file as it is, which is slower")
        assert "NoSuchOperator" in message
        assert "\n" not in message

    def test_is_a_single_line_on_standard_error(self, capfd: pytest.CaptureFixture[str]) -> None:
        root = logging.getLogger()
        handlers, root.handlers = root.handlers, []  # pytest's
        try:
            OnnxDetector(YUNET)
        finally:
            root.handlers = handlers
        assert capfd.readouterr().err.count("\n") == 1

    @pytest.mark.parametrize("kind", [OnnxDetector, OpenVinoDetector])
    def test_is_not_mentioned_if_the_file_itself_is_damaged(
        self, kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "text.onnx").write_text("no model")
        with pytest.raises(ModelError, match=r"text\.onnx is no"):
            kind(tmp_path / "text.onnx")
        assert not caplog.records


def test_a_stem_whose_weights_are_nodes_is_interleaved_too() -> None:
    model = colors("w")
    (kernel,) = [tensor for tensor in model.graph.initializer if tensor.name == "out0.w"]
    kernel = numpy_helper.from_array(numpy_helper.to_array(kernel))  # without a name
    del model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["out0.w"], value=kernel))
    pixels = np.random.default_rng(0).normal(size=(1, 12, 20, 3)).astype(np.float32)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    (before,) = ort.InferenceSession(model.SerializeToString()).run(None, {"image": planes})
    assert interleave(model.graph, flip=False)
    (after,) = ort.InferenceSession(model.SerializeToString()).run(None, {"image": pixels.reshape(1, 1, 12, 60)})
    np.testing.assert_allclose(after, before, atol=5e-6)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "weights/scrfd_500m.onnx",
        "weights/scrfd_500m_bnkps.onnx",
        "weights/scrfd_500m_bnkps_640.onnx",
        "yunet/yunet_n_640_640.onnx",
    ],
)
@pytest.mark.parametrize("may_interleave", [False, True])
def test_real_files_give_the_same_from_half_the_convolutions(
    name: str, may_interleave: bool, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue("data") / name if name else YUNET
    rewritten = rewrite(path, may_interleave=may_interleave)
    assert rewritten is not None
    assert rewritten.interleaved == may_interleave
    yunet = "scrfd" not in name
    before, after = kinds(onnx.load(path)), kinds(onnx.load_from_string(rewritten.content))
    branches = 4 if yunet else 3 if "kps" in name else 2
    assert before["Conv"] - after["Conv"] == 3 * (branches - 1) * (2 if yunet else 1)
    assert not after.keys() & {"Transpose", "Sigmoid", "Split"}
    height, width = (640, 640) if "640" in name else (96, 160)
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, height, width, 3)).astype(np.float32)
    pixels *= 127 if yunet else 1
    planes = np.ascontiguousarray((pixels if yunet else pixels[..., ::-1]).transpose(0, 3, 1, 2))
    blob = pixels.reshape(1, 1, height, -1) if may_interleave else planes
    plain, fast = (ort.InferenceSession(source) for source in (str(path), rewritten.content))
    expected = plain.run(None, {plain.get_inputs()[0].name: planes})
    maps = fast.run(None, {fast.get_inputs()[0].name: blob})
    assert len(rewritten.places) == len(expected) > len(maps) == 3
    for place, old in zip(rewritten.places, expected, strict=True):
        values = rows_at(place, maps)
        values = 1 / (1 + np.exp(-values)) if place.values == 1 else values
        np.testing.assert_allclose(values.reshape(old.shape), old, atol=2e-5)


def test_metadata_say_in_what_order_the_channels_of_a_pixel_come() -> None:
    def stem(**metadata: object) -> np.ndarray:
        model = onnx.load(YUNET)
        model.metadata_props.add(key="facedet_mm", value=json.dumps(metadata))
        onnx.save(model, path)
        graph = onnx.load_from_string(rewrite_file(path).content).graph
        first = next(node for node in graph.node if graph.input[0].name in node.input)
        kernel = next(tensor for tensor in graph.initializer if tensor.name == first.input[1])
        return numpy_helper.to_array(kernel).reshape(16, 3, 3, 3)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.onnx"
        normal = {"mean": [0] * 3, "std": [1] * 3}
        assert np.array_equal(stem(), stem(**normal, to_rgb=False))
        assert np.array_equal(stem()[..., ::-1], stem(**normal, to_rgb=True))
        assert np.array_equal(stem()[..., ::-1], stem(layout="scrfd"))


@pytest.mark.parametrize("kind", [OnnxDetector, OpenVinoDetector])
@pytest.mark.parametrize("name", ["", "weights/scrfd_500m_bnkps.onnx", "yunet/yunet_n_640_640.onnx"])
def test_detectors_find_the_same_with_and_without(
    kind: Any, name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue("data") / name if name else YUNET
    photo = cv2.applyColorMap(read_image(asset_path("solvay_1927.jpg")), cv2.COLORMAP_PINK)
    photos = [photo, photo[:, ::-1], photo[300:900, 200:1500]]
    more = {"precision": "fp32"} if kind is OpenVinoDetector else {}
    fast = kind(path, score_thr=0.1, **more)
    assert fast._session.places
    assert fast._session.interleaved == (kind is OnnxDetector)
    monkeypatch.setattr("facedet_mm.detectors.rewriting.rewrite", lambda *_, **__: None)
    plain = kind(path, score_thr=0.1, **more)
    assert not plain._session.places
    for batch in (False, True):
        found, expected = (d.detect_batch(photos) if batch else [d.detect(p) for p in photos] for d in (fast, plain))
        for faces, others in zip(found, expected, strict=True):
            assert len(faces) == len(others) > 0
            nearest = np.abs(faces.boxes[:, None] - others.boxes).max(2).argmin(1)
            assert sorted(nearest) == list(range(len(others)))
            np.testing.assert_allclose(faces.boxes, others.boxes[nearest], atol=5e-3)
            np.testing.assert_allclose(faces.scores, others.scores[nearest], atol=1e-4)
            np.testing.assert_allclose(faces.landmarks, others.landmarks[nearest], atol=5e-3)
