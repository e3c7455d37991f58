"""The convolutions of an ONNX graph: how they are connected, and equalization of the channels between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from facedet_mm.deploy.calibration import Channels

_MIN_SCALE = 1 / 64
"""Smallest factor on a channel: its range is stretched by at most 64."""


class ConvolutionGraph:
    """The nodes, weights and connections of a model. :meth:`equalize` changes the model in place.

    Args:
        model: Model with float weights.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = list(model.graph.node)
        self._convolutions = [node for node in self._nodes if node.op_type == "Conv"]
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._outputs = {output.name for output in model.graph.output}
        self._users = defaultdict[str, list[onnx.NodeProto]](list)
        for node in self._nodes:
            for name in node.input:
                self._users[name].append(node)

    def equalizable(self) -> dict[str, tuple[onnx.NodeProto, onnx.NodeProto]]:
        """Returns each tensor that only connects two convolutions, with or without a ReLU, and these two.

        Pairs that share weights with other convolutions are left out: the head may be the same for several strides.
        """
        found = {}
        for first in self._convolutions:
            name = first.output[0]
            relu = self._only_user(name, "Relu")
            second = self._only_user(relu.output[0] if relu else name, "Conv")
            if second and self._owns(first, first.input[1:]) and self._owns(second, second.input[1:2]):
                found[second.input[0]] = first, second
        return found

    def equalize(self, largest: Mapping[str, Channels]) -> None:
        """Scales channels so that they fill the range they share; the second convolution undoes the scaling.

        The channels of a depthwise convolution are scaled to the same range, as its weights have one scale per
        channel; for other convolutions the range of a channel is balanced against the range of its weights.

        Args:
            largest: For each tensor of :meth:`equalizable` the largest absolute value of each channel.
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
            scale = np.clip(scale / scale.max(), _MIN_SCALE, 1).astype(np.float32)
            self._set(first.input[1], self._array(first.input[1]) / scale[:, None, None, None])
            for bias in first.input[2:]:
                self._set(bias, self._array(bias) / scale)
            self._set(second.input[1], weight * np.expand_dims(scale, (0, 2, 3) if axis else (1, 2, 3)))

    def score_convolutions(self) -> list[onnx.NodeProto]:
        """Returns the convolutions whose output only goes through a sigmoid, in the file's order: finest stride first.

        The list is empty if the graph has other sigmoids, because then one of them alone does not make the score.
        """
        found = [node for node in self._convolutions if self._ends_in_sigmoid(node)]
        return found if len(found) == sum(node.op_type == "Sigmoid" for node in self._nodes) else []

    def last_convolutions(self) -> list[onnx.NodeProto]:
        """Returns the convolutions that no other convolution follows: their outputs are the network's outputs."""
        return [node for node in self._convolutions if not self._precedes_convolution(node)]

    def constant_adds(self) -> list[str]:
        """Returns the names of additions of a constant, which belong to normalizations that stay in float."""
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

    def _precedes_convolution(self, node: onnx.NodeProto) -> bool:
        users = [user for name in node.output for user in self._users[name]]
        return any(user.op_type == "Conv" or self._precedes_convolution(user) for user in users)

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


def _groups(convolution: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)
