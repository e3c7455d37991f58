"""mmdeploy: its graphs, run or worked out node by node, find what PyTorch and ONNX Runtime find in real images."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch")
pytest.importorskip("mmdet")
pytest.importorskip(
    "mmdeploy",
    reason="NEEDS MMDEPLOY: pip install --no-deps mmdeploy==1.3.1, "
    "then pip install aenum grpcio multiprocess prettytable terminaltables six",
)

import mmdeploy
import onnx
import torch
from mmdeploy.core import FUNCTION_REWRITER, RewriterContext
from mmdeploy.core.rewriters.rewriter_utils import collect_env
from mmdeploy.utils import IR, Backend, get_dynamic_axes, get_precision
from onnx import helper, numpy_helper

from facedet_mm import build_detector
from facedet_mm.errors import FaceDetError, ImageError, MissingDependencyError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.plugin.apis.build import build_model, load_config
from facedet_mm.plugin.apis.checkpoint import load_weights
from facedet_mm.plugin.apis.convert import convert
from facedet_mm.plugin.deploy import mmdeploy_calibration, mmdeploy_export, mmdeploy_validation
from facedet_mm.plugin.deploy.mmdeploy_backend import write_sdk_files
from facedet_mm.plugin.deploy.mmdeploy_calibration import write_calibration
from facedet_mm.plugin.deploy.mmdeploy_compare import compare_backend
from facedet_mm.plugin.deploy.mmdeploy_export import deploy
from facedet_mm.plugin.deploy.mmdeploy_graph import fit_configs
from facedet_mm.plugin.deploy.mmdeploy_rewriters import REWRITTEN
from facedet_mm.plugin.deploy.mmdeploy_validation import check_configs, check_device
from facedet_mm.plugin.models.scrfd_head import SCRFDHead
from facedet_mm.structures import Faces
from facedet_mm.zoo import asset_path, config_path

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs" / "deploy"
SOLVAY = asset_path("solvay_1927.jpg")
KPS, PLAIN = config_path("scrfd_0.5g_kps"), config_path("scrfd_0.5g")

TENSORRT_8 = {
    *("Add", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "Div", "Equal", "Expand", "Flatten"),
    *("Gather", "GatherElements", "Greater", "Identity", "Max", "Min", "Mul", "Relu", "Reshape", "Resize", "Shape"),
    *("Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"),
}
"""From the operator table of onnx-tensorrt for TensorRT 8.4, which takes opset 13; Mod is not in it."""


def config(name: str) -> Path:
    return CONFIGS / f"scrfd_{name}.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mmdeploy")


@pytest.fixture(scope="module")
def checkpoint(data, folder):
    convert(data / "weights" / "scrfd_500m_bnkps.pth", folder / "kps.pth", read_image(SOLVAY))
    return folder / "kps.pth"


@pytest.fixture(scope="module")
def model(checkpoint):
    model = build_model(KPS).eval()
    load_weights(model, checkpoint)
    return model


@pytest.fixture(scope="module")
def static(checkpoint, data, folder):
    images = [SOLVAY, data / "images" / "crowd.jpg"]
    return deploy(config("onnxruntime_static-640"), KPS, checkpoint, images, folder / "static", dump_info=True)


@pytest.fixture(scope="module")
def dynamic(checkpoint, folder):
    return deploy(config("onnxruntime_dynamic"), KPS, checkpoint, [SOLVAY], folder / "dynamic", dump_info=True)


@pytest.fixture(scope="module", params=["static-640", "dynamic-320-1280"])
def tensorrt(request, checkpoint, folder):
    """A graph for TensorRT, exported without TensorRT, and whether its shape is open."""
    target = folder / f"tensorrt-{request.param}"
    deploy(config(f"tensorrt_{request.param}"), KPS, checkpoint, [SOLVAY], target, dump_info=True, onnx_only=True)
    return onnx.load(str(target / "end2end.onnx")), request.param != "static-640"


def blob(paths, width, height):
    """(B, 3, height, width) normalized RGB: images squeezed into that shape."""
    images = [cv2.resize(read_image(path), (width, height)) for path in paths]
    return ((np.stack(images)[..., ::-1].astype(np.float32) - 127.5) / 128).transpose(0, 3, 1, 2).copy()


def pytorch_faces(model, inputs):
    """What the PyTorch head predicts for each image of a batch, in pixels of the input, by descending score."""
    head = model.bbox_head
    cfg = dict(score_thr=0.02, nms=dict(type="nms", iou_threshold=0.45), max_per_img=3000)
    metas = [dict(img_shape=inputs.shape[2:], scale_factor=(1.0, 1.0))] * len(inputs)
    with torch.inference_mode():
        outputs = model(torch.from_numpy(inputs), mode="tensor")
        results = head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=head.test_cfg | cfg)
    return [Faces(r.bboxes.numpy(), r.scores.numpy(), r.keypoints.numpy()) for r in results]


def assert_rows_are(expected, dets, landmarks):
    """Rows of a graph's output are these faces, but for the order of equal scores, and beyond them zeros."""
    n = int((dets[:, 4] > 0).sum())
    assert n == len(expected) > 20
    order = np.abs(expected.boxes[:, None] - dets[None, :n, :4]).max(2).argmin(1)
    assert len(set(order.tolist())) == n
    np.testing.assert_allclose(dets[order, :4], expected.boxes, atol=0.01)
    np.testing.assert_allclose(dets[order, 4], expected.scores, atol=1e-5)
    np.testing.assert_allclose(landmarks[order], expected.landmarks, atol=0.01)
    assert (np.diff(dets[:n, 4]) <= 0).all()
    assert not dets[n:].any()
    assert not landmarks[n:].any()


