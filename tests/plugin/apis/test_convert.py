"""Official weights: recognized, converted, and equal to what ONNX Runtime gives on the published files."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

import onnx  # noqa: E402
from exported_files import as_maps  # noqa: E402
from model_samples import Malicious, random_model  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

from facedet_mm.errors import ModelError  # noqa: E402
from facedet_mm.io.images import read_image  # noqa: E402
from facedet_mm.plugin.apis.build import build_model  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_checkpoint, load_weights  # noqa: E402
from facedet_mm.plugin.apis.convert import convert  # noqa: E402
from facedet_mm.plugin.apis.official_models import MODELS  # noqa: E402
from facedet_mm.plugin.apis.onnx_comparison import compare_with_onnx  # noqa: E402
from facedet_mm.zoo import asset_path, config_path  # noqa: E402


@pytest.fixture(scope="module")
def image():
    return read_image(asset_path("solvay_1927.jpg"))


class Raw(nn.Module):
    """A model as the authors export it: per stride scores, boxes, landmarks as rows, with or without batch axis."""

    def __init__(self, model, batch_axis):
        super().__init__()
        self.model, self.batch_axis = model, batch_axis

    def forward(self, x):
        cls, boxes, landmarks = self.model(x, mode="tensor")
        rows = [(c.sigmoid(), 1) for c in cls] + [(b, 4) for b in boxes]
        rows += [(k, 10) for k in landmarks if k is not None]
        shape = (1, -1) if self.batch_axis else (-1,)
        return [r.permute(0, 2, 3, 1).reshape(*shape, d) for r, d in rows]


def export(model, path, batch_axis=False, dynamic=True, size=64, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Raw(model, batch_axis).eval(),
            torch.zeros(1, 3, size, size),
            str(path),
            dynamo=False,
            opset_version=11,
            input_names=["input.1"],
            dynamic_axes={"input.1": {2: "h", 3: "w"}} if dynamic else None,
            **kwargs,
        )


def authors_key(key):
    """Name of a tensor in the layout of the authors' code."""
    dw = {"depthwise_conv.conv": "0", "depthwise_conv.bn": "1", "pointwise_conv.conv": "3", "pointwise_conv.bn": "4"}
    mobilenet = "_conv.conv" in key or "_conv.bn" in key
    key = re.sub(r"^backbone\.stages\.(\d)", lambda m: f"backbone.layer{int(m[1]) + 1}", key)
    if key.startswith("backbone.") and mobilenet:
        return re.sub("|".join(dw), lambda m: dw[m[0]], key)
    return key


def authors_state(model):
    """State dict as the authors' code would save it; ResNet and MobileNet stems differ."""
    state = {}
    mobile = any("backbone.stem.1.depthwise" in k for k in model.state_dict())
    strides = ("(8, 8)", "(16, 16)", "(32, 32)")
    for key, value in model.state_dict().items():
        key = authors_key(key)
        if match := re.match(r"backbone\.stem\.(\d)\.(conv|bn)\.(.+)", key):
            i, part = int(match[1]), ("conv", "bn").index(match[2])
            key = f"backbone.stem.{i}.{part}.{match[3]}" if mobile else f"backbone.stem.{3 * i + part}.{match[3]}"
        for ours, theirs in (
            ("towers", "cls_stride_convs"),
            ("cls_convs", "stride_cls"),
            ("reg_convs", "stride_reg"),
            ("landmark_convs", "stride_kps"),
        ):
            if match := re.match(rf"bbox_head\.{ours}\.(\d)\.(.+)", key):
                level = match[1] if model.bbox_head.share_levels else strides[int(match[1])]
                key = f"bbox_head.{theirs}.{level}.{match[2]}"
        state[key] = value
    state["bbox_head.integral.project"] = torch.linspace(0, 8, 9)
    return state


