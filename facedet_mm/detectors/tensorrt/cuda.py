"""GPUs, their memory and their streams, through cuda-python."""

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
    """A GPU that an engine is compiled for.

    Attributes:
        index: CUDA's number of the GPU.
        name: NVIDIA's name of the GPU.
        capability: Compute capability, (major, minor).
    """

    index: int
    name: str
    capability: tuple[int, int]


def find_gpu(index: int) -> Gpu:
    """Returns the GPU with CUDA's number ``index``.

    Raises:
        MissingDependencyError: There is no GPU or driver.
        FaceDetError: There are GPUs, but none with that number.
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
    """Makes ``gpu`` the GPU of this thread's CUDA calls."""
    call(cudart.cudaSetDevice, gpu.index)


def call(function: Any, *args: Any) -> Any:
    """Calls a CUDA function and returns what it returns after the status.

    Raises:
        FaceDetError: The status is an error.
    """
    status, *values = function(*args)
    if status != cudart.cudaError_t.cudaSuccess:
        _fail(function.__name__, status)
    return values[0] if values else None


def _fail(name: str, status: Any) -> NoReturn:
    remedy = (
        "; close other programs that use the GPU, or use a smaller input_size, fewer threads or smaller batches"
        if status == cudart.cudaError_t.cudaErrorMemoryAllocation
        else ""
    )
    raise FaceDetError(f"{name} failed: {_text(status)}{remedy}")


def _text(status: Any) -> str:
    return str(cudart.cudaGetErrorString(status)[1].decode())


class DeviceMemory:
    """Memory on the GPU, freed with the object.

    Attributes:
        pointer: Address of the memory.
        size: Size in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pointer = int(call(cudart.cudaMalloc, size))
        weakref.finalize(self, cudart.cudaFree, self.pointer)


class Stream:
    """A CUDA stream, destroyed with the object.

    It waits for CUDA's default stream, which libraries such as PyTorch use by default.
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
        """Copies from the GPU to a contiguous array, which is complete after :meth:`synchronize`."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(cudart.cudaMemcpyAsync, array.ctypes.data, pointer, array.nbytes, kind, self.handle)

    def synchronize(self) -> None:
        """Waits until all work in the stream is done."""
        call(cudart.cudaStreamSynchronize, self.handle)


@dataclass(frozen=True)
class DeviceArray:
    """An array on the GPU that PyTorch, CuPy and Numba use without a copy (``torch.as_tensor(array)``).

    Attributes:
        memory: Memory that the array begins in.
        shape: Shape of the array.
        dtype: Type of its values.
    """

    memory: DeviceMemory
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Numba's CUDA array interface, version 3."""
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.memory.pointer, False), "version": 3}


def device_pointer(array: Any, dtype: np.dtype[Any]) -> tuple[int, tuple[int, ...]]:
    """Returns the address and the shape of a contiguous array on the GPU.

    Args:
        array: Any object with ``__cuda_array_interface__``, such as a ``torch.Tensor`` on the GPU.
        dtype: Type that the array must have.

    Raises:
        FaceDetError: The array is not on the GPU, has another type or is not contiguous.
    """
    try:
        interface = array.__cuda_array_interface__
    except (AttributeError, TypeError) as error:  # PyTorch raises TypeError for a tensor that requires a gradient
        raise FaceDetError(f"the input is not on the GPU, or requires a gradient ({error})") from error
    shape = tuple(int(side) for side in interface["shape"])
    strides = interface.get("strides")
    if interface["typestr"] != dtype.str or strides not in (None, _packed(shape, dtype.itemsize)):
        given = np.dtype(interface["typestr"]).name
        raise FaceDetError(f"the input must be contiguous {dtype.name}, not {given} with strides {strides}")
    return int(interface["data"][0]), shape


def _packed(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
