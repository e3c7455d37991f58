"""Horizontal fusion: the convolutions that predict scores, boxes and landmarks of one level become one.

Runtimes calculate channels in blocks of 16, and a head's branches have 1 to 20: SCRFD's 2 + 8 + 20 channels cost 64,
as one convolution 32. That is a seventh of the time of ``scrfd_0.5g_kps``; outputs stay the same but for rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

_BLOCK = 16
"""Channels that a runtime calculates together."""
_PREDICTS = {"Transpose", "Reshape", "Shape", "Mul", "Sigmoid"}
"""What comes after a convolution that predicts. Others may be followed by what a runtime makes a part of them."""
_ONNX = ("", "ai.onnx")
"""The domain of the standard's own nodes."""
_SPLIT_TAKES_INPUT = 13
"""Opset since which the sizes that Split cuts are an input."""


def read_fused(path: Path) -> bytes | None:
    """An ONNX file's content with its heads fused, or ``None`` if there is nothing to fuse or it can't be read.

    Files whose weights lie beside them are left alone, too: their place would get lost.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
            return None
        return model.SerializeToString() if fuse_heads(model) else None
    except Exception:  # a damaged file may raise anything; the runtime tells what is wrong with it
        return None


def fuse_heads(model: onnx.ModelProto) -> bool:
    """Fuses, in place, convolutions of one input whose channels waste blocks; tells whether there were any.

    Where each is followed by a depthwise one, as in YuNet, or by what makes rows of its map, those are fused, too. The
    graph's inputs, outputs and metadata stay what they are.
    """
    kinds = {attribute.type for node in model.graph.node for attribute in node.attribute}
    if not kinds.isdisjoint({AttributeProto.GRAPH, AttributeProto.GRAPHS}):
        return False  # a loop's body may use any value
    _keep_batch_axis(model.graph)
    opset = max((entry.version for entry in model.opset_import if entry.domain in _ONNX), default=0)
    heads = _Heads(model.graph, opset)
    siblings = list(heads.siblings())
    instead: dict[str, list[NodeProto]] = {}  # a node's first output → what takes its place
    for convs in siblings:
        instead.update(heads.fuse(convs))
    if siblings:
        _rebuild(model.graph, [new for node in model.graph.node for new in instead.get(node.output[0], [node])])
    return bool(siblings)


@dataclass(frozen=True)
class _Conv:
    """A convolution with constant weights.

    Attributes:
        node: of the graph.
        weights: its kernel and, if it has one, bias.
        groups: of its channels.
        options: its other attributes, stride, padding and so on, and its kernel's sides.
    """

    node: NodeProto
    weights: tuple[TensorProto, ...]
    groups: int
    options: tuple[object, ...]

    @property
    def channels(self) -> int:
        """Of its output."""
        return int(self.weights[0].dims[0])

    @property
    def depthwise(self) -> bool:
        """Whether each channel of its output comes from the same channel of its input alone."""
        return bool(self.weights[0].dims[1] == 1) and self.groups == self.channels


class _Heads:
    """Finds what can be fused in a graph, and makes what takes its place."""

    def __init__(self, graph: GraphProto, opset: int) -> None:
        self._graph, self._opset = graph, opset
        self._constants = _constants(graph)
        self._outputs = {value.name for value in graph.output}
        self._users: dict[str, list[NodeProto]] = {name: [] for node in graph.node for name in node.output}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def siblings(self) -> Iterator[list[_Conv]]:
        """Dense convolutions of the same input and options that together fill fewer blocks and predict."""
        for name, users in self._users.items():
            alike = defaultdict[tuple[object, ...], list[_Conv]](list)
            for conv in filter(None, map(self._conv, users)):
                if conv.node.input[0] == name and conv.groups == 1:
                    alike[conv.options].append(conv)
            for convs in alike.values():
                channels = [conv.channels for conv in convs]
                saves = sum(map(_blocks, channels)) > _blocks(sum(channels))
                if saves and all(map(self._predicts, self._depthwise_after(convs) or convs)):
                    yield convs

    def fuse(self, convs: Sequence[_Conv]) -> dict[str, list[NodeProto]]:
        """One node in the place of the first of ``convs``, and so on as long as what follows is alike; then a cut.

        Returns:
            The first output of each node that goes → what takes its place.
        """
        channels = [conv.channels for conv in convs]
        made = [self._join(convs, convs[0].node.input[0], groups=1)]
        gone = [conv.node for conv in convs]
        if depthwise := self._depthwise_after(convs):
            made.append(self._join(depthwise, made[0].output[0], groups=sum(channels)))
            gone += [conv.node for conv in depthwise]
        ends, axis = gone[-len(convs) :], 1
        if rows := self._rows_after(ends, channels):
            turned, ends = [first for first, _ in rows], [second for _, second in rows]
            gone += turned + ends
            shape = np.array([*self._shape(ends[0])[:-1], sum(channels)], np.int64)
            axis = len(shape) - 1
            made.append(_like(turned[0], made[-1].output[0]))
            made.append(_like(ends[0], made[-1].output[0], self._constant(f"{ends[0].output[0]}/fused/shape", shape)))
        outputs = [node.output[0] for node in ends]
        name = f"{made[-1].output[0]}/split"
        if self._opset < _SPLIT_TAKES_INPUT:
            made.append(helper.make_node("Split", made[-1].output, outputs, name=name, axis=axis, split=channels))
        else:
            sizes = self._constant(f"{name}/sizes", np.array(channels, np.int64))
            made.append(helper.make_node("Split", [*made[-1].output, sizes], outputs, name=name, axis=axis))
        return {node.output[0]: made if node is gone[0] else [] for node in gone}

    def _depthwise_after(self, convs: Sequence[_Conv]) -> list[_Conv]:
        """The depthwise convolutions, all alike, that alone follow ``convs``, one each; empty if not all do."""
        after = [user and self._conv(user) for user in (self._only_user(conv.node) for conv in convs)]
        found = [conv for conv in after if conv and conv.depthwise]
        same = [conv.channels for conv in found] == [conv.channels for conv in convs]
        return found if same and len({conv.options for conv in found}) == 1 else []

    def _rows_after(self, nodes: Sequence[NodeProto], channels: Sequence[int]) -> list[tuple[NodeProto, NodeProto]]:
        """The Transpose and Reshape that alone follow ``nodes``, one each, to rows of all channels; or empty."""
        found = list[tuple[NodeProto, NodeProto]]()
        kinds = set[tuple[Any, ...]]()
        for node, count in zip(nodes, channels, strict=True):
            turned = self._only_user(node)
            rows = turned and self._only_user(turned)
            if not turned or not rows or not (_is(turned, "Transpose") and _is(rows, "Reshape")):
                return []
            order = _order(turned)
            shape = self._shape(rows)
            if order[-1:] != [1] or shape[-1:] != [count]:
                return []
            found.append((turned, rows))
            kinds.add((*order, *shape[:-1], *(a.i for a in rows.attribute)))
        return found if len(kinds) == 1 else []

    def _shape(self, reshape: NodeProto) -> list[int]:
        """What the node reshapes to; empty if that isn't constant."""
        shape = self._constants.get(reshape.input[1])
        return [] if shape is None else [int(side) for side in numpy_helper.to_array(shape)]

    def _predicts(self, conv: _Conv) -> bool:
        return all(user.op_type in _PREDICTS for user in self._users[conv.node.output[0]])

    def _only_user(self, node: NodeProto) -> NodeProto | None:
        users = self._users[node.output[0]]
        return users[0] if len(users) == 1 and node.output[0] not in self._outputs else None

    def _conv(self, node: NodeProto) -> _Conv | None:
        weights = tuple(self._constants[name] for name in node.input[1:] if name in self._constants)
        if not _is(node, "Conv") or not weights or len(weights) != len(node.input) - 1:
            return None
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        groups = next((attribute.i for attribute in attributes if attribute.name == "group"), 1)
        others = [a.SerializeToString(deterministic=True) for a in attributes if a.name != "group"]
        return _Conv(node, weights, groups, (*weights[0].dims[2:], *others))

    def _join(self, convs: Sequence[_Conv], source: str, groups: int) -> NodeProto:
        """A convolution of the value ``source`` whose channels are those of ``convs`` one after the other."""
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
        """Adds a constant to the graph; gives its name."""
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name