@pytest.mark.parametrize(
    ("source", "reference", "model"),
    [
        ("scrfd_500m_bnkps.pth", "scrfd_500m_bnkps.onnx", "scrfd_0.5g_kps"),
        ("scrfd_500m_bnkps.onnx", "scrfd_500m_bnkps.onnx", "scrfd_0.5g_kps"),
        ("scrfd_500m_bnkps_640.onnx", "scrfd_500m_bnkps.onnx", "scrfd_0.5g_kps"),
        ("scrfd_500m.onnx", "scrfd_500m.onnx", "scrfd_0.5g"),
    ],
)
def test_official_weights_give_what_onnx_runtime_gives_on_the_published_file(
    source, reference, model, data, image, tmp_path
):
    weights = data / "weights"
    result = convert(weights / source, tmp_path / "out.pth", image, weights / reference)
    assert result.model == model
    assert result.faces == 29  # the people in the photograph
    kinds = {"scores", "boxes", "landmarks"} if model.endswith("_kps") else {"scores", "boxes"}
    assert result.differences.keys() == kinds
    # the written file, on a real image of another size, over all 16,800 anchors
    converted = build_model(config_path(model)).eval()
    load_weights(converted, tmp_path / "out.pth")
    crowd = cv2.imread(str(data / "images" / "crowd.jpg"))
    differences = compare_with_onnx(converted, weights / reference, crowd)
    assert max(differences.values()) < 1e-4
    assert load_checkpoint(tmp_path / "out.pth")["meta"]["model"] == model


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_recognized_from_onnx_and_reproduced(name, image, tmp_path):
    model = random_model(name)
    export(model, tmp_path / "m.onnx", batch_axis=name.endswith("_kps"), dynamic=False)
    result = convert(tmp_path / "m.onnx", tmp_path / "m.pth", image)
    assert result.model == name
    assert max(result.differences.values()) < 1e-4
    converted = build_model(config_path(name)).eval()
    load_weights(converted, tmp_path / "m.pth")
    x = torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        for ours, theirs in zip(Raw(converted, True)(x), Raw(model, True)(x), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_recognized_from_the_authors_layout(name, image, tmp_path):
    model = random_model(name)
    torch.save({"meta": {"epoch": 640}, "state_dict": authors_state(model)}, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", tmp_path / "m.pth", image).model == name
    state = load_checkpoint(tmp_path / "m.pth")["state_dict"]
    own = model.state_dict()
    assert state.keys() == own.keys()
    assert all(torch.equal(state[key], own[key]) for key in own)


def test_a_file_with_unfolded_batch_norm_is_converted(image, tmp_path):
    model = random_model("scrfd_0.5g_kps")
    training = torch.onnx.TrainingMode.PRESERVE
    export(model, tmp_path / "m.onnx", training=training, do_constant_folding=False)
    assert any(n.op_type == "BatchNormalization" for n in onnx.load(str(tmp_path / "m.onnx")).graph.node)
    result = convert(tmp_path / "m.onnx", tmp_path / "m.pth", image)
    assert max(result.differences.values()) < 1e-4
    state = load_checkpoint(tmp_path / "m.pth")["state_dict"]
    name = "backbone.stem.0.bn.running_mean"
    assert torch.allclose(state[name], model.state_dict()[name])


def shuffled(path):
    """The same graph with its nodes in another order that can be executed."""
    model, rng = onnx.load(str(path)), random.Random(0)
    known = {i.name for i in [*model.graph.input, *model.graph.initializer]} | {""}
    nodes, rest = [], list(model.graph.node)
    while rest:
        node = rng.choice([n for n in rest if known.issuperset(n.input)])
        rest.remove(node)
        nodes.append(node)
        known.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path))


