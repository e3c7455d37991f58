"""The devices that detect faces here, and GPUs that could but do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from facedet_mm.doctor.features import FeatureCheck, SmokeTestResults
from facedet_mm.doctor.problems import Problem, failed_test
from facedet_mm.system.dependencies import BUILD_MMCV, TORCH

_PROVIDERS = {
    "CUDAExecutionProvider": "cuda",
    "CoreMLExecutionProvider": "coreml",
    "DmlExecutionProvider": "directml",
}
"""Execution provider of ONNX Runtime → device of ``build_detector``."""

_ONNXRUNTIME_GPU = "'onnxruntime-gpu[cuda,cudnn]'"


def check_devices(
    checks: Sequence[FeatureCheck], gpus: Sequence[str], run_tests: Callable[[Sequence[str]], SmokeTestResults]
) -> tuple[dict[str, str], list[Problem]]:
    """Returns device → outcome of finding faces on it, and the problems of devices.

    Args:
        checks: The checked features, which include tests of some devices.
        gpus: NVIDIA GPUs in the machine.
        run_tests: :func:`~facedet_mm.doctor.smoke_tests.run_smoke_tests` or a stand-in, for the devices of
            ONNX Runtime.
    """
    details = {package.module: package.detail for check in checks for package in check.packages}
    devices = {device: _outcome(result) for check in checks for device, result in check.device_tests.items()}
    problems = []
    for provider, device in _PROVIDERS.items():
        if provider in details.get("onnxruntime", ""):
            test = f"device:{device}"
            result = run_tests([test])[test]
            devices[device] = _outcome(result)
            if "error" in result and (gpus or device != "cuda"):
                remedy = f"pip install --force-reinstall {_ONNXRUNTIME_GPU}"
                problems.append(failed_test(test, result["error"], None, remedy))
    if devices:
        devices["auto"] = _outcome(run_tests(["device:auto"])["device:auto"])
    if gpus and details.get("onnxruntime") and "cuda" not in devices:
        problems.append(
            Problem(
                "there is an NVIDIA GPU, but ONNX Runtime is a build without CUDA",
                f"pip uninstall -y onnxruntime && pip install {_ONNXRUNTIME_GPU}",
                broken=False,
            )
        )
    if gpus and details.get("torch") == "CPU build":
        problems.append(
            Problem(
                "there is an NVIDIA GPU, but torch is a build for the CPU",
                f"pip uninstall -y torch onedl-mmcv, install {TORCH} for CUDA as pytorch.org says, then {BUILD_MMCV}",
                broken=False,
            )
        )
    return devices, problems


def _outcome(result: dict[str, str]) -> str:
    return result["detail"] if "detail" in result else f"fails: {result['error']}"
