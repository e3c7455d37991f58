"""Horizontal fusion: the convolutions that predict scores, boxes and landmarks of one level become one.

Runtimes compute channels in blocks of 16, and the branches of a head have 1 to 20: SCRFD's 2 + 8 + 20 channels cost as
much as 64, but only 32 in one convolution. This saves a seventh of the time of ``scrfd_0.5g_kps``; outputs are the same
up to rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from facedet_mm.detectors.rewriting.graphs import Conv, Graph, is_rewritable, opset_of, rebuild

_BLOCK = 16
"""Number of channels that a runtime computes together."""
_PREDICTS = {"Transpose", "Reshape", "Shape", "Mul", "Sigmoid"}
"""Operators after a convolution that predicts; a runtime may merge others, such as activations, into a convolution."""
_SPLIT_TAKES_INPUT = 13
"""First opset in which the sizes of the parts are an input of Split."""


class Branch(NamedTuple):
    """Where the map of a head's branch lies after fusion.

    Attributes:
        map: Name of the fused value, (N, C, H, W), that contains it.
        first: Its first channel there.
        channels: Number of its channels.
    """

    map: str
    first: int
    channels: int


def fuse_heads(model: onnx.ModelProto) -> dict[str, Branch]:
    """Fuses, in place, convolutions of the same input whose channels waste blocks.

    If each is followed by a depthwise convolution, as in YuNet, those are fused, too. The graph's inputs, outputs and
    metadata stay the same.

    Returns:
        Name of the value that was the map of a branch → where it lies now; empty if there was nothing to fuse.
    """
    if not is_rewritable(model):
        return {}
    heads = _Heads(Graph(model.graph), opset_of(model))
    instead: dict[str, list[NodeProto]] = {}  # first output of a node → the nodes that replace it
    for convs in list(heads.siblings()):
        instead.update(heads.fuse(convs))
    if instead:
        nodes = ((node.output[0] if node.output else "", node) for node in model.graph.node)
        rebuild(model.graph, [new for name, node in nodes for new in instead.get(name, [node])])
    return heads.branches


class _Heads:
    """Finds the convolutions of a graph that can be fused, and makes the nodes that replace them."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self._graph, self._opset = graph, opset
        self.branches: dict[str, Branch] = {}

    def siblings(self) -> Iterator[list[Conv]]:
        """Yields groups of dense convolutions that predict from one input, have the same options and save blocks."""
        for name, users in self._graph.users.items():
            alike = defaultdict[tuple[object, ...], list[Conv]](list)
            for conv in filter(None, map(self._graph.conv, users)):
                if conv.node.input[0] == name and conv.groups == 1:
                    alike[conv.options].append(conv)
            for convs in alike.values():
                channels = [conv.channels for conv in convs]
                saves = sum(map(_blocks, channels)) > _blocks(sum(channels))
                if saves and all(map(self._predicts, self._depthwise_after(convs) or convs)):
                    yield convs

    def fuse(self, convs: Sequence[Conv]) -> dict[str, list[NodeProto]]:
        """Makes a fused convolution, another one for the depthwise ones that follow, and a split of the result.

        Returns:
            First output of each replaced node → the nodes that replace it.
        """
        channels = [conv.channels for conv in convs]
        made = [self._join(convs, convs[0].node.input[0], groups=1)]
        gone = [conv.node for conv in convs]
        if depthwise := self._depthwise_after(convs):
            made.append(self._join(depthwise, made[0].output[0], groups=sum(channels)))
            gone += [conv.node for conv in depthwise]
        ends = [node.output[0] for node in gone[-len(convs) :]]
        fused = made[-1].output[0]
        made.append(self._split(fused, ends, channels))
        first = 0
        for end, count in zip(ends, channels, strict=True):
            self.branches[end] = Branch(fused, first, count)
            first += count
        return {node.output[0]: made if node is gone[0] else [] for node in gone}

    def _split(self, source: str, outputs: Sequence[str], channels: Sequence[int]) -> NodeProto:
        name = f"{source}/split"
        if self._opset < _SPLIT_TAKES_INPUT:
            return helper.make_node("Split", [source], outputs, name=name, axis=1, split=channels)
        sizes = self._constant(f"{name}/sizes", np.array(channels, np.int64))
        return helper.make_node("Split", [source, sizes], outputs, name=name, axis=1)

    def _depthwise_after(self, convs: Sequence[Conv]) -> list[Conv]:
        """Returns the depthwise convolutions, one after each of ``convs``; empty if any is missing or differs."""
        after = [user and self._graph.conv(user) for user in (self._graph.only_user(conv.node) for conv in convs)]
        found = [conv for conv in after if conv and conv.depthwise]
        same = [conv.channels for conv in found] == [conv.channels for conv in convs]
        return found if same and len({conv.options for conv in found}) == 1 else []

    def _predicts(self, conv: Conv) -> bool:
        return all(user.op_type in _PREDICTS for user in self._graph.users[conv.node.output[0]])

    def _join(self, convs: Sequence[Conv], source: str, groups: int) -> NodeProto:
        """Makes a convolution of the value ``source`` whose channels are those of ``convs`` one after the other."""
        kernels = [numpy_helper.to_array(conv.weights[0]) for conv in convs]
        biases = [
            numpy_helper.to_array(conv.weights[1]) if len(conv.weights) > 1 else np.zeros(len(kernel), kernel.dtype)
            for conv, kernel in zip(convs, kernels, strict=True)
        ]
        name = f"{convs[0].node.output[0]}/fused"
        weights = [
            self._constant(f"{name}/{kind}", np.concatenate(parts))
            for kind, parts in (("kernel", kernels), ("bias", biases))
        ]
        node = helper.make_node("Conv", [source, *weights], [name], name=name, group=groups)
        node.attribute.extend(attribute for attribute in convs[0].node.attribute if attribute.name != "group")
        return node

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        """Adds a constant to the graph and returns its name."""
        self._graph.graph.initializer.append(numpy_helper.from_array(values, name))
        return name


def _blocks(channels: int) -> int:
    return -(-channels // _BLOCK)