# mmdeploy only warns in its log of a path that leads nowhere


def test_the_rewriter_is_registered_for_the_function_that_exists():
    records = dict(FUNCTION_REWRITER._registry.get_records(collect_env(Backend.ONNXRUNTIME, IR.ONNX)))
    assert REWRITTEN in records
    module, name, method = REWRITTEN.rsplit(".", 2)
    assert getattr(getattr(sys.modules[module], name), method) is SCRFDHead.predict_by_feat


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_the_rewriter_is_applied_inside_the_context_and_gone_after_it(backend):
    original = SCRFDHead.predict_by_feat
    with RewriterContext(cfg=load_config(config("onnxruntime_dynamic")), backend=backend):
        assert SCRFDHead.predict_by_feat is not original
        assert "scrfd_head__predict_by_feat" in SCRFDHead.predict_by_feat.__name__
    assert SCRFDHead.predict_by_feat is original


def test_no_other_module_needs_mmdeploy():
    for path in (ROOT / "facedet_mm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "mmdeploy" or ".mmdeploy_" in name for name in names):
                assert path.name.startswith("mmdeploy_"), path


# configs


def test_there_is_a_config_for_every_back_end_precision_and_shape():
    found = {}
    for path in sorted(CONFIGS.glob("*.py")):
        cfg = load_config(path)
        check_configs(cfg, load_config(KPS))
        inputs = cfg.backend_config.get("model_inputs", [None])[0]
        shapes = inputs and tuple(tuple(shape) for shape in inputs.input_shapes.input.values())
        axes = (get_dynamic_axes(cfg) or {}).get("input")
        assert (axes is None) == (cfg.onnx_config.input_shape == [640, 640])
        found[path.stem] = (cfg.backend_config.type, get_precision(cfg), axes and tuple(axes.values()), shapes)
        settings = cfg.codebase_config.post_processing
        assert min(settings.keep_top_k, settings.max_output_boxes_per_class) > 4 * 709
        assert (settings.score_threshold, settings.iou_threshold) == (0.02, 0.45)
        assert ("calib_config" in cfg) == ("int8" in path.stem)
    fixed = ((1, 3, 640, 640),) * 3
    ranged = ((1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280))
    axes = ("batch", "height", "width")
    assert found == {
        "scrfd_onnxruntime_static-640": ("onnxruntime", "FP32", None, None),
        "scrfd_onnxruntime_dynamic": ("onnxruntime", "FP32", axes, None),
        "scrfd_tensorrt_static-640": ("tensorrt", "FP32", None, fixed),
        "scrfd_tensorrt-fp16_static-640": ("tensorrt", "FP16", None, fixed),
        "scrfd_tensorrt-int8_static-640": ("tensorrt", "INT8", None, fixed),
        "scrfd_tensorrt_dynamic-320-1280": ("tensorrt", "FP32", axes, ranged),
        "scrfd_tensorrt-fp16_dynamic-320-1280": ("tensorrt", "FP16", axes, ranged),
        "scrfd_tensorrt-int8_dynamic-320-1280": ("tensorrt", "INT8", axes, ranged),
    }


# ONNX Runtime, end to end


def test_onnx_runtime_finds_the_faces_and_landmarks_that_the_published_file_gives(static, data):
    detector = build_detector(
        data / "weights" / "scrfd_500m_bnkps_640.onnx", score_thr=0.02, iou_thr=0.45, input_size=640
    )
    for path, count in ((SOLVAY, 29), (data / "images" / "crowd.jpg", 116)):
        expected, found = detector.detect(path), static.faces[Path(path)][1]
        assert (found.scores > 0.5).sum() == count
        n = int((expected.scores > 0.1).sum())
        assert n == (found.scores > 0.1).sum() > count
        assert found.landmarks is not None
        # faces of all but equal scores may come in another order on another CPU
        same = np.abs(found.boxes[:n, None] - expected.boxes[:n]).max(2).argmin(0)
        assert sorted(same) == list(range(n))
        np.testing.assert_allclose(found.scores[same], expected.scores[:n], atol=1e-4)
        np.testing.assert_allclose(found.boxes[same], expected.boxes[:n], atol=0.05)
        np.testing.assert_allclose(found.landmarks[same], expected.landmarks[:n], atol=0.05)


def test_the_differences_from_pytorch_are_small_and_told(static, dynamic):
    for result in (static, dynamic):
        assert set(result.differences) == {"scores", "boxes", "landmarks"}
        assert 0 < result.differences["boxes"] < 0.01
        assert result.differences["scores"] < 1e-5


def test_a_model_directory_holds_everything_and_nothing_half_written(static):
    names = {path.name for path in static.files}
    drawn = {f"{stem}_{what}.jpg" for stem in ("solvay_1927", "crowd") for what in ("pytorch", "onnxruntime")}
    assert names == {"end2end.onnx", "deploy.json", "pipeline.json", "detail.json", *drawn}
    assert all(path.stat().st_size for path in static.files)
    assert not list(static.files[0].parent.parent.glob(".static*"))


@pytest.mark.parametrize("shape", [(320, 320), (480, 352), (1280, 960)])
def test_each_image_of_a_batch_gets_its_own_faces_and_landmarks_at_every_size(dynamic, model, data, shape):
    # few faces beside many: rows are as many as all images together have
    images = [data / "images" / "obama_and_biden.jpg", data / "images" / "crowd.jpg", SOLVAY]
    inputs = blob(images, *shape)
    session = onnxruntime.InferenceSession(str(dynamic.files[0].parent / "end2end.onnx"))
    names = [output.name for output in session.get_outputs()]
    assert names == ["dets", "labels", "landmarks"]
    dets, labels, landmarks = session.run(names, {"input": inputs})
    assert labels.shape == dets.shape[:2] == landmarks.shape[:2]
    for i, expected in enumerate(pytorch_faces(model, inputs)):
        assert_rows_are(expected, dets[i], landmarks[i])
        assert not labels[i][dets[i, :, 4] > 0].any()


def test_a_fixed_graph_takes_one_image_of_640(static, model):
    session = onnxruntime.InferenceSession(str(static.files[0].parent / "end2end.onnx"))
    assert session.get_inputs()[0].shape == [1, 3, 640, 640]
    inputs = blob([SOLVAY], 640, 640)
    dets, _, landmarks = session.run(None, {"input": inputs})
    assert_rows_are(pytorch_faces(model, inputs)[0], dets[0], landmarks[0])


def test_a_model_without_landmarks_has_two_outputs(data, folder):
    weights = data / "weights" / "scrfd_500m.onnx"
    convert(weights, folder / "plain.pth", read_image(SOLVAY))
    result = deploy(
        config("onnxruntime_dynamic"), PLAIN, folder / "plain.pth", [SOLVAY], folder / "plain", dump_info=True
    )
    graph = onnx.load(str(folder / "plain" / "end2end.onnx")).graph
    assert [output.name for output in graph.output] == ["dets", "labels"]
    expected = build_detector(weights, score_thr=0.3, iou_thr=0.45).detect(SOLVAY)
    found = result.faces[Path(SOLVAY)][1]
    found = found[found.scores > 0.3]
    assert found.landmarks is None
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)


