"""The model file and the input shapes that an engine is compiled from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from facedet_mm.detectors.preprocess import InputSize
from facedet_mm.detectors.session import EXPECTED, check_file
from facedet_mm.detectors.tensorrt.conversion import float_pixels, half_floats, plain_biases
from facedet_mm.errors import FaceDetError, ModelError

Precision = Literal["fp32", "fp16", "int8"]
"""Precision of the arithmetic; the outputs are always float32."""

Shape = tuple[int, int, int]
"""(batch, height, width) of an input."""

_DTYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
}
_AUTO = (64, 640)
"""Shortest and longest side of an input of size ``'auto'``, in pixels."""


@dataclass(frozen=True)
class ShapeRange:
    """The input shapes that an engine takes, each (batch, height, width): an optimization profile.

    Attributes:
        min: Smallest value of each side.
        opt: Shape that the engine is tuned for.
        max: Largest value of each side; the engine reserves memory for it.

    Raises:
        FaceDetError: ``1 <= min <= opt <= max`` does not hold.

    Example:
        >>> ShapeRange((1, 320, 320), (1, 640, 640), (8, 1280, 1280)).holds((4, 640, 960))
        True
    """

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        if not all(len(shape) == 3 for shape in (self.min, self.opt, self.max)) or not all(
            1 <= low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)
        ):
            raise FaceDetError(
                "shapes must be (batch, height, width) with 1 <= min <= opt <= max in each place, "
                f"not min {self.min}, opt {self.opt}, max {self.max}"
            )

    def __str__(self) -> str:
        sides = zip(("batch", "height", "width"), self.min, self.max, strict=True)
        return ", ".join(f"{name} {low}" if low == high else f"{name} {low}-{high}" for name, low, high in sides)

    def holds(self, shape: Sequence[int]) -> bool:
        """Returns whether ``shape`` is within the range."""
        return all(low <= side <= high for low, side, high in zip(self.min, shape, self.max, strict=True))


def shapes_for(sizes: Sequence[InputSize], max_batch: int) -> ShapeRange:
    """Returns the smallest range that contains all ``sizes``, for batches from 1 and tuned for the largest size.

    Raises:
        FaceDetError: There are no sizes, or ``'original'`` is among them, which has no bounds.
    """
    if not sizes:
        raise FaceDetError("input_size is an empty list; give at least one size")
    if "original" in sizes:
        raise FaceDetError(
            "the size 'original' has no bounds and an engine needs them: use another size, or, in Python, give "
            "TensorRTDetector shapes=ShapeRange(min, opt, max), each (batch, height, width)"
        )
    low, high = zip(*(_bounds(size) for size in sizes), strict=True)
    smallest = tuple(map(min, zip(*low, strict=True)))
    largest = tuple(map(max, zip(*high, strict=True)))
    return ShapeRange((1, *smallest), (1, *largest), (max_batch, *largest))


def check_sizes(sizes: Sequence[InputSize], shapes: ShapeRange) -> None:
    """Raises :class:`FaceDetError` unless an engine for ``shapes`` takes every one of ``sizes``.

    ``'original'`` is not checked, as its size depends on the image.
    """
    for size in sizes:
        if size == "original":
            continue
        if not all(shapes.holds((shapes.opt[0], *bound)) for bound in _bounds(size)):
            raise FaceDetError(
                f"input_size {size!r} does not fit the engine's shapes ({shapes}): use another input_size, or shapes "
                "that contain it"
            )


def _bounds(size: InputSize) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the smallest and the largest (height, width) of an input of that size."""
    if isinstance(size, str):
        return (_AUTO[0], _AUTO[0]), (_AUTO[1], _AUTO[1])
    width, height = size if isinstance(size, tuple) else (size, size)
    return (height, width), (height, width)


