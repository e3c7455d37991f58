"""The OpenVINO backend agrees with ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from facedet_mm.detectors import OnnxDetector, build_detector
from facedet_mm.errors import FaceDetError, MissingDependencyError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'facedet-mm[openvino]'")
import openvino as ov  # noqa: E402

from facedet_mm.detectors.openvino import OpenVinoDetector, _capabilities, _core, _keep_edges  # noqa: E402


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


@pytest.mark.parametrize("size", [640, "auto", "original", [320, 640]])
def test_float32_gives_the_faces_of_onnx_runtime(solvay: np.ndarray, size) -> None:
    expected = OnnxDetector(YUNET, input_size=size).detect(solvay)
    faces = OpenVinoDetector(YUNET, input_size=size, precision="fp32").detect(solvay)
    assert len(expected) > 25
    assert np.allclose(faces.boxes, expected.boxes, atol=0.05)
    assert np.allclose(faces.scores, expected.scores, atol=1e-3)
    assert np.allclose(faces.landmarks, expected.landmarks, atol=0.05)


def test_scrfd_in_float32_and_as_fast_as_may_be(data: Path, solvay: np.ndarray) -> None:
    path = data / "weights/scrfd_500m_bnkps.onnx"
    expected = OnnxDetector(path).detect(solvay)
    exact, fast = (OpenVinoDetector(path, precision=p).detect(solvay) for p in ("fp32", None))
    assert np.allclose(exact.boxes, expected.boxes, atol=0.05)
    assert np.allclose(exact.scores, expected.scores, atol=1e-3)
    assert len(fast) == len(expected) == 29
    assert np.abs(np.sort(fast.scores) - np.sort(expected.scores)).max() < 0.05


def test_a_batch_and_threads_give_what_one_call_gives(solvay: np.ndarray) -> None:
    detector = OpenVinoDetector(YUNET, precision="fp32", threads=1)
    images = [solvay[:, :1500], solvay[:, 1500:], solvay] * 3
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(detector.detect, images))
    for faces, batched, expected in zip(threaded, detector.detect_batch(images), alone, strict=True):
        assert np.array_equal(faces.boxes, expected.boxes)
        assert np.allclose(batched.boxes, expected.boxes, atol=0.05)


def test_a_signal_does_not_kill_a_process_whose_detectors_are_gone() -> None:
    code = f"""
import gc, signal
from facedet_mm.detectors.openvino import OpenVinoDetector
first, second = (OpenVinoDetector({str(YUNET)!r}) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("still here"))
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr


def depthwise(model: ov.Model) -> list[ov.Node]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() == "GroupConvolution"]


def weights_of(node: ov.Node) -> np.ndarray:
    source = node.input_value(1).get_node()
    return (source if source.get_type_name() == "Constant" else source.input_value(0).get_node()).data


