"""Exported files: what they hold, that they equal the authors' own files, and that a wrong one is never left."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from facedet_mm import cli  # noqa: E402
from facedet_mm.detectors import build_detector  # noqa: E402
from facedet_mm.detectors.preprocess import Normalization, fit, make_blob  # noqa: E402
from facedet_mm.errors import FaceDetError, ModelError  # noqa: E402
from facedet_mm.io.images import read_image  # noqa: E402
from facedet_mm.plugin.apis.build import build_model  # noqa: E402
from facedet_mm.plugin.apis.convert import convert  # noqa: E402
from facedet_mm.plugin.deploy import onnx_export, onnx_graph  # noqa: E402
from facedet_mm.plugin.deploy.onnx_export import export_onnx  # noqa: E402
from facedet_mm.plugin.deploy.onnx_spec import GraphSpec  # noqa: E402
from facedet_mm.plugin.deploy.onnx_verification import verify_export  # noqa: E402
from facedet_mm.zoo import asset_path, config_path  # noqa: E402

STRIDES = (8, 16, 32)
FREE = ("batch", "height", "width")
RGB = Normalization((127.5,) * 3, (128.0,) * 3, to_rgb=True)


@pytest.fixture(scope="module")
def solvay():
    return read_image(asset_path("solvay_1927.jpg"))


@pytest.fixture(scope="module")
def official(data):
    """The authors' own ONNX file."""
    return data / "weights/scrfd_500m_bnkps.onnx"


@pytest.fixture(scope="module")
def checkpoint(data, solvay, tmp_path_factory):
    """The authors' checkpoint of the same model, converted."""
    path = tmp_path_factory.mktemp("checkpoint") / "kps.pth"
    convert(data / "weights/scrfd_500m_bnkps.pth", path, solvay)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """Exports each wanted file once."""
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def export(**options):
        spec = GraphSpec(**options)
        if spec not in made:
            made[spec] = folder / f"{len(made)}.onnx"
            export.results[spec] = export_onnx("scrfd_0.5g_kps", checkpoint, made[spec], spec)
        return made[spec]

    export.results = {}
    return export


def run(path, blob, **options):
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: blob, **options})


def blob_of(image, width, height):
    return make_blob([image], [fit(image.shape[1], image.shape[0], (width, height))], RGB)


