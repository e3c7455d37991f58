"""``device="auto"``: what it takes on which machine, and that it says so."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from facedet_mm import build_detector
from facedet_mm.cli import main
from facedet_mm.detectors import choosing
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.openvino import OpenVinoDetector
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
CPU = ["CPUExecutionProvider"]


def machine(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[str] | None, providers: list[str] | None = None
) -> None:
    """A machine on which OpenVINO has these capabilities, or is not installed, and ONNX Runtime these providers."""
    monkeypatch.setattr(choosing, "_openvino_capabilities", lambda: capabilities)
    monkeypatch.setattr(choosing.ort, "get_available_providers", lambda: providers or CPU)


def devices(path: Path | None = None, precision: str | None = None) -> list[str]:
    return [choice.device for choice in choosing.choices(path, precision)]


class TestChoices:
    def test_follow_the_measurements(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        large = tmp_path / "large.onnx"
        large.write_bytes(bytes(4_000_000))
        machine(monkeypatch, ["FP32", "BF16"])
        assert devices() == devices(large) == devices(precision="bf16") == ["openvino", "cpu"]
        machine(monkeypatch, ["FP32"])
        assert devices() == devices(YUNET) == ["cpu"]
        assert devices(large) == devices(YUNET, "fp32") == ["openvino", "cpu"]
        machine(monkeypatch, None)
        assert devices(large) == ["cpu"]
        assert "OpenVINO is not installed" in next(choosing.choices()).reason

    def test_gpus_come_first_but_have_no_choice_of_precision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        machine(monkeypatch, ["BF16"], ["TensorrtExecutionProvider", "CUDAExecutionProvider", *CPU])
        assert devices() == ["cuda", "openvino", "cpu"]
        assert devices(precision="fp32") == ["openvino", "cpu"]

    def test_a_missing_openvino_is_no_error(self) -> None:
        code = (
            "import sys; sys.modules['openvino'] = None\n"
            "from facedet_mm.detectors import build_detector\n"
            "print(build_detector(device='auto').options.device)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "cpu\n"


class TestOpening:
    @pytest.mark.parametrize(("capabilities", "kind"), [(["BF16"], OpenVinoDetector), (None, OnnxDetector)])
    def test_takes_the_first_and_says_so_in_one_line(
        self,
        capabilities: list[str] | None,
        kind: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        machine(monkeypatch, capabilities)
        with caplog.at_level(logging.INFO, "facedet_mm.detectors"):
            detector = build_detector(device="auto", score_thr=0.6)
        assert type(detector) is kind
        assert len(detector.detect(asset_path("solvay_1927.jpg"))) == 29
        (record,) = caplog.records
        assert record.getMessage().startswith(f"device 'auto': {detector.options.device} (")

    def test_what_does_not_work_is_passed_over_and_named(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(choosing, "_openvino_capabilities", lambda: None)
        monkeypatch.setattr(choosing, "_GPUS", {"CPUExecutionProvider": "cuda"})
        if "CUDAExecutionProvider" in choosing.ort.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
        with caplog.at_level(logging.INFO, "facedet_mm.detectors"):
            assert build_detector(device="auto").options.device == "cpu"
        (record,) = caplog.records
        assert (
            "'auto': cpu (ONNX Runtime; OpenVINO is not installed); cuda does not work: device" in record.getMessage()
        )

    def test_none_stays_the_cpu_in_onnx_runtime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        machine(monkeypatch, ["BF16"])
        assert type(build_detector()) is OnnxDetector

    def test_mistakes_are_those_of_the_device_that_is_left(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        machine(monkeypatch, ["BF16"])
        (tmp_path / "text.onnx").write_text("no model")
        with pytest.raises(ModelError, match=r"text\.onnx is not an ONNX file"):
            build_detector(tmp_path / "text.onnx", device="auto")
        with pytest.raises(FaceDetError, match="input_size 650"):
            build_detector(device="auto", input_size=650)

    def test_the_command_line_prints_it(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        machine(monkeypatch, None)
        assert main(["detect", str(asset_path("solvay_1927.jpg")), "--device", "auto", "--quiet"]) == 0
        assert capsys.readouterr().err.startswith("facedet detect: device 'auto': cpu (ONNX Runtime")
        assert not logging.getLogger("facedet_mm.detectors").handlers


def test_auto_gives_a_file_of_strangers_to_the_runtime_that_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, ["BF16"])
    model = onnx.load(YUNET)
    onnx.save(model, tmp_path / "own.onnx")
    detector = build_detector(tmp_path / "own.onnx", device="auto")
    assert detector.options.device == "openvino"
