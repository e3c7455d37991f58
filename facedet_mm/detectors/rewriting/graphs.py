"""What all that rewrite an ONNX graph need to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from onnx import GraphProto, NodeProto, TensorProto

_ONNX = ("", "ai.onnx")
"""The domain of the standard's own nodes."""


@dataclass(frozen=True)
class Conv:
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


@dataclass
class Graph:
    """A graph, and who makes and uses its values.

    Attributes:
        graph: itself.
        constants: by name; without those that may be replaced from outside.
        outputs: names of the graph's.
        makers: the node that makes each value.
        users: the nodes that take each value.
    """

    graph: GraphProto
    constants: dict[str, TensorProto] = field(init=False)
    outputs: set[str] = field(init=False)
    makers: dict[str, NodeProto] = field(init=False)
    users: dict[str, list[NodeProto]] = field(init=False)

    def __post_init__(self) -> None:
        self.constants = _constants(self.graph)
        self.outputs = {value.name for value in self.graph.output}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.users = {name: [] for name in self.makers}
        for node in self.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def only_user(self, node: NodeProto) -> NodeProto | None:
        """The one node that takes the first value that ``node`` makes, if nothing else does."""
        users = self.users[node.output[0]]
        return users[0] if len(users) == 1 and node.output[0] not in self.outputs else None

    def conv(self, node: NodeProto) -> Conv | None:
        """The node, if it is a convolution with constant weights."""
        weights = tuple(self.constants[name] for name in node.input[1:] if name in self.constants)
        if not is_node(node, "Conv") or not weights or len(weights) != len(node.input) - 1:
            return None
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        groups = next((attribute.i for attribute in attributes if attribute.name == "group"), 1)
        others = [a.SerializeToString(deterministic=True) for a in attributes if a.name != "group"]
        return Conv(node, weights, groups, (*weights[0].dims[2:], *others))


def is_node(node: NodeProto | None, kind: str) -> bool:
    """Whether it is one of the standard's nodes of this kind."""
    return node is not None and node.op_type == kind and node.domain in _ONNX


def rebuild(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
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


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    inputs = {value.name for value in graph.input}
    found = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
    for node in graph.node:
        if is_node(node, "Constant") and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found
