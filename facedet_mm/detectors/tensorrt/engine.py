"""Compiles model files to TensorRT engines, once; later the engines come from the cache.

It uses the API that TensorRT 10 and 11 share: strongly typed networks, named tensors, no builder flags for precision
and no calibrators.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import tensorrt as trt

from facedet_mm.detectors.tensorrt.cache import CacheEntry
from facedet_mm.detectors.tensorrt.cuda import Gpu, use_gpu
from facedet_mm.detectors.tensorrt.source import Precision, ShapeRange, SourceModel, with_channels
from facedet_mm.errors import FaceDetError, ModelError

_LAYOUT = "1"
"""Changes when engines of the same ingredients are compiled in another way."""


class _Log(trt.ILogger):  # type: ignore[misc]
    """Collects the errors of each thread for the exception that follows."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._of_thread = threading.local()

    def log(self, severity: Any, msg: str) -> None:
        """Stores an error; TensorRT calls this with each message."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self._of_thread.errors = [*getattr(self._of_thread, "errors", ()), msg]

    def take(self) -> str:
        """Returns the errors of this thread since the last call."""
        errors = getattr(self._of_thread, "errors", ())
        self._of_thread.errors = []
        return "; ".join(errors) or "TensorRT gives no reason"


LOG = _Log()
"""The logger of the process: TensorRT uses the first one that it gets."""


def print_notice(message: str) -> None:
    """Prints a message on standard error."""
    print(f"facedet-mm: {message}", file=sys.stderr, flush=True)


def engine_entry(model: SourceModel, precision: Precision, shapes: ShapeRange, gpu: Gpu) -> CacheEntry:
    """Returns the engine's place in the cache."""
    ingredients = {
        "model": model.digest,
        "precision": precision,
        "shapes": f"{shapes.min} {shapes.opt} {shapes.max}",
        **_machine(gpu),
    }
    return CacheEntry(f"{model.path.stem}-{precision}", ".engine", ingredients)


def load_engine(
    model: SourceModel, precision: Precision, shapes: ShapeRange, gpu: Gpu, notify: Callable[[str], None] = print_notice
) -> Any:
    """Returns the engine (``tensorrt.ICudaEngine``) from the cache, or compiles it and stores it there.

    Args:
        model: Model to compile.
        precision: Precision of the arithmetic.
        shapes: Input shapes that the engine must take.
        gpu: GPU that runs the engine.
        notify: Called with a status message before each step that may block.

    Raises:
        ModelError: TensorRT can't compile the file, or can't load the engine that it compiled.
    """
    use_gpu(gpu)
    entry = engine_entry(model, precision, shapes, gpu)
    plan = entry.read()
    engine = None if plan is None else _deserialize(plan)
    if engine is None:
        notify(
            f"compiling {model.path.name} for {gpu.name} ({precision}, {shapes}): this takes seconds to minutes, once"
        )
        timings = CacheEntry("timings", ".cache", _machine(gpu))
        plan, new_timings = build_plan(model, precision, shapes, timings.read() or b"")
        engine = _deserialize(plan)
        if engine is None:
            raise ModelError(f"TensorRT can't load the engine that it compiled from {model.path}: {LOG.take()}")
        _keep(entry, plan, notify)
        _keep(timings, new_timings, notify)
    return engine


def build_plan(
    model: SourceModel, precision: Precision, shapes: ShapeRange, timings: bytes = b""
) -> tuple[bytes, bytes]:
    """Compiles a model file.

    Args:
        model: Model to compile.
        precision: Precision of the arithmetic.
        shapes: Input shapes of the optimization profile.
        timings: Timing cache of an earlier call on the same GPU, which makes this one faster.

    Returns:
        Serialized engine and timing cache.

    Raises:
        ModelError: TensorRT does not support the file or can't compile it.
    """
    LOG.take()
    builder = _builder()
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, LOG)
    if not parser.parse(model.serialized(precision)):
        errors = "; ".join(_described(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"TensorRT {trt.__version__} does not support {model.path}: {errors or LOG.take()}")
    config = builder.create_builder_config()
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # TF32 has the mantissa of half floats
    cache = _timing_cache(config, timings)
    profile = builder.create_optimization_profile()
    dims = (with_channels(shape, model.channel_axis) for shape in (shapes.min, shapes.opt, shapes.max))
    profile.set_shape(model.input_name, *dims)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(f"TensorRT {trt.__version__} can't compile {model.path} for {shapes}: {LOG.take()}")
    return bytes(memoryview(plan)), bytes(memoryview(cache.serialize()))


def _builder() -> Any:
    try:
        return trt.Builder(LOG)
    except TypeError as error:  # its constructor raises this for any error in the library
        raise FaceDetError(
            f"TensorRT {trt.__version__} does not start: {LOG.take()}; its version must fit the driver"
        ) from error


def _timing_cache(config: Any, timings: bytes) -> Any:
    """Sets and returns the timing cache of ``config``; it is empty if TensorRT rejects ``timings``."""
    for data in (timings, b""):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            break
    return cache


def _deserialize(plan: bytes) -> Any:
    return trt.Runtime(LOG).deserialize_cuda_engine(plan)


def _described(error: Any) -> str:
    return f"{error.desc()} (node {error.node()} {error.node_name()})".replace(" )", ")")


def _keep(entry: CacheEntry, data: bytes, notify: Callable[[str], None]) -> None:
    try:
        entry.write(data)
    except FaceDetError as error:  # the engine works without the cache
        notify(f"the next start will take as long: {error}")


def _machine(gpu: Gpu) -> dict[str, str]:
    major, minor = gpu.capability
    return {"gpu": gpu.name, "capability": f"{major}.{minor}", "tensorrt": trt.__version__, "layout": _LAYOUT}