# the SDK


def test_the_sdk_fits_images_in_without_distorting_them(static, dynamic):
    for result in (static, dynamic):
        target = result.files[0].parent
        tasks = json.loads((target / "pipeline.json").read_text())["pipeline"]["tasks"]
        steps = {step["type"]: step for step in tasks[0]["transforms"]}
        order = ["LoadImageFromFile", "Resize", "Normalize", "Pad", "DefaultFormatBundle", "Collect"]
        assert list(steps) == order  # padded after normalization: with gray
        assert steps["Resize"] == dict(type="Resize", size=[640, 640], keep_ratio=True)
        assert steps["Pad"] == dict(type="Pad", size_divisor=640)
        assert steps["Normalize"] == dict(type="Normalize", to_rgb=True, mean=[127.5] * 3, std=[128.0] * 3)
        assert tasks[1]["is_batched"] == (result is dynamic)
        assert tasks[2]["component"] == "ResizeBBox"
        assert tasks[2]["params"]["score_thr"] == 0.02
        entry = json.loads((target / "deploy.json").read_text())
        assert entry["task"] == "Detector"
        assert entry["version"] == mmdeploy.__version__ == "1.3.1"
        assert (target / entry["models"][0]["net"]).is_file()
        assert entry["models"][0]["backend"] == "onnxruntime"