def edge_finder(kind=np.float32) -> ov.Model:
    """Large weights that add up to 0.003, then another depthwise convolution."""
    filters = np.array([[1.5262, 7.4888, 0.1178, -1.2684, -3.6437, 0.8538, -1.5303, -3.3923, -0.1489]] * 3)
    weights = ov.opset13.constant(filters.reshape(3, 1, 3, 3).astype(kind))
    if kind != np.float32:
        weights = ov.opset13.convert(weights, np.float32)
    weights = ov.opset13.reshape(weights, [3, 1, 1, 3, 3], False)  # as files in ONNX come
    pixels = ov.opset13.parameter([1, 3, 12, 16], np.float32)
    found = ov.opset13.group_convolution(pixels, weights, [2, 1], [1, 0], [2, 1], [1, 2])
    ones = ov.opset13.constant(np.ones((3, 1, 1, 1, 1), np.float32))
    last = ov.opset13.group_convolution(ov.opset13.relu(found), ones, [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.Model([last], [pixels], "edges")


def test_the_first_depthwise_weights_become_sums_that_bfloat16_holds() -> None:
    model = edge_finder()
    whole = weights_of(depthwise(model)[0]).reshape(3, 1, 1, 3, 3).copy()
    _keep_edges(model)
    high, low = (weights_of(node) for node in depthwise(model)[:2])
    assert np.array_equal(high + low, whole)
    assert not (np.ascontiguousarray(high).view(np.uint32) & 0xFFFF).any()
    assert 0 < np.abs(low).max() < np.abs(whole).max() / 128


def test_they_find_what_the_whole_weights_find() -> None:
    pixels = np.random.default_rng(0).normal(0.28, 0.1, (1, 3, 12, 16)).astype(np.float32)
    models = [edge_finder(), edge_finder()]
    _keep_edges(models[1])
    assert [len(depthwise(model)) for model in models] == [2, 3]
    expected, found = (
        ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)[0] for model in models
    )
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_models_without_such_weights_stay_as_they_are() -> None:
    pixels = ov.opset13.parameter([1, 3, 12, 16], np.float32)
    plain = ov.Model([ov.opset13.relu(pixels)], [pixels], "plain")
    half = ov.opset13.parameter([1, 1, 9, 9], np.float16)
    weights = ov.opset13.constant(np.ones((1, 1, 1, 3, 3), np.float16))
    halved = ov.opset13.group_convolution(half, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    for model in (plain, edge_finder(kind=np.float16), ov.Model([halved], [half], "half")):
        before = [op.get_type_name() for op in model.get_ordered_ops()]
        _keep_edges(model)
        assert [op.get_type_name() for op in model.get_ordered_ops()] == before


@pytest.mark.parametrize(
    ("device", "precision", "there", "kept"),
    [
        ("cpu", None, True, True),
        ("cpu", "bf16", True, True),
        ("cpu", "fp32", True, False),
        ("cpu", "fp16", True, False),
        ("cpu", None, False, False),
        ("auto", None, True, False),
    ],
)
def test_edges_are_kept_where_the_arithmetic_is_bfloat16(monkeypatch, device, precision, there, kept) -> None:
    from facedet_mm.detectors import openvino

    calls: list[object] = []
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32", "FP16", "INT8", *["BF16"] * there])
    monkeypatch.setattr(ov.Core, "compile_model", lambda *_: None)
    monkeypatch.setattr(openvino, "_keep_edges", calls.append)
    openvino.OpenVinoSession(YUNET, device, precision, None)
    assert len(calls) == kept


@pytest.mark.parametrize(
    ("file", "expected"),
    [("weights/scrfd_500m_bnkps.onnx", (88.77, 85.99, 67.02)), ("yunet/yunet_n_dynamic.onnx", (87.40, 83.95, 66.78))],
)
def test_average_precision_in_bfloat16_is_that_of_float32(data: Path, average_precision, file: str, expected) -> None:
    if "BF16" not in _capabilities(_core(), "cpu"):
        pytest.skip("NEEDS A CPU WITH BFLOAT16")
    detector = OpenVinoDetector(data / file, precision="bf16", score_thr=0.02, iou_thr=0.45)
    ap = average_precision(detector)
    assert all(value > least - 0.15 for value, least in zip(ap.values(), expected, strict=True)), ap


def test_build_detector_takes_it_for_the_device_openvino() -> None:
    assert isinstance(build_detector(device="openvino"), OpenVinoDetector)
    assert isinstance(build_detector(YUNET, device="openvino:cpu"), OpenVinoDetector)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facedet_mm.detectors.openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'facedet-mm\[openvino\]'"):
        build_detector(device="openvino")


def test_wrong_files_devices_and_values_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"bad\.onnx is not an ONNX or OpenVINO file"):
        OpenVinoDetector(bad)
    with pytest.raises(ModelError, match="no such model file"):
        OpenVinoDetector(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"no device 'npu9x'.*CPU"):
        OpenVinoDetector(YUNET, device="npu9x")
    with pytest.raises(FaceDetError, match="score_thr"):
        OpenVinoDetector(YUNET, score_thr=2)
    with pytest.raises(FaceDetError, match="precision must be one of fp32, fp16, bf16, int8 or None, not 'bf61'"):
        OpenVinoDetector(YUNET, precision="bf61")


def test_metadata_of_our_own_files_is_read(tmp_path: Path) -> None:
    model = onnx.load(str(YUNET))
    model.metadata_props.add(
        key="facedet_mm", value='{"layout": "yunet", "mean": [9, 9, 9], "std": [1, 1, 1], "to_rgb": true}'
    )
    onnx.save(model, str(tmp_path / "own.onnx"))
    network = OpenVinoDetector(tmp_path / "own.onnx").network
    assert network.normalization.mean == (9, 9, 9)
    assert network.normalization.to_rgb


def test_the_precision_is_a_choice_of_the_devices_that_have_one(solvay: np.ndarray) -> None:
    exact = OnnxDetector(YUNET).detect(solvay)
    faces = build_detector(YUNET, device="openvino", precision="fp32").detect(solvay)
    np.testing.assert_allclose(faces.scores, exact.scores, atol=1e-5)
    with pytest.raises(
        FaceDetError, match="device 'cpu' has no choice of precision in ONNX Runtime; device 'openvino'"
    ):
        build_detector(YUNET, precision="fp32")
    with pytest.raises(ModelError, match="precision must be one of fp32, fp16, bf16 or None in OpenVINO, not 'int8'"):
        build_detector(YUNET, device="openvino", precision="int8")


def test_a_precision_that_the_cpu_lacks_is_an_error(monkeypatch) -> None:
    from facedet_mm.detectors import openvino

    monkeypatch.setattr(openvino.ov.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(ModelError, match="OpenVINO's 'cpu' here has no bf16; it has fp32"):
        OpenVinoDetector(YUNET, precision="bf16")
    assert len(OpenVinoDetector(YUNET, precision="fp32").detect(read_image(asset_path("solvay_1927.jpg")))) == 29


def test_a_float16_input_is_named_with_its_remedy(tmp_path: Path) -> None:
    model = onnx.load(YUNET)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "half.onnx")
    with pytest.raises(ModelError, match=r"half\.onnx: its input 'input' is float16.*keep_io_types=True"):
        OpenVinoDetector(tmp_path / "half.onnx")


def test_an_input_of_another_type_is_no_damage(tmp_path: Path) -> None:
    image = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, ["n", 3, "h", "w"]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", image[:1], image[1:])
    onnx.save(onnx.helper.make_model(graph, ir_version=8), tmp_path / "double.onnx")
    with pytest.raises(ModelError, match=r"double\.onnx is not a face detector: its input is .* f64"):
        OpenVinoDetector(tmp_path / "double.onnx")
