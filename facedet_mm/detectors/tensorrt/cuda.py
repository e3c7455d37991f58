"""GPUs, their memory and their streams, by cuda-python."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError, MissingDependencyError


@dataclass(frozen=True)
class Gpu:
    """What an engine is compiled for.

    Attributes:
        index: CUDA's number of it.
        name: as NVIDIA calls it.
        capability: its compute capability, major and minor.
    """

    index: int
    name: str
    capability: tuple[int, int]


def find_gpu(index: int) -> Gpu:
    """The GPU of that number.

    Raises:
        MissingDependencyError: there is no GPU or driver.
        FaceDetError: there are GPUs, none of that number.
    """
    status, count = cudart.cudaGetDeviceCount()
    if status != cudart.cudaError_t.cudaSuccess or not count:
        reason = _text(status) if status != cudart.cudaError_t.cudaSuccess else "CUDA finds none"
        raise MissingDependencyError(
            f"TensorRT needs an NVIDIA GPU and its driver ({reason}; nvidia-smi must list the GPU); "
            "without one device='openvino' is the fastest and device='cpu' always works"
        )
    if index >= count:
        raise FaceDetError(f"there is no GPU {index}: CUDA finds {count}, numbered from 0")
    properties = call(cudart.cudaGetDeviceProperties, index)
    return Gpu(index, properties.name.decode().rstrip("\0"), (properties.major, properties.minor))


def use_gpu(gpu: Gpu) -> None:
    """Makes it the one that this thread's CUDA calls go to."""
    call(cudart.cudaSetDevice, gpu.index)


def call(function: Any, *args: Any) -> Any:
    """Calls one of CUDA's functions and gives what it returns behind the status.

    Raises:
        FaceDetError: CUDA says no.
    """
    status, *values = function(*args)
    if status != cudart.cudaError_t.cudaSuccess:
        _fail(function.__name__, status)
    return values[0] if values else None


def _fail(name: str, status: Any) -> NoReturn:
    remedy = (
        "; close what else uses the GPU, or take a smaller input_size, fewer threads or smaller batches"
        if status == cudart.cudaError_t.cudaErrorMemoryAllocation
        else ""
    )
    raise FaceDetError(f"{name} failed: {_text(status)}{remedy}")


def _text(status: Any) -> str:
    return str(cudart.cudaGetErrorString(status)[1].decode())


class DeviceMemory:
    """Bytes on the GPU, freed with the object.

    Attributes:
        pointer: where they are.
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pointer = int(call(cudart.cudaMalloc, size))
        weakref.finalize(self, cudart.cudaFree, self.pointer)


class Stream:
    """A queue of work on the GPU, closed with the object.

    It waits for CUDA's default stream, which is where libraries such as PyTorch work unless told otherwise.
    """

    def __init__(self) -> None:
        stream = call(cudart.cudaStreamCreate)
        self.handle = int(stream)
        weakref.finalize(self, cudart.cudaStreamDestroy, stream)

    def upload(self, array: NDArray[Any], pointer: int) -> None:
        """Copies a contiguous array to the GPU."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(cudart.cudaMemcpyAsync, pointer, array.ctypes.data, array.nbytes, kind, self.handle)

    def download(self, pointer: int, array: NDArray[Any]) -> None:
        """Fills a contiguous array from the GPU; it is there after :meth:`synchronize`."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(cudart.cudaMemcpyAsync, array.ctypes.data, pointer, array.nbytes, kind, self.handle)

    def synchronize(self) -> None:
        """Waits until all is done."""
        call(cudart.cudaStreamSynchronize, self.handle)


@dataclass(frozen=True)
class DeviceArray:
    """An array on the GPU; PyTorch, CuPy and Numba take it without a copy (``torch.as_tensor(array)``).

    Attributes:
        memory: whose start it fills.
        shape: its sides.
        dtype: of its values.
    """

    memory: DeviceMemory
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Numba's CUDA array interface, version 3."""
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.memory.pointer, False), "version": 3}


def device_pointer(array: Any, dtype: np.dtype[Any]) -> tuple[int, tuple[int, ...]]:
    """Address and shape of a contiguous array on the GPU.

    Args:
        array: anything with ``__cuda_array_interface__``, such as a ``torch.Tensor`` on the GPU.
        dtype: that it must have.

    Raises:
        FaceDetError: it is somewhere else, of another type or not contiguous.
    """
    try:
        interface = array.__cuda_array_interface__
    except (AttributeError, TypeError) as error:  # TypeError: PyTorch's for a tensor that requires a gradient
        raise FaceDetError(f"the input is not on the GPU, or requires a gradient ({error})") from error
    shape = tuple(int(side) for side in interface["shape"])
    strides = interface.get("strides")
    if interface["typestr"] != dtype.str or strides not in (None, _packed(shape, dtype.itemsize)):
        given = np.dtype(interface["typestr"]).name
        raise FaceDetError(f"the input must be contiguous {dtype.name}, not {given} with strides {strides}")
    return int(interface["data"][0]), shape


def _packed(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