def declared(path):
    graph = onnx.load(path).graph
    return {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


def decoded_by_hand(outputs, width):
    """Boxes (A, 4), scores (A,) and landmarks (A, 10) of the authors' raw outputs, cell by cell."""
    boxes, scores, landmarks = [], [], []
    for level, stride in enumerate(STRIDES):
        for row, (score, box, points) in enumerate(zip(*(outputs[level + 3 * k] for k in range(3)), strict=True)):
            cell = row // 2
            x, y = stride * (cell % (width // stride)), stride * (cell // (width // stride))
            boxes.append([x - box[0] * stride, y - box[1] * stride, x + box[2] * stride, y + box[3] * stride])
            landmarks.append([value * stride + (x, y)[i % 2] for i, value in enumerate(points)])
            scores.append(score[0])
    return np.array(boxes), np.array(scores), np.array(landmarks)


@pytest.mark.parametrize(("width", "height"), [(640, 640), (480, 320)])
def test_raw_heads_are_laid_out_and_valued_as_in_the_authors_file(exported, official, solvay, width, height):
    blob = blob_of(solvay, width, height)
    ours, theirs = run(exported(kind="raw"), blob), run(official, blob)
    assert [o.shape for o in ours] == [t.shape for t in theirs]
    assert all(np.allclose(o, t, atol=1e-4) for o, t in zip(ours, theirs, strict=True))


def test_a_head_with_group_norm_and_no_landmarks_equals_the_authors_file(data, solvay, tmp_path):
    theirs = data / "weights/scrfd_500m.onnx"
    convert(theirs, tmp_path / "gn.pth", solvay)
    export_onnx("scrfd_0.5g", tmp_path / "gn.pth", tmp_path / "raw.onnx")
    blob = blob_of(solvay, 640, 640)
    pairs = list(zip(run(tmp_path / "raw.onnx", blob), run(theirs, blob), strict=True))
    assert len(pairs) == 6
    assert all(ours.shape == other.shape and np.allclose(ours, other, atol=1e-4) for ours, other in pairs)
    counts = [
        sum(n.op_type == "InstanceNormalization" for n in onnx.load(p).graph.node)
        for p in (theirs, tmp_path / "raw.onnx")
    ]
    assert counts[0] == counts[1]  # as fast as theirs: what can't be folded is computed as often


@pytest.mark.parametrize("size", [(320, 320), (640, 480), (1280, 1280)])
def test_images_of_a_batch_give_what_each_gives_alone(exported, official, solvay, size):
    images = [solvay[:, 100 * i :] for i in range(8)]
    blob = np.concatenate([blob_of(image, *size) for image in images])
    alone = [run(official, blob[i : i + 1]) for i in range(8)]
    for batch in (1, 2, 8):
        outputs = run(exported(kind="raw", dynamic=FREE), blob[:batch])
        for i in range(batch):
            assert all(np.allclose(o[i], a, atol=2e-4) for o, a in zip(outputs, alone[i], strict=True))


@pytest.mark.parametrize("static", [False, True])
def test_decoded_faces_are_those_decoded_by_hand(exported, official, solvay, static):
    width, height = 384, 256
    blob = blob_of(solvay, width, height)
    spec = dict(size=(width, height)) if static else {}
    boxes, scores, landmarks = run(exported(kind="decoded", **spec), blob)
    expected = decoded_by_hand(run(official, blob), width)
    assert np.allclose(boxes[0], expected[0], atol=2e-3)
    assert np.allclose(scores[0], expected[1], atol=1e-5)
    assert np.allclose(landmarks[0].reshape(-1, 10), expected[2], atol=2e-3)


def test_final_faces_come_best_first_with_their_number_and_zeros_behind(exported, official, solvay):
    blob = np.concatenate(
        [blob_of(solvay, 640, 480), blob_of(solvay[:, :1500], 640, 480), np.zeros((1, 3, 480, 640), "f")]
    )
    boxes, scores, landmarks, counts = run(exported(kind="end2end"), blob)
    detector = build_detector(official, input_size=(640, 480))
    assert boxes.shape == (3, 2000, 4)
    assert landmarks.shape == (3, 2000, 5, 2)
    assert counts.tolist() == [len(detector.detect(solvay)), len(detector.detect(solvay[:, :1500])), 0]
    assert counts[0] > 20
    for i, count in enumerate(counts):
        assert (np.diff(scores[i, :count]) <= 0).all()
        assert (scores[i, :count] > 0.5).all()
        assert not any(values[i, count:].any() for values in (boxes, scores, landmarks))


def test_thresholds_and_image_size_may_be_fed_or_left_out(exported, solvay):
    blob = blob_of(solvay, 640, 640)
    path = exported(kind="end2end")
    session = onnxruntime.InferenceSession(str(path))
    assert [value.name for value in session.get_inputs()] == ["input"]
    at_default = run(path, blob)
    loose = run(path, blob, score_thr=np.float32([0.02]), iou_thr=np.float32([0.9]))
    assert loose[3][0] > 3 * at_default[3][0]
    low = run(path, blob, score_thr=np.float32([0.02]))
    inside = run(path, blob, score_thr=np.float32([0.02]), content_size=np.float32([[640, 463]]))
    assert low[0][0, :, 3].max() > 463
    assert inside[0][0, :, 3].max() == 463
    above = run(path, blob, score_thr=np.float32([0.02]), content_size=np.float32([[640, 200]]))
    boxes = above[0][0, : above[3][0]]
    assert 0 < len(boxes) < low[3][0]
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_max_faces_keeps_the_best_and_small_inputs_have_enough_rows(exported, solvay):
    blob = blob_of(solvay, 320, 320)
    few, many = run(exported(kind="end2end", max_faces=5, size=320), blob), run(exported(kind="end2end"), blob)
    assert few[3].tolist() == [5]
    assert np.allclose(few[1][0], many[1][0, :5], atol=1e-5)
    tiny = run(exported(kind="end2end"), np.zeros((1, 3, 32, 32), "f"))
    assert tiny[0].shape == (1, 2000, 4)
    assert tiny[3].tolist() == [0]


@pytest.mark.parametrize("kind", ["raw", "decoded", "end2end"])
@pytest.mark.parametrize("baked", [False, True])
def test_the_runtime_reads_every_kind_without_being_told(exported, official, solvay, kind, baked):
    sepia = (solvay * (0.7, 0.85, 1)).astype(np.uint8)  # in a gray image swapped channels would not show
    images = [sepia, sepia[:, :1500]]
    expected = build_detector(official, score_thr=0.3, iou_thr=0.45).detect_batch(images)
    detector = build_detector(exported(kind=kind, dynamic=FREE, baked=baked), score_thr=0.3, iou_thr=0.45)
    assert detector.network.batch is None
    found = detector.detect_batch(images)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs) > 10
        # uint8 can't hold the mid-gray of the padding, 127.5
        assert np.allclose(ours.boxes, theirs.boxes, atol=0.2 if baked else 0.01)
        assert np.allclose(ours.scores, theirs.scores, atol=1e-3 if baked else 1e-5)
        assert np.allclose(ours.landmarks, theirs.landmarks, atol=0.2 if baked else 0.01)


@pytest.mark.parametrize("baked", [False, True])
def test_openvino_takes_other_thresholds_than_the_file_has(exported, official, solvay, baked):
    openvino = pytest.importorskip("facedet_mm.detectors.openvino", reason="OpenVINO is not installed")
    path = exported(kind="end2end", dynamic=FREE, baked=baked)
    expected = build_detector(official, score_thr=0.05, iou_thr=0.6).detect(solvay)
    faces = openvino.OpenVinoDetector(path, precision="fp32", score_thr=0.05, iou_thr=0.6).detect(solvay)
    assert len(faces) == len(expected) > 100
    assert np.allclose(faces.scores, expected.scores, atol=1e-3)


def test_fixed_sides_are_declared_as_numbers_and_free_ones_by_name(exported):
    fixed = declared(exported(kind="raw", size=(640, 480)))
    assert fixed["input"] == [1, 3, 480, 640]
    assert fixed["score_8"] == [80 * 60 * 2, 1]
    assert fixed["kps_32"] == [20 * 15 * 2, 10]
    free = declared(exported(kind="raw"))
    assert free["input"] == [1, 3, "height", "width"]
    assert free["bbox_16"] == ["rows_16", 4]
    batch = declared(exported(kind="decoded", dynamic=("batch",), size=320, baked=True))
    assert batch["input"] == ["batch", 320, 320, 3]
    assert batch["boxes"] == ["batch", 4200, 4]
    assert batch["landmarks"] == ["batch", 4200, 5, 2]
    assert declared(exported(kind="end2end"))["scores"] == ["batch", 2000]


@pytest.mark.parametrize("kind", ["raw", "decoded", "end2end"])
def test_a_file_is_opset_17_checked_and_carries_no_shape_of_the_tracing(exported, kind):
    model = onnx.load(exported(kind=kind))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert not model.graph.value_info
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_a_file_says_what_it_is(exported, checkpoint, tmp_path):
    def metadata(path):
        (entry,) = onnx.load(path).metadata_props
        assert entry.key == "facedet_mm"
        return json.loads(entry.value)

    about = metadata(exported(kind="end2end"))
    assert (about["name"], about["kind"], about["layout"]) == ("scrfd_0.5g_kps", "end2end", "scrfd")
    assert (about["strides"], about["num_anchors"]) == ([8, 16, 32], 2)
    assert (about["mean"], about["std"], about["to_rgb"]) == ([127.5] * 3, [128.0] * 3, True)
    assert (about["score_thr"], about["iou_thr"], about["max_faces"]) == (0.5, 0.4, 2000)
    assert about["license"] == "non-commercial research"
    weights = torch.load(checkpoint, weights_only=True)
    torch.save({"state_dict": weights["state_dict"]}, tmp_path / "own.pth")
    export_onnx("scrfd_0.5g_kps", tmp_path / "own.pth", tmp_path / "own.onnx", GraphSpec(size=64), license="MIT")
    assert metadata(tmp_path / "own.onnx")["license"] == "MIT"


def test_the_runtime_takes_mean_and_deviation_from_the_file(exported, tmp_path):
    model = onnx.load(exported(kind="decoded"))
    about = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**about, "mean": [1, 2, 3], "to_rgb": False})
    onnx.save(model, tmp_path / "other.onnx")
    normalization = build_detector(tmp_path / "other.onnx").network.normalization
    assert (normalization.mean, normalization.to_rgb) == ((1, 2, 3), False)


