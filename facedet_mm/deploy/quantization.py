"""INT8: static quantization of ONNX files with Q/DQ nodes, for ONNX Runtime, OpenVINO and TensorRT.

Four measures keep the AP. Channels are equalized before they share one scale, and each convolution's bias takes back
the mean error of its channels (both after arXiv 1906.04721, here with measured activations). Weights have one scale
per channel. The small score convolutions of the coarse strides stay in float, and those of the finest stride spend no
steps on logits below every threshold.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, version_converter
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from facedet_mm.deploy.bias_correction import correct_biases
from facedet_mm.deploy.calibration import CalibrationInputs, InputReader, channel_ranges, naming_errors
from facedet_mm.deploy.convolutions import ConvolutionGraph
from facedet_mm.deploy.float32 import prepare
from facedet_mm.detectors.heads import Head
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.preprocess import InputSize
from facedet_mm.errors import FaceDetError
from facedet_mm.system.files import atomic_path

__all__ = ["QuantizedModel", "quantize_onnx"]

_OPSET = 17
_LOWEST_LOGIT = -4.6
"""Logit of a score of 0.01; lower logits need not be told apart."""
_BIAS_IMAGES = 24
"""Number of images for bias correction: means need fewer images than ranges."""


@dataclass(frozen=True)
class QuantizedModel:
    """Result of a quantization.

    Attributes:
        path: The quantized file.
        convolutions: Number of convolutions that run in INT8.
        images: Number of images on which the ranges were measured.
        bytes_before: Size of the float file in bytes.
        bytes_after: Size of the quantized file in bytes.
    """

    path: Path
    convolutions: int
    images: int
    bytes_before: int
    bytes_after: int


def quantize_onnx(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    *,
    input_size: InputSize = 640,
    symmetric: bool = False,
    ranges: Literal["mean", "extremes"] = "mean",
) -> QuantizedModel:
    """Writes a detector's ONNX file with its convolutions in INT8.

    Inputs, outputs, dynamic sizes and metadata stay as they are.

    Args:
        model: SCRFD or YuNet file in float.
        output: File to write.
        images: Images on which the ranges of the activations are measured, about 100 of the kind that the model will
            see. They need no annotations.
        input_size: Input size for the measurement, as for :class:`~facedet_mm.detectors.onnx.OnnxDetector`.
        symmetric: Whether signed activations get no offset, which TensorRT requires; slightly less exact.
        ranges: Ranges of inner activations: ``'mean'`` averages the smallest and the largest value of each image,
            ``'extremes'`` takes the smallest and the largest value of all images. Neither is better for all models.

    Raises:
        ModelError: ``model`` is not an SCRFD or YuNet file, or its graph can't be quantized.
        FaceDetError: ``model`` is already quantized, or there are no images.
        ImageError: An image can't be read.

    Example:
        >>> import tempfile
        >>> from facedet_mm.zoo import asset_path
        >>> model, path = asset_path("yunet_n_dynamic.onnx"), asset_path("solvay_1927.jpg")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     quantize_onnx(model, f"{folder}/int8.onnx", [path], input_size=320).convolutions
        59
    """
    if not images:
        raise FaceDetError("quantization measures the activations on images, and no images were given")
    detector = OnnxDetector(model, input_size=input_size)
    if not isinstance(detector.head, Head):
        raise FaceDetError(
            f"{model} decodes boxes inside the graph, where INT8 costs accuracy: quantize the file of --kind raw"
        )
    original = onnx.load(model)
    if any(node.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger") for node in original.graph.node):
        raise FaceDetError(f"{model} is already quantized; start from the float file")
    inputs = CalibrationInputs(detector, images)
    converted = _prepared(model, original)
    graph = ConvolutionGraph(converted)
    scores = graph.score_convolutions()
    kept = _equalize(graph, converted, inputs)
    for node in scores[:1]:
        kept[node.output[0]] = _LOWEST_LOGIT, max(kept[node.output[0]][1], 0)
    with tempfile.TemporaryDirectory() as folder, atomic_path(output) as scratch:
        source = Path(folder, "float.onnx")
        onnx.save(converted, source)
        with _without_warnings(), naming_errors(inputs.name):
            quantize_static(
                source,
                scratch,
                InputReader(_input_name(converted), inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu", "Add"],
                per_channel=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[*graph.constant_adds(), *(node.name for node in scores[1:])],
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": symmetric,
                    "CalibMovingAverage": ranges == "mean",
                    "TensorQuantOverrides": {
                        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
                        for name, (low, high) in kept.items()
                    },
                },
            )
        quantized = onnx.load(scratch)
        correct_biases(converted, quantized, inputs.subset(_BIAS_IMAGES))
        helper.set_model_props(quantized, {p.key: p.value for p in original.metadata_props})
        onnx.save(quantized, scratch)
    convolutions = sum(node.op_type == "Conv" for node in quantized.graph.node) - len(scores[1:])
    return QuantizedModel(Path(output), convolutions, len(inputs), os.stat(model).st_size, os.stat(output).st_size)


def _prepared(path: str | os.PathLike[str], original: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model in float32 and in an opset that has quantization per channel."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
    prepare(model)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset >= _OPSET:
        return model
    with naming_errors(os.fspath(path)):
        return version_converter.convert_version(model, _OPSET)


def _input_name(model: onnx.ModelProto) -> str:
    weights = {tensor.name for tensor in model.graph.initializer}
    return next(str(value.name) for value in model.graph.input if value.name not in weights)


def _equalize(
    graph: ConvolutionGraph, model: onnx.ModelProto, inputs: CalibrationInputs
) -> dict[str, tuple[float, float]]:
    """Equalizes the channels and returns the full ranges of the network's outputs, which must not be cut."""
    outputs = [node.output[0] for node in graph.last_convolutions()]
    measured = channel_ranges(model, [*graph.equalizable(), *outputs], inputs)
    graph.equalize({name: np.maximum(-low, high) for name, (low, high) in measured.items()})
    return {name: (measured[name][0].min(), measured[name][1].max()) for name in outputs}


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides ONNX Runtime's advice to optimize the file first, which was done or gains nothing here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
