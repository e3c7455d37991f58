"""Stand-ins for TensorRT and cuda-python: the names and parameters of tools/analysis/check_tensorrt_api.py, no others.

"GPU memory" is memory of this process and engines run in ONNX Runtime, so that what the package does with the two
libraries (addresses, shapes, order of calls) shows in the faces that come out.
"""

from __future__ import annotations

import base64
import ctypes
import enum
import json
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort


class World:
    """The state of the fake machine, which a test sets and inspects.

    Attributes:
        gpus: (name, major, minor) of each GPU.
        version: Version of TensorRT.
        builds: Number of engines compiled.
        fail: Step that fails: 'builder', 'build', 'deserialize', 'context', 'execute', 'memory' or 'interrupt'.
        devices: Thread ID → the GPU of its calls.
        memory: Address → allocated buffer.
        streams: Handles of the open streams.
        timings: Bytes that the last timing cache was made from.
        pending: Stream → copies and runs that are not done yet.
    """

    def __init__(self) -> None:
        self.gpus = [("Fake GPU", 9, 0)]
        self.version = "11.4.0"
        self.builds = 0
        self.fail = ""
        self.devices: dict[int, int] = {}
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.timings = b""
        self.pending: dict[int, list[Any]] = {}

    def modules(self) -> dict[str, ModuleType]:
        """Returns the modules to put into ``sys.modules``."""
        bindings = ModuleType("cuda.bindings")
        bindings.runtime = _module("cuda.bindings.runtime", _cuda(self))  # type: ignore[attr-defined]
        return {
            "tensorrt": _module("tensorrt", _tensorrt(self)),
            "cuda": ModuleType("cuda"),
            "cuda.bindings": bindings,
            "cuda.bindings.runtime": bindings.runtime,
        }


def _module(name: str, members: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(
        {key: value for key, value in members.items() if not key.startswith("_") or key == "__version__"}
    )
    return module


def _tensorrt(world: World) -> dict[str, Any]:
    class ILogger:
        class Severity(enum.Enum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2

        def __init__(self) -> None:
            pass

        def log(self, severity: Any, msg: str) -> None:
            raise NotImplementedError

    def complain(logger: Any, message: str) -> None:
        logger.log(ILogger.Severity.WARNING, "never mind")
        logger.log(ILogger.Severity.ERROR, message)

    class BuilderFlag(enum.Enum):
        TF32 = 7

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1

    class TensorIOMode(enum.Enum):
        INPUT = 1
        OUTPUT = 2

    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def serialize(self) -> bytes:
            return b"timings"

    class IOptimizationProfile:
        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            self._input, self._shapes = input, [list(min), list(opt), list(max)]

    class IBuilderConfig:
        def __init__(self) -> None:
            self._cleared: list[str] = []

        def clear_flag(self, flag: BuilderFlag) -> None:
            self._cleared.append(flag.name)

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self._profile = profile
            return 0

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            world.timings = cache._data
            return cache._data in (b"", b"timings")

    class Network:
        def __init__(self, flags: int) -> None:
            assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
            self._model = b""

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger
            if world.fail == "builder":
                complain(logger, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags: int) -> Network:
            return Network(flags)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Network, config: IBuilderConfig) -> Any:
            world.builds += 1
            if world.fail == "interrupt":
                raise KeyboardInterrupt
            if world.fail == "build":
                complain(self._logger, "no implementation obeys the constraints")
                return None
            model = onnx.load_model_from_string(network._model)
            plan = {
                "model": base64.b64encode(network._model).decode(),
                "profile": config._profile._shapes,
                "input": config._profile._input,
                "cleared": config._cleared,
                "half": sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer),
            }
            return json.dumps(plan).encode()

    class ParserError:
        def __init__(self, text: str) -> None:
            self._text = text

        def desc(self) -> str:
            return self._text

        def node(self) -> int:
            return 7

        def node_name(self) -> str:
            return "Conv_7"

    class OnnxParser:
        def __init__(self, network: Network, logger: ILogger) -> None:
            assert logger is not None
            self._network = network
            self._errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def parse(self, model: bytes) -> bool:
            self._network._model = model
            graph = onnx.load_model_from_string(model).graph
            if any(node.domain not in ("", "ai.onnx") for node in graph.node):
                self._errors.append(ParserError("no importer"))
            return not self._errors

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            if world.fail == "deserialize":
                complain(self._logger, "the engine was made by another version")
                return None
            return ICudaEngine(json.loads(serialized_engine), self._logger)

    class ICudaEngine:
        def __init__(self, plan: dict[str, Any], logger: Any) -> None:
            self._plan, self._logger = plan, logger
            self._session = ort.InferenceSession(base64.b64decode(plan["model"]))
            self._outputs: dict[tuple[int, ...], dict[str, Any]] = {}
            self._tensors = {t.name: t for t in (*self._session.get_inputs(), *self._session.get_outputs())}

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name == self._plan["input"] else TensorIOMode.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(side if isinstance(side, int) else -1 for side in self._tensors[name].shape)

        def get_tensor_dtype(self, name: str) -> str:
            return self._tensors[name].type

        def create_execution_context(self) -> Any:
            if world.fail == "context":
                complain(self._logger, "out of memory")
                return None
            return IExecutionContext(self)

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}

        def _run(self, blob: Any) -> dict[str, Any]:
            names = [output.name for output in self._engine._session.get_outputs()]
            outputs = self._engine._session.run(names, {self._engine._plan["input"]: blob})
            return dict(zip(names, outputs, strict=True))

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            low, _, high = self._engine._plan["profile"]
            self._dtype = np.uint8 if "uint8" in self._engine.get_tensor_dtype(name) else np.float32
            self._shape = shape
            inside = all(a <= side <= b for a, side, b in zip(low, shape, high, strict=True))
            if inside:
                seen = self._engine._outputs
                if shape not in seen:
                    seen[shape] = self._run(np.zeros(shape, self._dtype))
                self._outputs = seen[shape]
            return inside

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            rows = self._outputs[name].shape
            return (-1, *rows[1:]) if name == "selected" else rows

        def set_tensor_address(self, name: str, memory: int) -> bool:
            assert memory in world.memory
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            if world.fail == "execute":
                complain(self._engine._logger, "an illegal memory access was encountered")
                return False
            assert set(self._addresses) == set(self._engine._tensors)
            addresses = dict(self._addresses)

            def work() -> None:
                source = world.memory[addresses[self._engine._plan["input"]]]
                blob = np.frombuffer(source, self._dtype, int(np.prod(self._shape))).reshape(self._shape)
                for name, output in self._run(blob).items():
                    target = world.memory[addresses[name]]
                    assert len(target) >= output.nbytes
                    ctypes.memmove(addresses[name], output.ctypes.data, output.nbytes)

            world.pending[stream_handle].append(work)
            return True

    def nptype(trt_type: str) -> type:
        return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[trt_type]

    return {**locals(), "__version__": world.version}