class SourceModel:
    """An ONNX file for TensorRT to compile.

    Args:
        path: Path of the file.
        content: What to compile instead of the file's own content.

    Attributes:
        path: Path of the file.
        digest: SHA-256 of the content.
        input_name: Name of its only input.
        dtype: Type of the input: float32, or uint8 for a file that takes pixels.
        channel_axis: 1 for an input (N, 3, H, W), 3 for one that takes pixels, (N, H, W, 3).
        sides: Batch, height and width of the input; ``None`` for a free one.
        metadata: JSON of the metadata entry ``facedet_mm``.
        quantized: Whether there are QuantizeLinear nodes.

    Raises:
        ModelError: The file is missing, damaged or does not take images.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        check_file(path)
        self.path = path
        self._bytes = path.read_bytes() if content is None else content
        self.digest = hashlib.sha256(self._bytes).hexdigest()
        model = _parse(path, self._bytes)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        described = ", ".join(f"{value.name} {list(_sides(value))}" for value in inputs)
        dtype = _DTYPES.get(inputs[0].type.tensor_type.elem_type) if len(inputs) == 1 else None
        shape = _sides(inputs[0]) if inputs else ()
        self.channel_axis = 3 if dtype == np.uint8 else 1
        if dtype is None or len(shape) != 4 or shape[self.channel_axis] != 3:
            raise ModelError(f"{path} is no face detector: its input is {described or 'missing'}; {EXPECTED}")
        self.dtype = dtype
        self.input_name: str = inputs[0].name
        self.sides = without_channels(shape, self.channel_axis)
        self.metadata = next((p.value for p in model.metadata_props if p.key == "facedet_mm"), "")
        self.quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)

    def precision(self, wanted: Precision | None) -> Precision:
        """Returns the checked precision ``wanted``; ``None`` means INT8 for a quantized file, else FP16.

        Raises:
            ModelError: The file can't run in that precision.
        """
        if wanted is None:
            return "int8" if self.quantized else "fp16"
        if wanted not in get_args(Precision):
            raise ModelError(f"precision must be one of {', '.join(get_args(Precision))} or None, not {wanted!r}")
        if wanted == "int8" and not self.quantized:
            raise ModelError(f"{self.path} is not quantized: facedet quantize makes an INT8 file from it; or use fp16")
        if wanted != "int8" and self.quantized:
            raise ModelError(f"{self.path} is quantized: use the precision int8, or the file that it was made from")
        return wanted

    def takes(self, shapes: ShapeRange) -> bool:
        """Returns whether the file takes every height and width of ``shapes``."""
        sides = list(zip(self.sides, shapes.min, shapes.max, strict=True))[1:]
        return all(side is None or low == side == high for side, low, high in sides)

    def fitted(self, shapes: ShapeRange) -> ShapeRange:
        """Returns ``shapes`` with the sides that the file fixes.

        Raises:
            ModelError: A side that the file fixes is outside of ``shapes``.
        """
        if not all(
            side is None or low <= side <= high
            for side, low, high in zip(self.sides, shapes.min, shapes.max, strict=True)
        ):
            named = zip(("batch", "height", "width"), self.sides, strict=True)
            described = ", ".join(f"{name} {'any' if side is None else side}" for name, side in named)
            raise ModelError(f"{self.path} takes only inputs of {described}, not {shapes}; use an input_size that fits")
        low, best, high = (
            tuple(side if given is None else given for given, side in zip(self.sides, shape, strict=True))
            for shape in (shapes.min, shapes.opt, shapes.max)
        )
        return ShapeRange(low, best, high)  # type: ignore[arg-type]

    def serialized(self, precision: Precision) -> bytes:
        """Returns the ONNX graph, serialized, that compiles to an engine of that precision.

        Raises:
            ModelError: The graph is quantized in a way that TensorRT does not support.
        """
        model = onnx.load_model_from_string(self._bytes)
        if self.dtype == np.uint8:
            model = float_pixels(model)
        if precision == "fp16":
            model = half_floats(model)
        if precision == "int8":
            try:
                model = plain_biases(model)
            except ModelError as error:
                raise ModelError(f"{self.path}: {error}") from error
        return bytes(model.SerializeToString())


def with_channels(shape: Sequence[Any], channel_axis: int) -> tuple[Any, ...]:
    """Returns the shape of an input for (batch, height, width)."""
    return (*shape[:channel_axis], 3, *shape[channel_axis:])


def without_channels(shape: Sequence[Any], channel_axis: int) -> tuple[Any, ...]:
    """Returns (batch, height, width) for the shape of an input."""
    return (*shape[:channel_axis], *shape[channel_axis + 1 :])


def _parse(path: Path, data: bytes) -> Any:
    try:
        return onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"{path} is no ONNX file, or a damaged one: {error}; {EXPECTED}") from error


def _sides(value: Any) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)