def with_scales_folded(path):
    """Multiplies each level's scale into a copy of the shared box convolution, as newer simplifiers do."""
    model = onnx.load(str(path))
    graph = model.graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for mul in [n for n in graph.node if n.op_type == "Mul" and values.get(n.input[1], np.zeros(2)).size == 1]:
        conv = next(n for n in graph.node if n.output[0] == mul.input[0])
        for i in (1, 2):
            value = values[conv.input[i]] * values[mul.input[1]]
            conv.input[i] = f"{conv.input[i]}_{mul.output[0]}"
            graph.initializer.append(numpy_helper.from_array(value, conv.input[i]))
        conv.output[0] = mul.output[0]
        graph.node.remove(mul)
    assert not [n for n in graph.node if n.op_type == "Mul" and "scale" in "".join(n.input)]
    onnx.save(model, str(path))


@pytest.mark.parametrize("change", [shuffled, with_scales_folded])
@pytest.mark.parametrize("name", ["scrfd_2.5g", "scrfd_10g_kps"])
def test_what_simplifiers_do_to_a_graph_does_no_harm(name, change, image, tmp_path):
    export(random_model(name), tmp_path / "m.onnx")
    change(tmp_path / "m.onnx")
    result = convert(tmp_path / "m.onnx", tmp_path / "m.pth", image)
    assert result.model == name
    assert max(result.differences.values()) < 1e-4


def test_boxes_in_pixels_are_recognized(image, tmp_path):
    model = random_model("scrfd_0.5g_kps")

    class Pixels(Raw):
        def forward(self, x):
            rows = super().forward(x)
            return [r * s if r.shape[-1] > 1 else r for r, s in zip(rows, (8, 16, 32) * 3, strict=True)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(tmp_path / "p.onnx")
        torch.onnx.export(Pixels(model, False).eval(), torch.zeros(1, 3, 64, 64), path, dynamo=False, opset_version=17)
    assert max(convert(path, tmp_path / "m.pth", image).differences.values()) < 1e-4


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_maps_after_and_before_the_sigmoid_are_converted(sigmoid, channels_last, image, tmp_path):
    export(random_model("scrfd_0.5g_kps"), tmp_path / "rows.onnx")
    maps = as_maps(onnx.load(tmp_path / "rows.onnx"), sigmoid=sigmoid, channels_last=channels_last)
    onnx.save(maps, tmp_path / "maps.onnx")
    result = convert(tmp_path / "maps.onnx", tmp_path / "m.pth", image)
    assert result.model == "scrfd_0.5g_kps"
    assert max(result.differences.values()) < 1e-4


def test_a_model_that_does_not_reproduce_its_source_is_not_written(data, image, tmp_path):
    weights = data / "weights"
    checkpoint = load_checkpoint(weights / "scrfd_500m_bnkps.pth")
    checkpoint["state_dict"]["neck.fpn_convs.0.conv.weight"] *= 1.01
    torch.save(checkpoint, tmp_path / "changed.pth")
    with pytest.raises(ModelError, match="differs from"):
        convert(tmp_path / "changed.pth", tmp_path / "out.pth", image, weights / "scrfd_500m_bnkps.onnx")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("kind", ["yunet", "text", "empty", "missing", "truncated", "tensor list"])
def test_a_file_that_is_no_scrfd_gets_an_error_that_says_what_was_expected(kind, image, tmp_path):
    path = tmp_path / "x.onnx"
    expected = "not a readable ONNX file|not an ONNX file"
    if kind == "yunet":
        path, expected = asset_path("yunet_n_dynamic.onnx"), "not one of the eight SCRFD models .*closest is"
    elif kind == "text":
        path.write_text("no model\n" * 20)
    elif kind == "empty":
        path.touch()
    elif kind == "missing":
        expected = "no such file"
    elif kind == "truncated":
        path.write_bytes((asset_path("yunet_n_dynamic.onnx")).read_bytes()[:200_000])
        expected = "not a readable ONNX file|not one of the eight"
    else:
        path, expected = tmp_path / "x.pth", "was expected"
        torch.save([torch.zeros(3)], path)
    with pytest.raises(ModelError, match=expected):
        convert(path, tmp_path / "out.pth", image)
    assert not (tmp_path / "out.pth").exists()


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, image):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Malicious(tmp_path / "run")}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match="refused"):
        convert(tmp_path / "m.pth", tmp_path / "out.pth", image)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_tool_converts_and_prints_the_differences(root, data, tmp_path):
    weights = data / "weights"
    tool = [sys.executable, root / "tools" / "convert_insightface.py"]
    done = subprocess.run(
        [*tool, weights / "scrfd_500m_bnkps.pth", tmp_path / "a.pth", "--reference", weights / "scrfd_500m_bnkps.onnx"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"largest difference of landmarks: \d\.\d+e-0[5-9]", done.stdout)
    assert "29 faces" in done.stdout
    failed = subprocess.run(
        [*tool, root / "README.md", tmp_path / "b.pth"], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert "README.md" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_attributes_of_arbitrary_objects_cannot_be_reached_from_a_checkpoint(tmp_path):
    class Reach:
        def __reduce__(self):
            return getattr, (np.ndarray, "tofile")

    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Reach()}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match="refused"):
        load_checkpoint(tmp_path / "m.pth")


