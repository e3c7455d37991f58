"""INT8: static quantization of ONNX files with Q/DQ nodes, and PyTorch's dynamic quantization.

The Q/DQ file runs in ONNX Runtime, OpenVINO and TensorRT. What keeps the AP: ranges of the activations are evened
out between channels before they share one scale, and each convolution's bias takes back the mean error of its
channels (both after arXiv 1906.04721, here with measured activations); weights have a scale for each channel; the few
score convolutions of the coarse strides stay in float, and those of the finest spend no steps on logits that no
threshold lets through.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from facedet_mm.detectors.heads import Head
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.preprocess import InputSize, fit, make_blob
from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import read_image
from facedet_mm.system.files import atomic_path

__all__ = ["QuantizedModel", "quantize_onnx"]

Channels: TypeAlias = NDArray[np.float32]
"""(C,): a value for each channel."""

_OPSET = 17
_LEAST_LOGIT = -4.6
"""Of a score of 0.01: below it one logit is as good as another."""
_FOR_BIASES = 24
"""Images for the biases: means settle sooner than ranges."""
_LEAST_SCALE = 1 / 64
"""A channel's range is stretched by at most 64."""


@dataclass(frozen=True)
class QuantizedModel:
    """What became of a file.

    Attributes:
        path: the quantized file.
        convolutions: how many run in INT8.
        images: how many the ranges were measured on.
        bytes_before, bytes_after: sizes of the files.
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

    Inputs, outputs, free sizes and what the file says of itself stay as they are.

    Args:
        model: an SCRFD or YuNet file in float.
        output: the file to write.
        images: on which the ranges of the activations are measured; some 100 of the kind that will be seen. They
            need no annotations.
        input_size: that they are measured at; as for :class:`~facedet_mm.detectors.onnx.OnnxDetector`.
        symmetric: signed activations without an offset, the only ones that TensorRT takes; a little less exact.
        ranges: of inner activations: the mean over the images of each one's least and largest value, or the least
            and largest of all. Neither is better for all models.

    Raises:
        ModelError: ``model`` is no such file.
        FaceDetError: it is quantized already, or there are no images.
        ImageError: an image can't be read.

    Example:
        >>> import tempfile
        >>> from facedet_mm.zoo import asset_path
        >>> model, path = asset_path("yunet_n_dynamic.onnx"), asset_path("solvay_1927.jpg")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     quantize_onnx(model, f"{folder}/int8.onnx", [path], input_size=320).convolutions
        59
    """
    if not images:
        raise FaceDetError("quantization needs images to measure the activations on, and there are none")
    detector = OnnxDetector(model, input_size=input_size)
    if not isinstance(detector._head, Head):
        raise FaceDetError(f"{model} decodes in the graph, where INT8 costs pixels: quantize the file of --kind raw")
    original = onnx.load(model)
    if any(node.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger") for node in original.graph.node):
        raise FaceDetError(f"{model} is quantized already; start from the float file")
    blobs = _Blobs(detector, images)
    converted = version_converter.convert_version(original, _OPSET)
    graph = _Graph(converted)
    scores = graph.score_convolutions()
    lasts = [node.output[0] for node in graph.last_convolutions()]
    extremes = _extremes(converted, [*graph.equalizable(), *lasts], blobs)
    graph.equalize({name: np.maximum(-low, high) for name, (low, high) in extremes.items()})
    # What comes out isn't cut, whatever the inner ranges are.
    kept = {name: (low.min(), high.max()) for name, (low, high) in extremes.items() if name in lasts}
    for node in scores[:1]:
        kept[node.output[0]] = _LEAST_LOGIT, max(kept[node.output[0]][1], 0)
    with tempfile.TemporaryDirectory() as folder, atomic_path(output) as scratch:
        source = Path(folder, "float.onnx")
        onnx.save(converted, source)
        with _silence():
            quantize_static(
                source,
                scratch,
                _Reader(converted.graph.input[0].name, blobs),
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
        _correct_biases(converted, quantized, blobs.some(_FOR_BIASES))
        helper.set_model_props(quantized, {p.key: p.value for p in original.metadata_props})
        onnx.save(quantized, scratch)
    convolutions = sum(node.op_type == "Conv" for node in quantized.graph.node) - len(scores[1:])
    return QuantizedModel(Path(output), convolutions, len(blobs), os.stat(model).st_size, os.stat(output).st_size)


class _Graph:
    """Who makes, uses and weights what in a model; changes it in place."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = list(model.graph.node)
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._outputs = {output.name for output in model.graph.output}
        self._users = defaultdict[str, list[onnx.NodeProto]](list)
        for node in self._nodes:
            for name in node.input:
                self._users[name].append(node)

    def equalizable(self) -> dict[str, tuple[onnx.NodeProto, onnx.NodeProto]]:
        """Each tensor between two convolutions, with or without a ReLU, that they share with nobody → the two.

        Nor do they share their weights: one net's head may serve several strides.
        """
        found = {}
        for first in (node for node in self._nodes if node.op_type == "Conv"):
            name = first.output[0]
            relu = self._only_user(name, "Relu")
            second = self._only_user(relu.output[0] if relu else name, "Conv")
            if second and self._owns(first, first.input[1:]) and self._owns(second, second.input[1:2]):
                found[second.input[0]] = first, second
        return found

    def equalize(self, largest: dict[str, Channels]) -> None:
        """Scales channels so that they fill the range they share; the second convolution undoes it.

        A depthwise one does so at no cost, as each of its channels has a scale of its own; elsewhere the channel's
        share of the activations is weighed against its share of the weights.
        """
        for name, (first, second) in self.equalizable().items():
            channels = np.maximum(largest[name], 1e-6)
            weight = self._array(second.input[1])
            groups, axis = _groups(second), 1
            if groups == len(channels):
                scale, axis = channels, 0
            elif groups == 1:
                scale = np.sqrt(channels / np.maximum(np.abs(weight).max(axis=(0, 2, 3)), 1e-6))
            else:
                continue
            scale = np.clip(scale / scale.max(), _LEAST_SCALE, 1).astype(np.float32)
            self._set(first.input[1], self._array(first.input[1]) / scale[:, None, None, None])
            for bias in first.input[2:]:
                self._set(bias, self._array(bias) / scale)
            self._set(second.input[1], weight * np.expand_dims(scale, (0, 2, 3) if axis else (1, 2, 3)))

    def score_convolutions(self) -> list[onnx.NodeProto]:
        """Those whose output only a sigmoid sees, if it alone makes the score: finest stride first, as in all files."""
        found = [node for node in self._nodes if node.op_type == "Conv" and self._ends_in_sigmoid(node)]
        return found if len(found) == sum(node.op_type == "Sigmoid" for node in self._nodes) else []

    def last_convolutions(self) -> list[onnx.NodeProto]:
        """Those that no other comes after: what they give is what the network gives."""
        return [node for node in self._nodes if node.op_type == "Conv" and not self._comes_before_one(node)]

    def constant_adds(self) -> list[str]:
        """Additions of a constant: a part of a normalization, which stays in float."""
        return [
            node.name
            for node in self._nodes
            if node.op_type == "Add" and any(name in self._weights for name in node.input)
        ]

    def _ends_in_sigmoid(self, node: onnx.NodeProto) -> bool:
        users = self._users[node.output[0]]
        if len(users) != 1 or node.output[0] in self._outputs:
            return False
        return users[0].op_type == "Sigmoid" or (
            users[0].op_type in ("Transpose", "Reshape") and self._ends_in_sigmoid(users[0])
        )

    def _comes_before_one(self, node: onnx.NodeProto) -> bool:
        users = [user for name in node.output for user in self._users[name]]
        return any(user.op_type == "Conv" or self._comes_before_one(user) for user in users)

    def _only_user(self, name: str, op_type: str) -> onnx.NodeProto | None:
        users = self._users[name]
        alone = len(users) == 1 and users[0].op_type == op_type and name not in self._outputs
        return users[0] if alone else None

    def _owns(self, node: onnx.NodeProto, names: Sequence[str]) -> bool:
        return all(name in self._weights and self._users[name] == [node] for name in names)

    def _array(self, name: str) -> NDArray[np.float32]:
        array: NDArray[np.float32] = numpy_helper.to_array(self._weights[name])
        return array

    def _set(self, name: str, array: NDArray[np.float32]) -> None:
        self._weights[name].CopyFrom(numpy_helper.from_array(array, name))


class _Blobs:
    """The network's inputs for images, made anew in each pass: all at once would fill the memory."""

    def __init__(self, detector: OnnxDetector, images: Sequence[str | os.PathLike[str]]) -> None:
        self._detector = detector
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def some(self, count: int) -> _Blobs:
        """Those of about ``count`` of the images, evenly chosen."""
        return _Blobs(self._detector, self._images[:: max(1, len(self._images) // count)])

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        size, network = self._detector.input_size, self._detector._network
        assert not isinstance(size, list)
        for path in self._images:
            image = read_image(path)
            box = fit(image.shape[1], image.shape[0], size, network.divisor)
            yield make_blob([image], [box], network.normalization)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the blobs one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, blobs: _Blobs) -> None:
        self._inputs: Iterator[dict[str, Any]] = ({name: blob} for blob in blobs)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)


def _extremes(model: onnx.ModelProto, names: list[str], blobs: _Blobs) -> dict[str, tuple[Channels, Channels]]:
    """The least and largest value of each channel of each tensor."""
    extremes: dict[str, tuple[Channels, Channels]] = {}
    for found in _tensors(model, names, blobs):
        for name, value in found.items():
            low, high = value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3))
            before = extremes.get(name, (low, high))
            extremes[name] = np.minimum(before[0], low), np.maximum(before[1], high)
    return extremes


def _correct_biases(original: onnx.ModelProto, quantized: onnx.ModelProto, blobs: _Blobs) -> None:
    """Takes the mean error of each channel out of the convolutions' biases, from the input on."""
    makers = {output: node for node in quantized.graph.node for output in node.output}
    weights = {weight.name: weight for weight in quantized.graph.initializer}
    uses = Counter(name for node in quantized.graph.node for name in node.input)
    outputs = {node.name: node.output[0] for node in original.graph.node if node.op_type == "Conv"}
    wanted = _channel_means(original, list(outputs.values()), blobs)
    for node in (node for node in quantized.graph.node if node.op_type == "Conv"):
        maker = makers.get(node.input[2]) if len(node.input) > 2 else None
        if maker is None or maker.op_type != "DequantizeLinear" or uses[maker.input[0]] > 1:
            continue
        error = wanted[outputs[node.name]] - _channel_means(quantized, [node.output[0]], blobs)[node.output[0]]
        bias, step = (numpy_helper.to_array(weights[name]) for name in maker.input[:2])
        corrected = (bias + np.round(error / step)).astype(np.int32)
        weights[maker.input[0]].CopyFrom(numpy_helper.from_array(corrected, maker.input[0]))


def _channel_means(model: onnx.ModelProto, names: list[str], blobs: _Blobs) -> dict[str, Channels]:
    """The mean of each channel of each tensor."""
    sums: dict[str, Channels] = {}
    for found in _tensors(model, names, blobs):
        for name, value in found.items():
            sums[name] = sums.get(name, np.float32(0)) + value.mean(axis=(0, 2, 3))
    return {name: total / np.float32(len(blobs)) for name, total in sums.items()}


def _tensors(model: onnx.ModelProto, names: list[str], blobs: _Blobs) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The values of inner tensors for each blob."""
    if not names:
        return
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for blob in blobs:
        yield dict(zip(names, session.run(names, {session.get_inputs()[0].name: blob}), strict=True))


def _groups(convolution: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)


@contextmanager
def _silence() -> Iterator[None]:
    """Without ONNX Runtime's advice to optimize the file before, which was done or gains nothing here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