def _blocks(channels: int) -> int:
    return -(-channels // _BLOCK)


def _like(node: NodeProto, *inputs: str) -> NodeProto:
    """The same node of other inputs; its output has another name, too."""
    other = NodeProto()
    other.CopyFrom(node)
    other.name = f"{node.output[0]}/fused"
    other.input[:], other.output[:] = inputs, [other.name]
    return other


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    inputs = {value.name for value in graph.input}  # those among them may be replaced from outside
    found = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
    for node in graph.node:
        if _is(node, "Constant") and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _is(node: NodeProto | None, kind: str) -> bool:
    return node is not None and node.op_type == kind and node.domain in _ONNX


def _order(transpose: NodeProto) -> list[int]:
    """Its permutation; empty where that is the default, which turns all axes around."""
    return [axis for attribute in transpose.attribute for axis in attribute.ints]


def _keep_batch_axis(graph: GraphProto) -> None:
    """Makes the shapes of rows constant that are put together only to keep the batch axis of a map."""
    constants = _constants(graph)
    makers = {name: node for node in graph.node for name in node.output}

    def maker(node: NodeProto | None, kind: str, index: int = 0) -> NodeProto | None:
        """The node of this kind that makes an input of ``node``."""
        found = makers.get(node.input[index]) if node is not None and len(node.input) > index else None
        return found if _is(found, kind) else None

    for rows in graph.node:
        if not _is(rows, "Reshape") or rows.attribute:
            continue
        turned, sides = maker(rows, "Transpose"), maker(rows, "Concat", 1)
        side = maker(maker(sides, "Unsqueeze"), "Gather")
        shape = maker(side, "Shape")
        if not turned or not sides or not side or not shape:
            continue
        of_map = shape.input[0] == turned.input[0] and not shape.attribute and _order(turned)[:1] == [0]
        lengths = [constants.get(name) for name in (side.input[1], *sides.input[1:])]
        values = [value for tensor in lengths if tensor for value in numpy_helper.to_array(tensor).ravel().tolist()]
        if of_map and None not in lengths and values[0] == 0:  # the axis, which is at the same time how to say: keep it
            rows.input[1] = f"{rows.output[0]}/shape"
            graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), rows.input[1]))
    _rebuild(graph, graph.node)


def _rebuild(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Makes ``nodes`` those of the graph, and drops what no output depends on."""
    needed = {value.name for value in [*graph.output, *graph.input]}
    kept = list[NodeProto]()
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    rest = GraphProto(node=kept[::-1], initializer=weights)  # copies: what a field loses is lost for good
    graph.ClearField("node")
    graph.ClearField("initializer")
    graph.MergeFrom(rest)