UNSOUND = {
    "NaN": lambda t: torch.full_like(t, float("nan")),
    "infinite": lambda t: torch.full_like(t, float("inf")),
    "int8": lambda t: t.to(torch.int8),
    "complex": lambda t: t.to(torch.complex64),
    "meta": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_unsound_weights_are_not_written_as_good(kind, image, tmp_path):
    state = authors_state(random_model("scrfd_0.5g"))
    name = "backbone.layer1.0.0.weight"
    state[name] = UNSOUND[kind](state[name])
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"a\.pth: .*(layer1|stages)\.0"):
        convert(tmp_path / "a.pth", tmp_path / "out.pth", image)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_unsound_weights_of_onnx_files_are_not_written_as_good(value, image, tmp_path):
    export(random_model("scrfd_0.5g"), tmp_path / "m.onnx")
    model = onnx.load(str(tmp_path / "m.onnx"))
    weight = next(i for i in model.graph.initializer if len(i.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(np.full(list(weight.dims), value, np.float32), weight.name))
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=r"m\.onnx: .*NaN, infinite"):
        convert(tmp_path / "m.onnx", tmp_path / "out.pth", image)
    assert not (tmp_path / "out.pth").exists()


def test_finite_weights_whose_outputs_overflow_are_not_written_as_good(image, tmp_path):
    state = authors_state(random_model("scrfd_0.5g"))
    state["neck.lateral_convs.0.conv.weight"] = torch.full_like(state["neck.lateral_convs.0.conv.weight"], 3e38)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="network predicts are NaN or infinite"):
        convert(tmp_path / "a.pth", tmp_path / "out.pth", image)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("as_link", [False, True])
def test_the_input_is_not_overwritten(as_link, image, tmp_path):
    torch.save({"state_dict": authors_state(random_model("scrfd_0.5g"))}, tmp_path / "a.pth")
    before = (tmp_path / "a.pth").read_bytes()
    target = tmp_path / "a.pth"
    if as_link:
        target = tmp_path / "b.pth"
        target.symlink_to(tmp_path / "a.pth")
    with pytest.raises(ModelError, match="is also the input"):
        convert(tmp_path / "a.pth", target, image)
    assert (tmp_path / "a.pth").read_bytes() == before


def test_a_reference_whose_input_claims_to_be_huge_is_refused(image, tmp_path):
    torch.save({"state_dict": authors_state(random_model("scrfd_0.5g"))}, tmp_path / "a.pth")
    export(random_model("scrfd_0.5g"), tmp_path / "m.onnx", dynamic=False)
    model = onnx.load(str(tmp_path / "m.onnx"))
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 10**6
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=r"m\.onnx: (its input is 1000000 x 1000000 pixels|ONNX Runtime cannot)"):
        convert(tmp_path / "a.pth", tmp_path / "out.pth", image, tmp_path / "m.onnx")
