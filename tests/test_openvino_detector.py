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
from facedet_mm.images import read_image
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'facedet-mm[openvino]'")
from facedet_mm.detectors.openvino import OpenVinoDetector  # noqa: E402


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
    pictures = [solvay[:, :1500], solvay[:, 1500:], solvay] * 3
    alone = [detector.detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(detector.detect, pictures))
    for faces, batched, expected in zip(threaded, detector.detect_batch(pictures), alone, strict=True):
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
    with pytest.raises(ModelError, match=r"bad\.onnx is no ONNX or OpenVINO file"):
        OpenVinoDetector(bad)
    with pytest.raises(ModelError, match="no such model file"):
        OpenVinoDetector(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"no device 'npu9x'.*CPU"):
        OpenVinoDetector(YUNET, device="npu9x")
    with pytest.raises(FaceDetError, match="score_thr"):
        OpenVinoDetector(YUNET, score_thr=2)
    with pytest.raises(ModelError, match="precision must be one of fp32, fp16, bf16 or None"):
        OpenVinoDetector(YUNET, precision="bf61")  # type: ignore[arg-type]


def test_metadata_of_our_own_files_is_read(tmp_path: Path) -> None:
    model = onnx.load(str(YUNET))
    model.metadata_props.add(
        key="facedet_mm", value='{"layout": "yunet", "mean": [9, 9, 9], "std": [1, 1, 1], "to_rgb": true}'
    )
    onnx.save(model, str(tmp_path / "own.onnx"))
    network = OpenVinoDetector(tmp_path / "own.onnx")._network
    assert network.normalization.mean == (9, 9, 9)
    assert network.normalization.to_rgb


def test_the_precision_is_a_choice_of_the_devices_that_have_one(solvay: np.ndarray) -> None:
    exact = OnnxDetector(YUNET).detect(solvay)
    faces = build_detector(YUNET, device="openvino", precision="fp32").detect(solvay)
    np.testing.assert_allclose(faces.scores, exact.scores, atol=1e-5)
    with pytest.raises(FaceDetError, match="device 'cpu' leaves no choice of precision; 'openvino' and 'trt' do"):
        build_detector(YUNET, precision="fp32")
    with pytest.raises(ModelError, match="precision must be one of fp32, fp16, bf16 or None in OpenVINO, not 'int8'"):
        build_detector(YUNET, device="openvino", precision="int8")


def test_a_precision_that_the_cpu_lacks_is_an_error(monkeypatch) -> None:
    from facedet_mm.detectors import openvino

    monkeypatch.setattr(openvino.ov.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(ModelError, match="OpenVINO's 'cpu' here has no bf16; it has fp32"):
        OpenVinoDetector(YUNET, precision="bf16")
    assert len(OpenVinoDetector(YUNET, precision="fp32").detect(read_image(asset_path("solvay_1927.jpg")))) == 30