@pytest.mark.skipif(find_spec("mmdeploy_runtime") is None, reason="NEEDS MMDEPLOY'S SDK: pip install mmdeploy_runtime")
@pytest.mark.parametrize("which", ["static", "dynamic"])
def test_the_sdk_finds_what_pytorch_finds(which, request):
    result = request.getfixturevalue(which)
    # in a process of its own: it brings an ONNX Runtime of its own
    code = (
        "import sys, json, cv2; from mmdeploy_runtime import Detector; "
        "boxes, *_ = Detector(sys.argv[1], 'cpu', 0)(cv2.imread(sys.argv[2])); "
        "print(json.dumps(boxes[boxes[:, 4] > 0.5].tolist()))"
    )
    command = [sys.executable, "-c", code, str(result.files[0].parent), str(SOLVAY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    expected = result.faces[Path(SOLVAY)][0]
    expected = expected[expected.scores > 0.5]
    assert len(found) == 29
    np.testing.assert_allclose(found[:, 4], expected.scores, atol=1e-4)
    np.testing.assert_allclose(found[:, :4], expected.boxes, atol=0.05)


# TensorRT, without TensorRT


def test_every_node_is_one_that_tensorrt_8_or_the_plugin_library_has(tensorrt):
    model, is_dynamic = tensorrt
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 13, "mmdeploy": 1}
    assert {node.op_type for node in model.graph.node if not node.domain} <= TENSORRT_8
    plugins = [node for node in model.graph.node if node.domain]
    expected = ["GridPriorsTRT"] * 3 * is_dynamic + ["TRTBatchedNMS"]
    assert [node.op_type for node in plugins] == expected
    library = (Path(mmdeploy.__file__).parent / "lib" / "libmmdeploy_tensorrt_ops.so").read_bytes()
    for node in plugins:
        for word in (node.op_type, *(attribute.name for attribute in node.attribute)):
            # the compiler turns shorter words into numbers
            assert len(word) < 8 or b"\0" + word.encode() + b"\0" in library, word


def test_the_nms_node_keeps_enough_faces_and_gives_their_indices(tensorrt):
    graph = tensorrt[0].graph
    (nms,) = [node for node in graph.node if node.op_type == "TRTBatchedNMS"]
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in nms.attribute}
    assert values == dict(
        background_label_id=-1, clip_boxes=0, iou_threshold=pytest.approx(0.45), is_normalized=0, keep_topk=3000,
        num_classes=1, return_index=1, score_threshold=pytest.approx(0.02), topk=5000,
    )  # fmt: skip
    assert len(nms.output) == 3


def test_no_integer_reaches_a_clip_and_every_resize_is_one_that_tensorrt_8_has(tensorrt):
    graph = tensorrt[0].graph
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Clip":
            limits = [numpy_helper.to_array(made_by[name].attribute[0].t) for name in node.input[1:]]
            assert {limit.dtype for limit in limits} == {np.dtype(np.float32)}
        if node.op_type == "Resize":
            assert values["mode"] == b"nearest"
            assert values["nearest_mode"] == b"floor"
            assert values["coordinate_transformation_mode"] == b"asymmetric"