class Spoilt(torch.nn.Module):
    """A graph whose last output is wrong."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def forward(self, *inputs):
        *outputs, last = self.graph(*inputs)
        return [*outputs, last + 1]


@pytest.mark.parametrize("kind", ["raw", "decoded", "end2end"])
def test_a_file_that_differs_from_pytorch_is_not_left(checkpoint, tmp_path, monkeypatch, kind):
    build = onnx_export.build_graph
    monkeypatch.setattr(onnx_export, "build_graph", lambda *args: Spoilt(build(*args)))
    (tmp_path / "model.onnx").write_text("the old file")
    last = {"raw": "kps_32", "decoded": "landmarks", "end2end": "num_faces"}[kind]
    with pytest.raises(ModelError, match=rf"differs from PyTorch on 1 x 320x320: {last} by"):
        export_onnx("scrfd_0.5g_kps", checkpoint, tmp_path / "model.onnx", GraphSpec(kind, size=320))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "the old file"


def test_an_nms_that_keeps_duplicates_is_noticed(checkpoint, tmp_path, monkeypatch):
    finish = onnx_export._finish

    def keep_duplicates(graph, *args):
        finish(graph, *args)
        (threshold,) = (value for value in graph.graph.initializer if value.name == "iou_thr")
        threshold.CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32), "iou_thr"))

    monkeypatch.setattr(onnx_export, "_finish", keep_duplicates)
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export_onnx("scrfd_0.5g_kps", checkpoint, tmp_path / "model.onnx", GraphSpec("end2end", size=320))
    assert not list(tmp_path.iterdir())


def test_swapped_channels_are_noticed_on_a_gray_image(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(
        onnx_graph.FromPixels, "forward", lambda self, x: self.graph((x.permute(0, 3, 1, 2) - 127.5) / 128)
    )
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export_onnx("scrfd_0.5g_kps", checkpoint, tmp_path / "model.onnx", GraphSpec(size=320, baked=True))


def test_every_dynamic_axis_is_compared_at_several_sizes(exported):
    sizes, batches = [(1, (320, 320)), (1, (640, 480)), (1, (1280, 1280))], [(2, (320, 320)), (8, (320, 320))]
    for spec, cases in (
        (dict(kind="decoded"), [*sizes, *batches]),
        (dict(kind="raw"), sizes),
        (dict(kind="raw", size=(640, 480)), [(1, (640, 480))]),
    ):
        exported(**spec)
        assert list(exported.results[GraphSpec(**spec)].verification.cases) == cases


def test_an_output_of_another_shape_than_declared_is_noticed(exported, solvay):
    model = build_model(config_path("scrfd_0.5g_kps")).eval()
    with pytest.raises(ModelError, match=r"declares score_8 as .* and returns \(3200, 1\) on 1 x 320x320"):
        verify_export(exported(kind="raw"), model, GraphSpec("raw", FREE), [solvay])


def test_every_option_of_the_command_reaches_the_export(monkeypatch):
    calls = []

    def record(*values):
        calls.append(values)
        raise FaceDetError("recorded")

    monkeypatch.setattr(onnx_export, "export_onnx", record)
    command = ["export", "scrfd_0.5g_kps", "a.pth", "-o", "model.onnx", "--end2end", "--dynamic", "batch"]
    command += ["--static", "640x480", "--bake-preprocessing", "--score-thr", "0.3", "--iou-thr", "0.6"]
    assert cli.main([*command, "--max-faces", "7", "--license", "MIT", "--images", "a.jpg", "b.jpg"]) == 1
    spec = GraphSpec("end2end", ["batch"], (640, 480), baked=True, score_thr=0.3, iou_thr=0.6, max_faces=7)
    assert calls == [("scrfd_0.5g_kps", "a.pth", Path("model.onnx"), spec, [Path("a.jpg"), Path("b.jpg")], "MIT")]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("weight", 3e38, "score_8"), ("bias", float("nan"), r"cls_convs\.0\.bias has values that are NaN")],
    ids=["overflowing", "NaN"],
)
def test_weights_that_give_no_numbers_are_not_exported(name, value, message, checkpoint, tmp_path):
    weights = torch.load(checkpoint, weights_only=True)
    tensor = weights["state_dict"][f"bbox_head.cls_convs.0.{name}"]
    tensor[:] = value
    if name == "weight":
        tensor[:, ::2] *= -1  # infinity minus infinity
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(ModelError, match=message):
        export_onnx("scrfd_0.5g_kps", tmp_path / "nan.pth", tmp_path / "nan.onnx", GraphSpec(size=64))
    assert not (tmp_path / "nan.onnx").exists()


def test_an_interrupted_export_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_export, "verify_export", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_onnx("scrfd_0.5g_kps", checkpoint, tmp_path / "model.onnx", GraphSpec(size=64))
    assert not list(tmp_path.iterdir())


def test_without_onnxsim_the_file_is_exported_as_it_is(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxsim", None)
    path = tmp_path / "model.onnx"
    assert cli.main(["export", "scrfd_0.5g_kps", str(checkpoint), "-o", str(path), "--static", "64"]) == 0
    printed = capsys.readouterr().out
    assert "pip install onnxsim" in printed
    assert "largest difference" in printed
    assert len(build_detector(path, input_size=64).detect(asset_path("solvay_1927.jpg"))) >= 0


def test_a_missing_package_is_named_with_its_remedy(checkpoint, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "facedet_mm.plugin.deploy.onnx_export", None)
    assert cli.main(["export", "scrfd_0.5g_kps", str(checkpoint), "-o", "model.onnx"]) == 1
    assert "facedet-mm[train]" in capsys.readouterr().err
    assert not Path("model.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dynamic", "depth"], "dynamic axes are batch, height, width, not 'depth'"),
        (["--static", "auto"], "side or (width, height), not 'auto'"),
        (["--static", "640", "--dynamic", "height,width"], "contradicts a dynamic height and width"),
        (["-o", "model.pb"], "must end in .onnx"),
        (["-o", "/dev/null/model.onnx"], "cannot write /dev/null/model.onnx"),
        (["--images", "nowhere.jpg"], "nowhere.jpg"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(checkpoint, tmp_path, capsys, options, message):
    command = ["export", "scrfd_0.5g_kps", str(checkpoint), "-o", str(tmp_path / "model.onnx"), *options]
    assert cli.main(command) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", ["650", "0", "640x100", "big"])
def test_a_size_that_does_not_fit_the_strides_is_a_usage_error(tmp_path, capsys, size):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", "scrfd_0.5g_kps", "kps.pth", "-o", str(tmp_path / "model.onnx"), "--static", size])
    assert "--static" in capsys.readouterr().err


def test_specs_that_no_graph_fits_are_refused(checkpoint, tmp_path):
    for size in (650, 0, (640, 100)):
        with pytest.raises(FaceDetError, match="multiple of 32"):
            export_onnx("scrfd_0.5g_kps", checkpoint, tmp_path / "model.onnx", GraphSpec(size=size))
    for wrong in (dict(kind="nms"), dict(score_thr=2), dict(iou_thr=-1), dict(max_faces=0), dict(dynamic=("depth",))):
        with pytest.raises(FaceDetError, match=next(iter(wrong)).split("_")[0]):
            GraphSpec(**wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        ("scrfd_2.5g_kps", None, "the weights do not fit the config"),
        ("scrfd_9g", None, "unknown model 'scrfd_9g'"),
        ("nowhere.py", None, "no such config file"),
        ("yunet_n", None, "the weights do not fit the config"),
        ("scrfd_0.5g_kps", "nowhere.pth", "no such checkpoint"),
    ],
)
def test_a_model_that_is_not_there_or_does_not_fit_is_named(checkpoint, tmp_path, config, weights, message):
    with pytest.raises(ModelError, match=message):
        export_onnx(config, weights or checkpoint, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_family_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_load", lambda *_: ("retinanet", torch.nn.Module(), {}))
    with pytest.raises(ModelError, match="retinanet: only models with SCRFDHead, YuNetHead or RetinaFaceHead"):
        export_onnx("retinanet", "x.pth", tmp_path / "model.onnx")
