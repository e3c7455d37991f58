"""``device="auto"``: the fastest device that is installed, from what was measured; nothing is timed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

_SMALL = 3_000_000
"""Bytes of a float file below which ONNX Runtime is faster than OpenVINO without bfloat16; see docs/benchmarks.md."""
_GPUS = {"CUDAExecutionProvider": "cuda", "DmlExecutionProvider": "directml"}
"""Execution provider of ONNX Runtime → device."""


@dataclass(frozen=True)
class Choice:
    """A device for a model file.

    Attributes:
        device: Name of the device.
        reason: What speaks for it.
    """

    device: str
    reason: str


def choices(path: str | os.PathLike[str] | None = None, precision: str | None = None) -> Iterator[Choice]:
    """Yields the installed devices for an ONNX file, the fastest first and the CPU in ONNX Runtime last.

    TensorRT is not among them, because compiling takes minutes, nor is CoreML, on which nothing was measured.

    Args:
        path: Model file; ``None`` for any small one.
        precision: Precision of the arithmetic that the user wants.

    Example:
        >>> list(choices())[-1].device
        'cpu'
    """
    available = ort.get_available_providers()
    if precision is None:
        for provider, device in _GPUS.items():
            if provider in available:
                yield Choice(device, "a GPU in ONNX Runtime")
    capabilities = _openvino_capabilities()
    if capabilities is not None:
        if precision in (None, "bf16") and "BF16" in capabilities:
            yield Choice("openvino", "OpenVINO in bfloat16, which this CPU has")
        elif precision is not None:
            yield Choice("openvino", f"OpenVINO in {precision}")
        elif path is not None and _size(path) >= _SMALL:
            yield Choice("openvino", "OpenVINO, the faster one for networks of this size")
    yield Choice("cpu", "ONNX Runtime" if capabilities is not None else "ONNX Runtime; OpenVINO is not installed")


def _openvino_capabilities() -> list[str] | None:
    """Returns what OpenVINO can calculate with on this CPU; ``None`` if it is not installed or does not work."""
    try:
        from facedet_mm.detectors.openvino import cpu_capabilities

        return cpu_capabilities()
    except (ImportError, RuntimeError):
        return None


def _size(path: str | os.PathLike[str]) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # which opening reports
        return 0
