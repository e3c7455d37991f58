"""The benchmarks measure what they say, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from facedet_mm import build_detector
from facedet_mm.benchmark.backends import BACKENDS, Backend, Job, backends_for, measure_job
from facedet_mm.datasets.ground_truth import SETTINGS
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.report.plots import plot_speed
from facedet_mm.zoo import asset_path

YUNET, SOLVAY = asset_path("yunet_n_dynamic.onnx"), asset_path("solvay_1927.jpg")
ONNX_CPU = Backend("ONNX Runtime", "cpu", "fp32")
JOB = Job(ONNX_CPU, str(YUNET), None, 320, 2, (str(SOLVAY),), seconds=0.01)


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/benchmark.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory) -> tuple[Path, Path]:
    """A ground truth whose faces are those that YuNet finds at 640, and its only image."""
    folder = tmp_path_factory.mktemp("annotated")
    path = folder / "images" / "0--Party" / "solvay.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(SOLVAY.read_bytes())
    boxes = build_detector(input_size=640).detect(SOLVAY).boxes
    wide = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    def nest(value: object) -> np.ndarray:
        cell = np.empty((1, 1), object)
        cell[0, 0] = value
        return cell

    truth = folder / "ground_truth"
    truth.mkdir()
    names = dict(event_list=nest("0--Party"), file_list=nest(nest("solvay")), face_bbx_list=nest(nest(wide)))
    savemat(truth / "wider_face_val.mat", names)
    kept = np.arange(1, len(boxes) + 1)[:, None]
    for setting in SETTINGS:
        savemat(truth / f"wider_{setting}_val.mat", {**names, "gt_list": nest(nest(kept))})
    return truth, folder / "images"


def test_a_file_is_run_by_the_backends_of_its_kind(tmp_path: Path) -> None:
    quantized = tmp_path / "int8.onnx"
    quantized.write_bytes(b"... DequantizeLinear ...")
    kinds = {path: {(b.kind, b.precision == "int8") for b in backends_for(path)} for path in (YUNET, quantized)}
    assert kinds == {YUNET: {("onnx", False)}, quantized: {("onnx", True)}}
    checkpoint = tmp_path / "last.pth"
    checkpoint.touch()
    assert {str(backend) for backend in backends_for(checkpoint)} == {"PyTorch cpu fp32", "PyTorch cuda fp32"}
    total = sum(len(backends_for(path)) for path in (YUNET, quantized, checkpoint))
    assert total == len(BACKENDS)
    with pytest.raises(ModelError, match=r"gone\.onnx: No such file"):
        backends_for(tmp_path / "gone.onnx")


def test_the_figures_of_a_row_belong_together(annotated: tuple[Path, Path]) -> None:
    truth, images = annotated
    row = measure_job(replace(JOB, size=640, annotations=str(truth), images=str(images)))
    assert row["calls"] >= 20
    assert 0.1 < row["p50_ms"] <= row["p99_ms"]
    assert row["images_per_second"] == pytest.approx(2e3 / row["mean_ms"])
    assert 50 < row["memory_mb"] < 1000
    assert row["gpu_mb"] is None
    assert row["ap"] == dict.fromkeys(SETTINGS, pytest.approx(100, abs=0.1))
    small = measure_job(replace(JOB, size=64, annotations=str(truth), images=str(images)))
    assert small["p50_ms"] < row["p50_ms"]
    assert small["ap"]["hard"] < 50


@pytest.mark.slow
def test_more_images_a_call_take_longer_and_more_memory() -> None:
    few, many = (measure_job(replace(JOB, batch=batch)) for batch in (1, 16))
    assert many["p50_ms"] > 4 * few["p50_ms"]
    assert many["memory_mb"] > few["memory_mb"] + 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(backend=Backend("ONNX Runtime", "coreml", "fp32")), "device 'coreml' needs another build"),
        (dict(model="gone.onnx"), "gone.onnx"),
        (dict(files=("gone.jpg",)), "gone.jpg"),
    ],
)
def test_what_cannot_run_says_why(changes: dict, message: str) -> None:
    with pytest.raises(FaceDetError, match=message):
        measure_job(replace(JOB, **changes))


def test_a_process_that_dies_is_an_error(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FaceDetError, match="ONNX Runtime cpu fp32: the process ended with 1"):
        measure_job(JOB)


@pytest.mark.slow
def test_the_table_the_json_and_the_plot(annotated: tuple[Path, Path], tmp_path: Path) -> None:
    truth, images = annotated
    files = ["--json", tmp_path / "rows.json", "--plot", tmp_path / "plot.png"]
    scored = ["--annotations", truth, "--images", images]
    cells = ["--sizes", 320, 640, "--batches", 1, 2, "--seconds", 0.01, "--only", "runtime"]
    done = benchmark("backends", YUNET, *cells, *scored, *files)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    found = [(row["size"], row["batch"], "ap" in row) for row in rows]
    assert found == [(320, 1, True), (320, 2, False), (640, 1, True), (640, 2, False)]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert len({len(line) for line in table}) == 1
    assert [line[:6] for line in table[2:]] == [
        ["yunet_n_dynamic", "ONNX Runtime", "cpu", "fp32", str(size), str(batch)] for size, batch, _ in found
    ]
    assert [float(line[6]) for line in table[2:]] == pytest.approx([row["mean_ms"] for row in rows], abs=0.01)
    assert "not here: ONNX Runtime coreml fp32: device 'coreml' needs" in done.stderr
    assert cv2.imread(str(tmp_path / "plot.png")) is not None


def test_the_plot_has_a_line_for_each_model_and_backend(tmp_path: Path) -> None:
    row = dict(model="a", backend="OpenVINO", device="openvino", precision="fp32", size=320, mean_ms=2.0)
    all_changes = [{}, {"size": 640, "mean_ms": 8.0}, {"model": "b"}, {"precision": "bf16"}, {"device": "cuda"}]
    all_changes += [{"backend": name, "device": "tensorrt"} for name in ("TensorRT", "ONNX Runtime")]
    rows = [{**row, **changes, "ap": dict.fromkeys(SETTINGS, 50.0)} for changes in all_changes]
    plot_speed(rows, tmp_path / "plot.svg")
    drawing = (tmp_path / "plot.svg").read_text()
    labels = ["a, OpenVINO fp32", "b, OpenVINO fp32", "a, OpenVINO bf16", "a, OpenVINO fp32 on cuda"]
    labels += ["a, TensorRT fp32", "a, ONNX Runtime fp32 on tensorrt"]
    assert [drawing.count(f"<!-- {label} -->") for label in labels] == [1] * 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.onnx"], "gone.onnx: no such file"),
        ([YUNET, "--plot", "a.png"], "--plot shows AP against time; it needs --annotations"),
        ([YUNET, "--annotations", "truth"], "--annotations needs --images"),
        ([YUNET, "--only", "coreml"], "none of the backends runs these models here"),
        ([YUNET, "--only", "abacus"], "--only abacus: no backend"),
        ([YUNET, "--images", "gone"], "gone"),
        ([YUNET, "--images", "tests", "--annotations", "gone"], "gone"),
        ([__file__], "a checkpoint needs --config"),
    ],
)
def test_a_users_mistake_is_an_error_without_a_traceback(words: list, message: str) -> None:
    done = benchmark("backends", *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_race_of_the_runtime_times_detection_and_the_bare_run(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(SOLVAY.read_bytes())
    done = benchmark("runtime", "--images", tmp_path / "images", "--sizes", 320, "--json", tmp_path / "times.json")
    assert done.returncode == 0, done.stderr
    times = json.loads((tmp_path / "times.json").read_text())
    assert list(times) == ["facedet-mm 320", "facedet-mm 320, one look", "bare run of the network at 320"]
    assert all(len(of_images) == 1 and of_images[0] > 0 for of_images in times.values())