def test_the_ends_of_the_tensorrt_graph(tensorrt):
    model, is_dynamic = tensorrt
    (inputs,) = model.graph.input
    assert shape_of(inputs) == (["batch", 3, "height", "width"] if is_dynamic else [1, 3, 640, 640])
    assert [(output.name, len(shape_of(output))) for output in model.graph.output] == [
        ("dets", 3), ("labels", 2), ("landmarks", 4),
    ]  # fmt: skip


def shape_of(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_the_tensorrt_graph_computes_what_pytorch_computes(tensorrt, model, data):
    graph, is_dynamic = tensorrt
    images = [SOLVAY, data / "images" / "crowd.jpg"][: 1 + is_dynamic]
    inputs = blob(images, *((480, 352) if is_dynamic else (640, 640)))
    dets, labels, landmarks = run_with_plugins(graph, inputs)
    assert dets.shape == (len(inputs), 3000, 5)
    assert landmarks.shape == (len(inputs), 3000, 5, 2)
    for i, expected in enumerate(pytorch_faces(model, inputs)):
        assert_rows_are(expected, dets[i], landmarks[i])
        assert set(labels[i].tolist()) == {0, -1}


def run_with_plugins(model, inputs):
    """Runs a graph in ONNX Runtime, with the plugins' outputs worked out here from what their documentation says."""
    open_graph = onnx.ModelProto()
    open_graph.CopyFrom(model)
    graph = open_graph.graph
    plugins = [node for node in graph.node if node.domain]
    for node in plugins:
        graph.node.remove(node)
        types = [1] if node.op_type == "GridPriorsTRT" else [1, 7, 7]
        for name, kind in zip(node.output, types, strict=True):
            graph.input.append(helper.make_tensor_value_info(name, kind, None))
    results = [output.name for output in graph.output]
    nms = plugins[-1]
    for name in nms.input:
        graph.output.append(helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(open_graph.SerializeToString())
    constants = {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    feeds = {"input": inputs}
    for node in plugins[:-1]:
        stride = helper.get_attribute_value(node.attribute[0])
        base = constants[node.input[0]]
        y, x = np.mgrid[: inputs.shape[2] // stride, : inputs.shape[3] // stride].reshape(2, -1) * stride
        shifts = np.stack([x, y, x, y], 1)[:, None]
        feeds[node.output[0]] = (shifts + base[None]).reshape(-1, 4).astype(np.float32)
    n = len(inputs)
    nothing = (np.zeros((n, 1, 5), np.float32), np.zeros((n, 1), np.int64), np.zeros((n, 1), np.int64))
    boxes, scores = session.run(list(nms.input), feeds | dict(zip(nms.output, nothing, strict=True)))
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in nms.attribute}
    kept = [batched_nms(b[:, 0], s[:, 0], values) for b, s in zip(boxes, scores, strict=True)]
    rows = [np.stack(part) for part in zip(*kept, strict=True)]
    return session.run(results, feeds | dict(zip(nms.output, rows, strict=True)))


def batched_nms(boxes, scores, values):
    """TRTBatchedNMS for one image: rows by descending score, filled up with zeros and the index -1."""
    order = np.argsort(-scores, kind="stable")[: values["topk"]]
    order = order[scores[order] > values["score_threshold"]]
    chosen = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(order) and len(chosen) < values["keep_topk"]:
        best, order = order[0], order[1:]
        chosen.append(best)
        size = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
        overlap = size.clip(0).prod(1)
        order = order[overlap <= values["iou_threshold"] * (areas[best] + areas[order] - overlap)]
    dets, labels = np.zeros((values["keep_topk"], 5), np.float32), np.full(values["keep_topk"], -1)
    index = labels.copy()
    dets[: len(chosen), :4], dets[: len(chosen), 4] = boxes[chosen], scores[chosen]
    labels[: len(chosen)], index[: len(chosen)] = 0, chosen
    return dets, labels, index


def test_the_sdk_gets_the_threshold_of_the_deploy_config(checkpoint, tmp_path):
    deploy_cfg, model_cfg = load_config(config("onnxruntime_dynamic")), load_config(KPS)
    deploy_cfg.codebase_config.post_processing.score_threshold = 0.3
    fit_configs(deploy_cfg, model_cfg)
    write_sdk_files(deploy_cfg, model_cfg, checkpoint, tmp_path)
    tasks = json.loads((tmp_path / "pipeline.json").read_text())["pipeline"]["tasks"]
    assert tasks[2]["params"]["score_thr"] == 0.3


def test_int8_is_calibrated_with_images_from_the_whole_training_set(data, model, tmp_path, monkeypatch):
    loaders = []
    monkeypatch.setattr(mmdeploy_calibration, "CALIBRATION_IMAGES", 3)
    monkeypatch.setattr(mmdeploy_calibration, "create_calib_input_data", lambda *v, **_: loaders.append(v[2]))
    annotations = data / "wider" / "subset" / "wider_face_train_bbx_gt.txt"
    cfg = load_config(KPS)
    cfg.train_dataloader.dataset.ann_file = str(annotations)
    cfg.test_dataloader.dataset.data_root = str(data / "wider")
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    write_calibration(model, cfg, tmp_path / "calib.h5")
    names = [line for line in annotations.read_text().splitlines() if line.endswith(".jpg")]
    dataset = loaders[0].dataset
    found = [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))]
    expected = [names[0], names[len(names) // 3], names[2 * len(names) // 3]]
    assert [path.endswith(name) for path, name in zip(found, expected, strict=True)] == [True] * 3


def test_int8_is_calibrated_with_the_networks_inputs_for_training_images(data, model, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(mmdeploy_calibration, "CALIBRATION_IMAGES", 3)
    cfg = load_config(KPS)
    cfg.train_dataloader.dataset.ann_file = str(data / "wider" / "subset" / "wider_face_train_bbx_gt.txt")
    cfg.test_dataloader.dataset.data_root = str(data / "wider")
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    write_calibration(model, cfg, tmp_path / "calib.h5")
    with h5py.File(tmp_path / "calib.h5") as file:
        inputs = [np.array(value) for _, value in sorted(file["calib_data"]["end2end"]["input"].items())]
    assert [part.shape for part in inputs] == [(1, 3, 640, 640)] * 3
    assert all(-1 <= part.min() < -0.5 and 0.5 < part.max() <= 1 for part in inputs)
    assert not np.array_equal(inputs[0], inputs[2])


# what can go wrong


def test_a_difference_from_pytorch_is_an_error_in_fp32_and_a_figure_below():
    faces = Faces([[10, 10, 50, 60], [100, 10, 150, 80]], [0.9, 0.8])
    moved = Faces([[10, 12, 50, 60], [100, 10, 150, 80]], [0.9, 0.8])
    fp32, fp16 = load_config(config("tensorrt_static-640")), load_config(config("tensorrt-fp16_static-640"))
    with pytest.raises(ModelError, match=r"photo\.jpg: boxes .* differ by up to 2"):
        compare_backend(fp32, {Path("photo.jpg"): (faces, moved)})
    assert compare_backend(fp16, {Path("photo.jpg"): (faces, moved)}) == {"scores": 0.0, "boxes": 2.0}
    for pair in ((faces, faces[:1]), (faces[:1], faces), (faces, faces[:0])):
        with pytest.raises(ModelError, match="differ"):
            compare_backend(fp32, {Path("photo.jpg"): pair})
    assert compare_backend(fp32, {Path("photo.jpg"): (faces[:0], faces[:0])}) == {}


def test_nothing_is_left_of_a_deployment_that_fails(checkpoint, tmp_path, monkeypatch):
    def different(*_):
        raise ModelError("boxes differ")

    monkeypatch.setattr(mmdeploy_export, "compare_backend", different)
    with pytest.raises(ModelError, match="boxes differ"):
        deploy(config("onnxruntime_static-640"), KPS, checkpoint, [SOLVAY], tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(deploy_config="no.py"), ModelError, "no.py: no such config file"),
        (dict(deploy_config=KPS), ModelError, "not a deploy config for faces; use one of configs/deploy"),
        (dict(model_config=config("onnxruntime_dynamic")), ModelError, "not the config of an SCRFD model"),
        (dict(checkpoint="no.pth"), ModelError, "no.pth: no such checkpoint"),
        (dict(images=["no.jpg"]), ImageError, "no.jpg"),
        (dict(model_config=PLAIN), ModelError, "the weights do not fit the config"),
        (dict(deploy_config=config("tensorrt_static-640")), ModelError, "--onnx-only writes the graph"),
        (dict(device="cuda:7"), ModelError, "PyTorch sees [0-7] NVIDIA GPUs"),
        (dict(device="gpu"), ModelError, "must be cpu, cuda or cuda:NUMBER"),
        (dict(work_dir=SOLVAY), FaceDetError, "cannot write .*solvay_1927.jpg: not a folder"),
    ],
)
def test_a_mistake_is_named_and_leaves_nothing(change, error, message, checkpoint, tmp_path):
    arguments = dict(
        deploy_config=config("onnxruntime_static-640"), model_config=KPS, checkpoint=checkpoint, images=[SOLVAY],
        work_dir=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(error, match=message):
        deploy(**arguments | change)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("backend_config.type", "ncnn", "onnxruntime or tensorrt, not 'ncnn'"),
        ("codebase_config.model_type", "end2end", "not a deploy config for faces"),
        ("codebase_config.post_processing.pre_top_k", -1, "keep_top_k <= pre_top_k"),
        ("codebase_config.post_processing.keep_top_k", 100001, "keep_top_k <= pre_top_k"),
        ("onnx_config.input_shape", [640, 480], "must be a square"),
        ("onnx_config.input_shape", [650, 650], "multiples of 32"),
    ],
)
def test_a_deploy_config_that_cannot_work_is_refused(entry, value, message):
    cfg = load_config(config("onnxruntime_static-640"))
    cfg.merge_from_dict({entry: value})
    with pytest.raises(ModelError, match=message):
        check_configs(cfg, load_config(KPS))


def test_a_calibration_config_without_images_is_refused(model, tmp_path):
    with pytest.raises(ModelError, match=r"scrfd_onnxruntime_dynamic\.py: .* val_dataloader"):
        write_calibration(model, load_config(KPS), tmp_path / "calib.h5", config("onnxruntime_dynamic"))
    assert not list(tmp_path.iterdir())


def test_more_boxes_than_the_plugin_takes_are_refused():
    cfg = load_config(config("tensorrt_static-640"))
    cfg.merge_from_dict({"codebase_config.post_processing.pre_top_k": 5121})
    with pytest.raises(ModelError, match="pre_top_k must be 1 to 5120"):
        check_configs(cfg, load_config(KPS))


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ({}, "pip install tensorrt==8.6.1 pycuda"),
        ({"tensorrt": "10.9.0"}, "TensorRT 10.9.0 is installed, mmdeploy 1.3.1 works with TensorRT 8 only"),
    ],
)
def test_what_tensorrt_needs_is_told_before_anything_is_exported(installed, message, monkeypatch):
    if installed:
        monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=installed["tensorrt"]))
    known = dict.fromkeys(["tensorrt", "pycuda", "h5py"] if installed else ["h5py"], True)
    monkeypatch.setattr(mmdeploy_validation, "find_spec", known.get)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MissingDependencyError, match=message):
        check_device(load_config(config("tensorrt-int8_static-640")), "cuda:0", onnx_only=False)
    check_device(load_config(config("tensorrt-int8_static-640")), "cpu", onnx_only=True)


