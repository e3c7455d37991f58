"""A view of an ONNX graph for everything that rewrites it. Graphs may be damaged; nothing here raises for that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, defs

STANDARD = ("", "ai.onnx")
"""Names of the domain of the standard operators."""
_ITEM_SIZES: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2}
"""Bytes per value of the types of weights that are rewritten."""


@dataclass(frozen=True)
class Conv:
    """A convolution with constant weights.

    Attributes:
        node: Node of the graph.
        weights: Kernel and, if there is one, bias.
        groups: Number of channel groups.
        options: What convolutions must share to be fused: type and shape of a filter, and all other attributes.
    """

    node: NodeProto
    weights: tuple[TensorProto, ...]
    groups: int
    options: tuple[object, ...]

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.weights[0].dims[0])

    @property
    def depthwise(self) -> bool:
        """Whether each output channel is computed from the input channel of the same index only."""
        return bool(self.weights[0].dims[1] == 1) and self.groups == self.channels


@dataclass
class Graph:
    """A graph with the producers and consumers of its values.

    Attributes:
        graph: The graph itself.
        constants: Value name → tensor, without the tensors that a caller may replace.
        outputs: Names of the graph's outputs.
        makers: Value name → the node that computes it.
        users: Value name → the nodes that take it as an input.
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
        """Returns the only node that takes the first output of ``node``, if nothing else does."""
        users = self.users[node.output[0]]
        return users[0] if len(users) == 1 and node.output[0] not in self.outputs else None

    def conv(self, node: NodeProto) -> Conv | None:
        """Returns the node as a convolution, if it is one whose weights are constant and readable."""
        weights = tuple(self.constants[name] for name in node.input[1:] if name in self.constants)
        if not is_node(node, "Conv") or not weights or len(weights) != len(node.input) - 1 or len(node.output) != 1:
            return None
        kernel, *biases = weights
        kinds = {weight.data_type for weight in weights}
        if not all(map(is_readable, weights)) or len(kernel.dims) < 3 or len(kinds) > 1:
            return None
        if len(biases) > 1 or any([*bias.dims] != [kernel.dims[0]] for bias in biases):
            return None
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        groups = next((attribute.i for attribute in attributes if attribute.name == "group"), 1)
        others = [a.SerializeToString(deterministic=True) for a in attributes if a.name != "group"]
        return Conv(node, weights, groups, (kernel.data_type, *kernel.dims[1:], *others))


def is_rewritable(model: ModelProto) -> bool:
    """Returns whether all nodes are known: no bodies, no cycles, and an opset that this version of ONNX has."""
    kinds = {attribute.type for node in model.graph.node for attribute in node.attribute}
    if not kinds.isdisjoint({AttributeProto.GRAPH, AttributeProto.GRAPHS}):
        return False  # the body of a loop may use any value
    opset = opset_of(model)
    return 0 < opset <= defs.onnx_opset_version() and in_order(model.graph.node) is not None


def opset_of(model: ModelProto) -> int:
    """Returns the version of the standard operators; 0 if there is none."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=0)


def is_node(node: NodeProto | None, kind: str) -> bool:
    """Returns whether a node is a standard operator of this kind."""
    return node is not None and node.op_type == kind and node.domain in STANDARD


def is_readable(tensor: TensorProto) -> bool:
    """Returns whether a tensor holds float32 or float16 values, and all of them are in the file."""
    size = _ITEM_SIZES.get(tensor.data_type)
    if size is None or tensor.data_location == TensorProto.EXTERNAL or tensor.HasField("segment"):
        return False
    count = math.prod(tensor.dims) if all(side > 0 for side in tensor.dims) else -1
    if tensor.HasField("raw_data"):
        return bool(len(tensor.raw_data) == size * count)
    return len(tensor.float_data if size == 4 else tensor.int32_data) == count


def has_external_weights(graph: GraphProto) -> bool:
    """Returns whether weights lie in other files, which are found only from the folder of the model file."""
    tensors = [*graph.initializer, *(attribute.t for node in graph.node for attribute in node.attribute)]
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors)


def in_order(nodes: Iterable[NodeProto]) -> list[NodeProto] | None:
    """Returns the nodes in topological order: each after those whose outputs it takes, otherwise as they were.

    ONNX asks for that order, but files that ONNX Runtime's float16 converter wrote have another one.

    Returns:
        The nodes, or ``None`` if they have a cycle or two of them compute the same value.
    """
    nodes = list(nodes)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    if len(makers) != sum(bool(name) for node in nodes for name in node.output):
        return None
    needed = {i: {makers[name] for name in node.input if name in makers} for i, node in enumerate(nodes)}
    sorter = TopologicalSorter(needed)
    try:
        sorter.prepare()
    except CycleError:
        return None
    ordered = []
    ready = list(sorter.get_ready())
    heapify(ready)
    while ready:
        index = heappop(ready)
        ordered.append(nodes[index])
        sorter.done(index)
        for following in sorter.get_ready():
            heappush(ready, following)
    return ordered


def rebuild(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Replaces the graph's nodes by ``nodes``, in topological order and without those that no output depends on."""
    needed = {value.name for value in [*graph.output, *graph.input]}
    kept = list[NodeProto]()
    for node in reversed(in_order(nodes) or nodes):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    rest = GraphProto(node=kept[::-1], initializer=weights)  # copies: clearing a field destroys its elements
    graph.ClearField("node")
    graph.ClearField("initializer")
    graph.MergeFrom(rest)


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    inputs = {value.name for value in graph.input}
    found = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
    for node in graph.node:
        if is_node(node, "Constant") and node.output:
            found.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    return found
