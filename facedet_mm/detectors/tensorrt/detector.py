"""``TensorRTDetector``: SCRFD and YuNet files in TensorRT."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from facedet_mm.detectors.heads import Place
from facedet_mm.detectors.options import DetectorOptions, InputSizes
from facedet_mm.detectors.preprocess import InputSize, check_input_size
from facedet_mm.detectors.rewriting import free
from facedet_mm.detectors.session import SessionDetector
from facedet_mm.detectors.tensorrt.cuda import DeviceArray, DeviceMemory, Stream, device_pointer, find_gpu, use_gpu
from facedet_mm.detectors.tensorrt.engine import LOG, engine_entry, load_engine
from facedet_mm.detectors.tensorrt.source import (
    Precision,
    ShapeRange,
    SourceModel,
    check_sizes,
    shapes_for,
    with_channels,
    without_channels,
)
from facedet_mm.errors import FaceDetError, ModelError

_MAX_BATCH = 8


class TensorRTDetector(SessionDetector):
    """Finds faces with an SCRFD or YuNet ``.onnx`` file in TensorRT.

    The first time on a GPU, the file is compiled for it, which takes seconds to minutes. Thread-safe: each
    thread has its own execution context, stream and GPU memory.

    Args:
        path: Model file. Strides, anchors and normalization come from its metadata or from its outputs.
        shapes: Input shapes that the engine is compiled for; ``None`` derives them from ``input_size``, with batches
            of up to 8. The input size ``'original'`` needs them.
        **options: Settings of :class:`~facedet_mm.detectors.options.DetectorOptions`. ``device`` is ``'tensorrt'`` or,
            with CUDA's number of the GPU, ``'tensorrt:1'``; ``precision`` is ``'fp32'``, ``'fp16'`` or ``'int8'``
            (a file with QuantizeLinear nodes of zero point 0). Without ``precision`` such a file runs in INT8 and any
            other in FP16, whose scores differ in the third digit. ``threads`` is not supported.

    Attributes:
        session: Session of the engine; its ``run_on_device`` takes and returns arrays on the GPU.

    Raises:
        ModelError: The file is missing, damaged, not a face detector, does not take ``input_size``, ``shapes`` or
            ``precision``, or TensorRT can't compile it.
        MissingDependencyError: There is no GPU or driver.
        FaceDetError: A value is out of range, or ``input_size`` is outside of ``shapes``.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> def count(image: str) -> int:  # needs a GPU
        ...     shapes = ShapeRange((1, 320, 320), (1, 640, 640), (8, 1280, 1280))
        ...     detector = TensorRTDetector(asset_path("yunet_n_dynamic.onnx"), precision="fp16", shapes=shapes)
        ...     return len(detector.detect(image))
    """

    def __init__(self, path: str | os.PathLike[str], *, shapes: ShapeRange | None = None, **options: Any) -> None:
        settings = DetectorOptions(**{"model": path, **options})
        if settings.threads is not None:
            raise FaceDetError("threads sets the CPU threads of a network; device 'tensorrt' has none")
        shapes = shapes or shapes_for(_checked(settings.input_size), _MAX_BATCH)
        precision = cast(Precision | None, settings.precision)  # the session refuses others
        session = TensorRTSession(Path(path), _gpu_number(settings.device), precision, shapes)
        self.session = session
        _, height, width = session.shapes.opt
        super().__init__(session, settings, trial_size=(width, height))

    def _keywords(self) -> dict[str, Any]:
        return {**super()._keywords(), "shapes": self.session.shapes}

    def _configure(self, options: DetectorOptions) -> None:
        if self.network.fixed_size is None:
            shapes = self.session.shapes
            check_sizes(_checked(options.input_size), shapes)
            step = self.network.divisor
            low = -(-shapes.min[2] // step) * step, -(-shapes.min[1] // step) * step
            high = shapes.max[2] // step * step, shapes.max[1] // step * step
            self.network = dataclasses.replace(self.network, limits=(low, high))
        super()._configure(options)


class TensorRTSession:
    """A model file in TensorRT; see :class:`~facedet_mm.detectors.session.Session`.

    Attributes:
        shapes: Input shapes that the engine takes.
        precision: Precision of the arithmetic.
        entry: Place of the engine in the cache.
    """

    def __init__(self, path: Path, gpu: int, precision: Precision | None, shapes: ShapeRange) -> None:
        model = SourceModel(path)
        if not model.takes(shapes) and (content := free(path)):
            model = SourceModel(path, content)
        self.path = path
        self.on_cpu = False
        self.places: tuple[Place, ...] = ()
        self.interleaved = False
        self.shapes = model.fitted(shapes)
        self.precision = model.precision(precision)
        self.metadata = model.metadata
        self._gpu = find_gpu(gpu)
        self.entry = engine_entry(model, self.precision, self.shapes, self._gpu)
        self._engine = load_engine(model, self.precision, self.shapes, self._gpu)
        self._input_name = model.input_name
        self._dtype = model.dtype
        self._channel_axis = model.channel_axis
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._output_names = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]
        sides = [low if low == high else None for low, high in zip(self.shapes.min, self.shapes.max, strict=True)]
        self.input_shape: tuple[int | None, ...] = with_channels(sides, model.channel_axis)
        self.output_shapes = [_sides(self._engine.get_tensor_shape(name)) for name in self._output_names]
        self._of_thread = threading.local()

    def run(self, blob: NDArray[Any]) -> list[NDArray[Any]]:
        """Runs the network; see :meth:`Session.run <facedet_mm.detectors.session.Session.run>`."""
        step = self.shapes.max[0]
        parts = [self._run(np.ascontiguousarray(blob[i : i + step])) for i in range(0, len(blob), step)]
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def run_on_device(self, blob: Any, stream: int | None = None) -> list[DeviceArray]:
        """Returns all outputs for an input on the GPU, as arrays on the GPU; nothing is copied.

        Args:
            blob: Input of the network, (N, 3, H, W) float32 or (N, H, W, 3) uint8, contiguous: any array with
                ``__cuda_array_interface__``, such as a ``torch.Tensor`` on this GPU.
            stream: CUDA stream that ``blob`` is made on (``torch.cuda.current_stream().cuda_stream``) and that the
                work is added to; ``None`` waits for the default stream and then until the outputs are ready.

        Returns:
            Arrays that other libraries take without a copy, as ``torch.as_tensor(array)``. This thread's next run
            writes into the same memory.

        Raises:
            ModelError: The engine takes no input of that shape.
            FaceDetError: ``blob`` is not on the GPU, has another type or is not contiguous.
        """
        pointer, shape = device_pointer(blob, self._dtype)
        worker = self._worker(shape)
        outputs = worker.run(shape, pointer, stream)
        if stream is None:
            worker.stream.synchronize()
        return outputs

    def _run(self, blob: NDArray[Any]) -> list[NDArray[Any]]:
        worker = self._worker(blob.shape)
        pointer = worker.memory(self._input_name, blob.nbytes).pointer
        worker.stream.upload(blob, pointer)
        on_device = worker.run(blob.shape, pointer)
        outputs = [np.empty(output.shape, output.dtype) for output in on_device]
        for source, target in zip(on_device, outputs, strict=True):
            worker.stream.download(source.memory.pointer, target)
        worker.stream.synchronize()
        return outputs

    def _worker(self, shape: tuple[int, ...]) -> _Worker:
        """Returns this thread's worker, for an input of ``shape``."""
        axis = self._channel_axis
        if len(shape) != 4 or shape[axis] != 3 or not self.shapes.holds(without_channels(shape, axis)):
            raise ModelError(
                f"{self.path}: an input of shape {shape} is outside of what the engine takes ({self.shapes}); "
                "give TensorRTDetector shapes that include it"
            )
        use_gpu(self._gpu)
        if not hasattr(self._of_thread, "worker"):
            self._of_thread.worker = _Worker(self._engine, self.path, self._input_name, self._output_names)
        worker: _Worker = self._of_thread.worker
        return worker