def test_onnx_runtime_without_cuda_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingDependencyError, match="pip install onnxruntime-gpu"):
        check_device(load_config(config("onnxruntime_dynamic")), "cuda:0", onnx_only=False)


def test_without_mmdeploy_the_tool_says_how_to_install_it(tmp_path):
    code = (
        "import sys, runpy; sys.modules['mmdeploy'] = None; sys.argv[0] = 'deploy.py'; "
        f"runpy.run_path({str(ROOT / 'tools' / 'deploy.py')!r}, run_name='__main__')"
    )
    arguments = [config("onnxruntime_dynamic"), KPS, "a.pth", SOLVAY, "--work-dir", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'facedet-mm[mmdeploy]' && pip install --no-deps mmdeploy==1.3.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_tool_deploys_and_tells_the_differences(checkpoint, tmp_path):
    tool = [sys.executable, ROOT / "tools" / "deploy.py", config("onnxruntime_static-640"), KPS]
    arguments = [checkpoint, SOLVAY, "--work-dir", tmp_path / "out"]
    done = subprocess.run([*tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "29 faces above 0.5 in PyTorch, 29 in the backend" in done.stdout
    assert "largest difference of landmarks: " in done.stdout
    assert f"written: {tmp_path / 'out' / 'end2end.onnx'}" in done.stdout
