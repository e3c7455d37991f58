"""Speed and accuracy of a model in each backend of this machine; each measurement runs in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from facedet_mm.benchmark.accuracy import clean_ap, find_images
from facedet_mm.benchmark.timing import detection_times
from facedet_mm.datasets.ground_truth import read_ground_truth
from facedet_mm.detectors import Detector, OnnxDetector, build_detector
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.system.machine import gpu_memory, peak_memory

__all__ = ["BACKENDS", "Backend", "Job", "Row", "backends_for", "measure_job"]

Row: TypeAlias = dict[str, Any]

_WARM_UP = 3
_MIN_CALLS = 20


@dataclass(frozen=True)
class Backend:
    """A way to run a model.

    Attributes:
        name: Name of the library.
        device: Device, see :class:`~facedet_mm.detectors.options.DetectorOptions`.
        precision: Precision of the arithmetic.
        kind: Kind of model file that it runs.

    Example:
        >>> str(Backend("OpenVINO", "openvino", "bf16"))
        'OpenVINO openvino bf16'
    """

    name: str
    device: str
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    kind: Literal["checkpoint", "onnx"] = "onnx"

    def __str__(self) -> str:
        return f"{self.name} {self.device} {self.precision}"


ORT_TENSORRT = Backend("ONNX Runtime", "tensorrt", "fp32")
"""ONNX Runtime's TensorRT provider."""
BACKENDS = (
    Backend("PyTorch", "cpu", "fp32", "checkpoint"),
    Backend("PyTorch", "cuda", "fp32", "checkpoint"),
    Backend("ONNX Runtime", "cpu", "fp32"),
    Backend("ONNX Runtime", "cpu", "int8"),
    Backend("ONNX Runtime", "cuda", "fp32"),
    ORT_TENSORRT,
    Backend("ONNX Runtime", "coreml", "fp32"),
    Backend("ONNX Runtime", "directml", "fp32"),
    Backend("OpenVINO", "openvino", "fp32"),
    Backend("OpenVINO", "openvino", "bf16"),
    Backend("OpenVINO", "openvino", "int8"),
    Backend("TensorRT", "tensorrt", "fp32"),
    Backend("TensorRT", "tensorrt", "fp16"),
    Backend("TensorRT", "tensorrt", "int8"),
)
"""All backends; a machine supports those whose measurement does not fail."""


@dataclass(frozen=True)
class Job:
    """One row of the benchmark.

    Attributes:
        backend: Backend that runs the model.
        model: An ``.onnx`` file, or the config or model name of a checkpoint.
        weights: Checkpoint; ``None`` for an ``.onnx`` file.
        size: Side of the square input in pixels.
        batch: Number of images per call.
        files: Images to detect faces in, in turn.
        seconds: Duration of the measurement.
        threads: Number of threads of the network on a CPU; ``None`` means one per core.
        annotations: Folder of the WIDER FACE ground truth for measuring AP; ``None`` skips AP.
        images: Folder of its images.

    Example:
        >>> job = Job(BACKENDS[2], "yunet_n", None, size=640, batch=8, files=("crowd.jpg",))
        >>> job.seconds, job.annotations
        (3.0, None)
    """

    backend: Backend
    model: str
    weights: str | None
    size: int
    batch: int
    files: tuple[str, ...]
    seconds: float = 3.0
    threads: int | None = None
    annotations: str | None = None
    images: str | None = None


def backends_for(path: Path) -> list[Backend]:
    """Returns the :data:`BACKENDS` for a file: a checkpoint, or a float or quantized ONNX file.

    Raises:
        ModelError: The file can't be read.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> [str(backend) for backend in backends_for(asset_path("yunet_n_dynamic.onnx"))][:2]
        ['ONNX Runtime cpu fp32', 'ONNX Runtime cuda fp32']
    """
    try:
        kind = "onnx" if path.suffix.lower() == ".onnx" else "checkpoint"
        quantized = kind == "onnx" and b"DequantizeLinear" in path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    return [backend for backend in BACKENDS if backend.kind == kind and (backend.precision == "int8") == quantized]


def measure_job(job: Job) -> Row:
    """Times a job in a new process, so that earlier jobs do not affect its memory.

    Returns:
        ``calls``, milliseconds per call (``mean_ms``, ``p50_ms``, ``p99_ms``), ``images_per_second``, ``memory_mb``
        (peak of the whole process), ``gpu_mb`` (increase of the GPU memory in use; ``None`` without a GPU) and, with
        annotations, ``ap`` in percent by setting.

    Raises:
        FaceDetError: This machine can't run the job; the message gives the reason.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> files = (str(asset_path("solvay_1927.jpg")),)
        >>> row = measure_job(Job(BACKENDS[2], "yunet_n", None, size=320, batch=1, files=files, seconds=0.1))
        >>> 0 < row["p50_ms"] <= row["p99_ms"]
        True
    """
    done = subprocess.run(
        [sys.executable, "-m", "facedet_mm.benchmark.backends"],
        input=json.dumps(asdict(job)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        raise FaceDetError(f"{job.backend}: {last}")
    row: Row = json.loads(lines[-1])
    if "error" in row:
        raise FaceDetError(row["error"])
    return row


def _measure(job: Job) -> Row:
    images = [read_image(file) for file in job.files]
    on_gpu = job.backend.device in ("cuda", "tensorrt")
    before = gpu_memory() if on_gpu else None
    detector = _detector(job)
    times = np.array(list(detection_times(detector, images, job.batch, job.seconds, _WARM_UP, _MIN_CALLS)))
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    row = dict(
        calls=len(times),
        mean_ms=times.mean(),
        p50_ms=p50,
        p99_ms=p99,
        images_per_second=1e3 * job.batch / times.mean(),
        memory_mb=peak_memory(),
        gpu_mb=None if before is None else (gpu_memory() or before) - before,
    )
    if job.annotations and job.images:
        ground_truth = read_ground_truth(job.annotations)
        row["ap"] = clean_ap(detector, ground_truth, find_images(job.images, ground_truth))
    return row


def _detector(job: Job) -> Detector:
    device, precision = job.backend.device, job.backend.precision
    if job.backend == ORT_TENSORRT:  # build_detector takes TensorRT itself for this device where it is installed
        return OnnxDetector(job.model, device=device, input_size=job.size)
    # An INT8 file defines itself which parts are INT8.
    chooses = device == "tensorrt" or (device == "openvino" and precision != "int8")
    return build_detector(
        job.model,
        job.weights,
        device=device,
        input_size=job.size,
        threads=None if job.weights or device == "tensorrt" else job.threads,
        precision=precision if chooses else None,
    )


def _main() -> None:
    job = json.loads(sys.stdin.read())
    try:
        row = _measure(Job(**{**job, "backend": Backend(**job["backend"])}))
    except FaceDetError as error:
        row = {"error": str(error)}
    print(json.dumps(row))


if __name__ == "__main__":
    _main()