class _Worker:
    """One thread's execution context, stream and memory for the inputs and outputs of an engine."""

    def __init__(self, engine: Any, path: Path, input_name: str, output_names: list[str]) -> None:
        self.stream = Stream()
        self._path = path
        self._input_name = input_name
        self._dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in output_names}
        self._memory: dict[str, DeviceMemory] = {}
        LOG.take()
        self._context = engine.create_execution_context()
        if self._context is None:
            raise FaceDetError(f"{path}: TensorRT can't start on the GPU: {LOG.take()}; is its memory full?")

    def memory(self, name: str, size: int) -> DeviceMemory:
        """Returns memory for a tensor, at least ``size`` bytes; it is kept and replaced only when it is too small."""
        if name not in self._memory or self._memory[name].size < size:
            self._memory[name] = DeviceMemory(size)
        return self._memory[name]

    def run(self, shape: tuple[int, ...], pointer: int, stream: int | None = None) -> list[DeviceArray]:
        """Adds the work to a stream, by default :attr:`stream`; the outputs are complete when it is done."""
        context = self._context
        LOG.take()
        ready = context.set_input_shape(self._input_name, shape)
        ready = ready and context.set_tensor_address(self._input_name, pointer)
        outputs = [self._output(name) for name in self._dtypes] if ready else []
        if not (ready and context.execute_async_v3(self.stream.handle if stream is None else stream)):
            raise ModelError(f"{self._path} fails on an input of shape {shape}: {LOG.take()}")
        return outputs

    def _output(self, name: str) -> DeviceArray:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            raise ModelError(
                f"{self._path}: how many rows the output {name} has depends on the image, which is not supported "
                "in TensorRT; export it without NMS inside"
            )
        dtype = self._dtypes[name]
        memory = self.memory(name, max(1, dtype.itemsize * math.prod(shape)))
        self._context.set_tensor_address(name, memory.pointer)
        return DeviceArray(memory, shape, dtype)


def _checked(size: InputSizes) -> list[InputSize]:
    return [check_input_size(one) for one in (size if isinstance(size, list) else [size])]


def _gpu_number(device: str | None) -> int:
    kind, _, number = (device or "tensorrt").partition(":")
    if kind != "tensorrt" or not (number or "0").isdigit():
        raise FaceDetError(f"device must be 'tensorrt' or one with a GPU's number such as 'tensorrt:1', not {device!r}")
    return int(number or 0)


def _sides(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if side < 0 else int(side) for side in shape)
