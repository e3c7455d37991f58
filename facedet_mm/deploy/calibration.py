"""Calibration: runs a network on images and measures the ranges and means of its activations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader

from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.preprocess import fit, make_blob
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import read_image

Channels: TypeAlias = NDArray[np.float32]
"""(C,), one value per channel."""


class CalibrationInputs:
    """The network inputs of images, one (1, 3, H, W) float32 array per image.

    They are made again in each pass, because all of them together would fill the memory.

    Args:
        detector: Detector whose preprocessing is applied.
        images: Paths of the images.
    """

    def __init__(self, detector: OnnxDetector, images: Sequence[str | os.PathLike[str]]) -> None:
        self._detector = detector
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    @property
    def name(self) -> str:
        """Path of the model, for error messages."""
        return self._detector.network.name

    def subset(self, count: int) -> CalibrationInputs:
        """Returns the inputs of about ``count`` of the images, evenly chosen."""
        return CalibrationInputs(self._detector, self._images[:: max(1, len(self._images) // count)])

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        size, network = self._detector.options.input_size, self._detector.network
        assert not isinstance(size, list)
        for path in self._images:
            image = read_image(path)
            box = fit(image.shape[1], image.shape[0], size, network.divisor)
            yield make_blob([image], [box], network.normalization)


class InputReader(CalibrationDataReader):  # type: ignore[misc]
    """Passes the inputs to ONNX Runtime's calibration, one per call.

    Args:
        name: Name of the network's input.
        inputs: Inputs to pass.
    """

    def __init__(self, name: str, inputs: CalibrationInputs) -> None:
        self._feeds: Iterator[dict[str, Any]] = ({name: blob} for blob in inputs)

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next feed, or ``None`` after the last one."""
        return next(self._feeds, None)


def channel_ranges(
    model: onnx.ModelProto, names: Sequence[str], inputs: CalibrationInputs
) -> dict[str, tuple[Channels, Channels]]:
    """Returns the smallest and the largest value of each channel, over all inputs, for each named tensor."""
    ranges: dict[str, tuple[Channels, Channels]] = {}
    for tensors in _run(model, names, inputs):
        for name, values in tensors.items():
            low, high = values.min(axis=(0, 2, 3)), values.max(axis=(0, 2, 3))
            known = ranges.get(name, (low, high))
            ranges[name] = np.minimum(known[0], low), np.maximum(known[1], high)
    return ranges


def channel_means(model: onnx.ModelProto, names: Sequence[str], inputs: CalibrationInputs) -> dict[str, Channels]:
    """Returns the mean of each channel, over all inputs, for each named tensor."""
    sums: dict[str, Channels] = {}
    for tensors in _run(model, names, inputs):
        for name, values in tensors.items():
            sums[name] = sums.get(name, np.float32(0)) + values.mean(axis=(0, 2, 3))
    return {name: total / np.float32(len(inputs)) for name, total in sums.items()}


def _run(
    model: onnx.ModelProto, names: Sequence[str], inputs: CalibrationInputs
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yields the values (1, C, H, W) of the named inner tensors for each input."""
    if not names:
        return
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with naming_errors(inputs.name):
        session = ort.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for blob in inputs:
        with naming_errors(inputs.name):
            values = session.run(names, {session.get_inputs()[0].name: blob})
        if any(value.ndim != 4 for value in values):
            raise ModelError(f"{inputs.name} can't be quantized: it has convolutions of other than two dimensions")
        yield dict(zip(names, values, strict=True))


@contextmanager
def naming_errors(path: str) -> Iterator[None]:
    """Turns the errors that ``onnx`` and ONNX Runtime raise for odd graphs into one that names the file."""
    try:
        yield
    except FaceDetError:  # of an image, which ONNX Runtime's calibration reads
        raise
    except Exception as error:  # theirs have no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path} can't be quantized: {reason[:300]}") from error
