"""Fused heads: the same outputs from one convolution, and graphs that must stay as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from facedet_mm.detectors.fusion import fuse_heads, read_fused
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.images import read_image
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
    model = yunet_like((1, 4), computed=True)
    for tensor in list(model.graph.initializer):
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    assert_fused(model, convs=2)
    assert kinds(model) == {"Conv": 2, "Transpose": 1, "Reshape": 1, "Split": 1}


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


def yunet_like(
    channels: tuple[int, ...], *, anchors: int = 1, computed: bool = False, also: list[str] | None = None
) -> ModelProto:
    """Branches of a pointwise and a depthwise convolution and rows, whose batch axis may be computed from the map."""
    nodes, weights = [], []
    if computed:
        weights += [numpy_helper.from_array(np.array(0), "first"), numpy_helper.from_array(np.array([0]), "axes")]
    for i, count in enumerate(channels):
        dense, dense_weights = conv("image", f"dense{i}", count, 8, kernel=1)
        depth, depth_weights = conv(f"dense{i}", f"depth{i}", count, 1, group=count)
        of_rows, shape = rows(f"depth{i}", f"out{i}", count // anchors)
        nodes += [dense, depth]
        if computed:
            nodes += [
                helper.make_node("Shape", [f"depth{i}"], [f"shape{i}"]),
                helper.make_node("Gather", [f"shape{i}", "first"], [f"batch{i}"]),
                helper.make_node("Unsqueeze", [f"batch{i}", "axes"], [f"side{i}"]),
                helper.make_node("Concat", [f"side{i}", f"rest{i}"], [f"out{i}.shape"], axis=0),
            ]
            shape = [numpy_helper.from_array(np.array([-1, count]), f"rest{i}")]
        nodes += of_rows
        weights += [*dense_weights, *depth_weights, *shape]
    return model_of(nodes, weights, [*(f"out{i}" for i in range(len(channels))), *(also or [])])


@pytest.mark.parametrize("computed", [False, True])
def test_what_follows_in_all_branches_is_fused_too(computed: bool) -> None:
    model = yunet_like((1, 1, 4, 10), computed=computed)
    assert_fused(model, convs=2)
    assert kinds(model) == {"Conv": 2, "Transpose": 1, "Reshape": 1, "Split": 1}


@pytest.mark.parametrize("by_start", [False, True])
def test_a_shape_from_another_axis_than_the_batch_is_not_taken_for_it(by_start: bool) -> None:
    model = yunet_like((1, 4), computed=True)  # axis 1 has 1 and 4 values, so there are rows of the whole batch
    if by_start:
        for node in model.graph.node:
            node.attribute.extend([helper.make_attribute("start", 1)] if node.op_type == "Shape" else [])
    else:
        index = next(tensor for tensor in model.graph.initializer if tensor.name == "first")
        index.CopyFrom(numpy_helper.from_array(np.array(1), "first"))
    assert_fused(model, convs=2)
    assert kinds(model)["Reshape"] == 2


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


def measure_another_map(model: ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["other"], perm=[1, 0, 2, 3]))
    for i in range(2):
        node_of(model, f"shape{i}").input[0] = "other"


def turn_otherwise(model: ModelProto) -> None:
    for i in range(2):
        change(model, f"out{i}.turned", perm=[2, 3, 0, 1])


@pytest.mark.parametrize(
    ("changed", "computed", "convs"),
    [
        pytest.param(lambda m: change(m, "depth1", dilations=[2, 2], pads=[2] * 4), False, 4, id="dilation"),
        pytest.param(use_dense_twice, False, 4, id="another user"),
        pytest.param(make_dense, False, 4, id="not depthwise"),
        pytest.param(lambda m: change(m, "out1.turned", perm=[0, 3, 2, 1]), False, 2, id="rows by column"),
        pytest.param(lambda m: change(m, "out0", allowzero=1), True, 2, id="0 is no axis to keep"),
        pytest.param(measure_another_map, True, 2, id="shape of another map"),
        pytest.param(turn_otherwise, True, 2, id="the batch is not the first axis"),
    ],
)
def test_branches_that_differ_keep_their_own_nodes(changed: Any, computed: bool, convs: int) -> None:
    model = yunet_like((1, 4), computed=computed)
    changed(model)
    if convs == 2:
        assert_fused(model, convs)
        assert kinds(model)["Reshape"] == 2
        return
    assert not fuse_heads(model)


def test_a_value_between_that_is_an_output_stays() -> None:
    assert not fuse_heads(yunet_like((1, 4), also=["dense1"]))
    model = yunet_like((1, 4), also=["depth1"])
    assert_fused(model, convs=2)
    assert kinds(model)["Transpose"] == 2


def test_rows_of_several_anchors_are_cut_before_they_are_made() -> None:
    model = yunet_like((2, 8), anchors=2)
    assert_fused(model, convs=2)
    assert [output.shape for output in run(model)] == [(2, 480, 1), (2, 480, 4)]


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


def test_files_that_cannot_be_fused_are_left_to_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    assert read_fused(tmp_path / "text.onnx") is None
    empty = heads(4, 4)
    for node in empty.graph.node:
        del node.output[:]
    (tmp_path / "empty.onnx").write_bytes(empty.SerializeToString())
    assert read_fused(tmp_path / "empty.onnx") is None
    assert read_fused(tmp_path / "gone.onnx") is None
    onnx.save(heads(16, 16), tmp_path / "full.onnx")
    assert read_fused(tmp_path / "full.onnx") is None
    large = heads(4, 4)
    large.graph.initializer.append(weight("large", 8, 1, 99, 99))
    large.graph.node.insert(0, helper.make_node("Conv", ["image", "large"], ["before"], group=8, pads=[49] * 4))
    node_of(large, "conv0").input[0] = node_of(large, "conv1").input[0] = "before"
    onnx.save(large, tmp_path / "beside.onnx", save_as_external_data=True, location="weights", size_threshold=99_999)
    assert (tmp_path / "weights").exists()
    assert read_fused(tmp_path / "beside.onnx") is None


@pytest.mark.parametrize("name", ["", "weights/scrfd_500m.onnx", "weights/scrfd_500m_bnkps.onnx"])
def test_real_heads_give_the_same_from_half_the_convolutions(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue("data") / name if name else YUNET
    content = read_fused(path)
    assert content is not None
    before, after = kinds(onnx.load(path)), kinds(onnx.load_from_string(content))
    branches = 4 if not name else 3 if "kps" in name else 2
    assert before["Conv"] - after["Conv"] == 3 * (branches - 1) * (1 if name else 2)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 96, 160)).astype(np.float32) * (1 if name else 127)
    sessions = [ort.InferenceSession(source) for source in (str(path), content)]
    feed = {sessions[0].get_inputs()[0].name: image}
    for old, new in zip(*(session.run(None, feed) for session in sessions), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_detectors_run_the_fused_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_scores(path: Path) -> bytes:
        model = onnx.load_from_string(read_fused(path) or b"")
        names = [node.output[0] for node in model.graph.node if node.op_type == "Sigmoid"]
        assert len(names) == 6
        model.graph.node.extend(helper.make_node("Identity", [f"{name}.low"], [name]) for name in names)
        for node in [node for node in model.graph.node if node.op_type == "Sigmoid"]:
            node.op_type, node.output[0] = "HardSigmoid", f"{node.output[0]}.low"
            node.attribute.extend([helper.make_attribute("alpha", 0.0), helper.make_attribute("beta", 0.1)])
        return model.SerializeToString()

    picture = read_image(asset_path("solvay_1927.jpg"))
    assert len(OnnxDetector(YUNET).detect(picture)) == 30
    monkeypatch.setattr("facedet_mm.detectors.onnx.read_fused", reversed_scores)
    assert len(OnnxDetector(YUNET).detect(picture)) == 0
