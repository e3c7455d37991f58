"""Bias correction of quantized convolutions (arXiv 1906.04721, section 4.2, with measured activations)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper

from facedet_mm.deploy.calibration import CalibrationInputs, channel_means


def correct_biases(original: onnx.ModelProto, quantized: onnx.ModelProto, inputs: CalibrationInputs) -> None:
    """Removes the mean error of each output channel by changing the convolutions' biases, from the input on.

    Args:
        original: Float model with the same convolutions.
        quantized: Model with Q/DQ nodes, changed in place.
        inputs: Inputs on which the error is measured.
    """
    makers = {output: node for node in quantized.graph.node for output in node.output}
    weights = {weight.name: weight for weight in quantized.graph.initializer}
    uses = Counter(name for node in quantized.graph.node for name in node.input)
    outputs = {node.name: node.output[0] for node in original.graph.node if node.op_type == "Conv"}
    expected = channel_means(original, list(outputs.values()), inputs)
    for node in (node for node in quantized.graph.node if node.op_type == "Conv"):
        maker = makers.get(node.input[2]) if len(node.input) > 2 else None
        if maker is None or maker.op_type != "DequantizeLinear" or uses[maker.input[0]] > 1:
            continue
        # measured after the corrections before it, which change its input
        error = expected[outputs[node.name]] - channel_means(quantized, [node.output[0]], inputs)[node.output[0]]
        bias, step = (numpy_helper.to_array(weights[name]) for name in maker.input[:2])
        corrected = (bias + np.round(error / step)).astype(np.int32)
        weights[maker.input[0]].CopyFrom(numpy_helper.from_array(corrected, maker.input[0]))