def _cuda(world: World) -> dict[str, Any]:
    class cudaError_t(enum.Enum):
        cudaSuccess = 0
        cudaErrorMemoryAllocation = 2
        cudaErrorInsufficientDriver = 35

    class cudaMemcpyKind(enum.Enum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaDeviceProp:
        name, major, minor = "", 0, 0

    done = (cudaError_t.cudaSuccess,)

    def cudaGetDeviceCount() -> tuple[Any, ...]:
        return (*done, len(world.gpus)) if world.gpus else (cudaError_t.cudaErrorInsufficientDriver, None)

    def cudaGetDeviceProperties(device: int) -> tuple[Any, ...]:
        name, major, minor = world.gpus[device]
        return (*done, SimpleNamespace(name=name.encode(), major=major, minor=minor))

    def cudaSetDevice(device: int) -> tuple[Any, ...]:
        assert device < len(world.gpus)
        world.devices[threading.get_ident()] = device
        return done

    def cudaGetErrorString(error: cudaError_t) -> tuple[Any, ...]:
        return (*done, f"text of {error.name}".encode())

    def cudaMalloc(size: int) -> tuple[Any, ...]:
        if world.fail == "memory":
            return cudaError_t.cudaErrorMemoryAllocation, None
        buffer = ctypes.create_string_buffer(size)
        world.memory[ctypes.addressof(buffer)] = buffer
        return (*done, ctypes.addressof(buffer))

    def cudaFree(devPtr: int) -> tuple[Any, ...]:
        del world.memory[devPtr]
        return done

    def cudaMemcpyAsync(dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: int) -> tuple[Any, ...]:
        assert stream in world.streams
        on_gpu = dst if kind is cudaMemcpyKind.cudaMemcpyHostToDevice else src
        assert len(world.memory[on_gpu]) >= count
        if kind is cudaMemcpyKind.cudaMemcpyHostToDevice:
            ctypes.memmove(dst, src, count)
        else:
            world.pending[stream].append(lambda: ctypes.memmove(dst, src, count))
        return done

    def cudaStreamCreate() -> tuple[Any, ...]:
        handle = 1000 + len(world.pending)
        world.streams.add(handle)
        world.pending[handle] = []
        return (*done, handle)

    def cudaStreamSynchronize(stream: int) -> tuple[Any, ...]:
        assert stream in world.streams
        while world.pending[stream]:
            world.pending[stream].pop(0)()
        return done

    def cudaStreamDestroy(stream: int) -> tuple[Any, ...]:
        world.streams.discard(stream)
        return done

    return {key: value for key, value in locals().items() if key.startswith("cuda")}
