"""How fast and how exact a model is in each backend of this machine; each measurement in a process of its own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from facedet_mm.benchmark.robustness import clean_ap, find_images
from facedet_mm.datasets.ground_truth import read_ground_truth
from facedet_mm.detectors import Detector, Image, build_detector
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.system.machine import gpu_memory, peak_memory

__all__ = ["BACKENDS", "Backend", "Job", "Row", "backends_for", "call_times", "measure_job"]

Row: TypeAlias = dict[str, Any]

_WARM_UP = 3
_FEWEST = 20


@dataclass(frozen=True)
class Backend:
    """A way to run a model.

    Attributes:
        name: of the library.
        device: see :func:`~facedet_mm.detectors.build_detector`.
        precision: what it calculates in.
        kind: of file that it runs.

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


BACKENDS = (
    Backend("PyTorch", "cpu", "fp32", "checkpoint"),
    Backend("PyTorch", "cuda", "fp32", "checkpoint"),
    Backend("ONNX Runtime", "cpu", "fp32"),
    Backend("ONNX Runtime", "cpu", "int8"),
    Backend("ONNX Runtime", "cuda", "fp32"),
    Backend("ONNX Runtime", "tensorrt", "fp32"),
    Backend("ONNX Runtime", "coreml", "fp32"),
    Backend("ONNX Runtime", "directml", "fp32"),
    Backend("OpenVINO", "openvino", "fp32"),
    Backend("OpenVINO", "openvino", "bf16"),
    Backend("OpenVINO", "openvino", "int8"),
    Backend("TensorRT", "trt", "fp32"),
    Backend("TensorRT", "trt", "fp16"),
    Backend("TensorRT", "trt", "int8"),
)
"""All that can run a model; which of them a machine has, only trying tells."""


@dataclass(frozen=True)
class Job:
    """One line of the benchmark.

    Attributes:
        backend: runs it.
        model: an ``.onnx`` file, or for a checkpoint its config or name in the zoo.
        weights: the checkpoint.
        size: side in pixels of the square that the network sees.
        batch: images a call.
        files: Images to detect in, in turn.
        seconds: how long.
        threads: of the network on a CPU; ``None`` is a core each.
        annotations: folder of the WIDER FACE ground truth; its AP is measured, too.
        images: folder of its images.

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
    """Those of :data:`BACKENDS` that may run a file: checkpoint, float or quantized ONNX.

    Raises:
        ModelError: it can't be read.

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
    """Times a job in a new process, so that nothing before it is still in memory.

    Returns:
        ``calls``, milliseconds a call (``mean_ms``, ``p50_ms``, ``p99_ms``), ``images_per_second``, ``memory_mb``
        (most that the whole process held), ``gpu_mb`` (more in use on the GPU than before; ``None`` on others) and,
        with annotations, ``ap`` in percent by setting.

    Raises:
        FaceDetError: this machine can't run it; the message says why.

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
    on_gpu = job.backend.device in ("cuda", "tensorrt", "trt")
    before = gpu_memory() if on_gpu else None
    detector = _detector(job)
    times = np.array(list(call_times(detector, images, job.batch, job.seconds, _WARM_UP, _FEWEST)))
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
    free = device in ("openvino", "trt") and precision != "int8"  # an INT8 file says itself what of it is INT8
    return build_detector(
        job.model,
        job.weights,
        device=device,
        input_size=job.size,
        threads=None if job.weights or device == "trt" else job.threads,
        precision=precision if free else None,
    )


def call_times(
    detector: Detector, images: Sequence[Image], batch: int, seconds: float, warm_up: int, fewest: int
) -> Iterator[float]:
    """Milliseconds of calls of ``detect_batch``, each on the next ``batch`` images.

    Args:
        detector: what is timed.
        images: taken in turn.
        batch: images a call.
        seconds: for so long after the warm-up.
        warm_up: first calls that don't count.
        fewest: calls that count at least.

    Example:
        >>> image = np.zeros((64, 64, 3), np.uint8)
        >>> len(list(call_times(build_detector(input_size=64), [image], 1, seconds=0, warm_up=1, fewest=4)))
        4
    """
    turn = itertools.cycle(images)
    end = None
    for count in itertools.count():
        chunk = list(itertools.islice(turn, batch))
        start = time.perf_counter()
        detector.detect_batch(chunk)
        now = time.perf_counter()
        if count < warm_up:
            continue
        yield 1e3 * (now - start)
        end = end or start + seconds
        if now >= end and count >= warm_up + fewest - 1:
            return


def _main() -> None:
    job = json.loads(sys.stdin.read())
    try:
        row = _measure(Job(**{**job, "backend": Backend(**job["backend"])}))
    except FaceDetError as error:
        row = {"error": str(error)}
    print(json.dumps(row))


if __name__ == "__main__":
    _main()
