"""Outputs as maps: what only rearranges a head's maps into rows is cut off, since a few faces need a few rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from facedet_mm.detectors.heads import Place
from facedet_mm.detectors.rewriting.fusion import Branch
from facedet_mm.detectors.rewriting.graphs import Graph, is_node, rebuild

_BY_CELL = ([0, 2, 3, 1], [2, 3, 0, 1])
"""Orders of the axes of a map in which its channels come last."""
_LEVELS = ({1: 1, 4: 1}, {1: 1, 4: 1, 10: 1}, {1: 2, 4: 1}, {1: 2, 4: 1, 10: 1})
"""Outputs of one level by the values of a row: scores, boxes and landmarks."""


class _Rows(NamedTuple):
    """An output of the graph, followed back to its branch."""

    branch: Branch
    values: int
    factor: float


def give_maps(graph: GraphProto, branches: Mapping[str, Branch]) -> tuple[Place, ...]:
    """Makes the maps of which ``branches`` are parts the graph's outputs, if all of those are rows of them.

    Scores are then given before their sigmoid, and a factor of a branch becomes a part of its weights.

    Returns:
        Where each of the graph's outputs lies now; empty if the graph stays as it is.
    """
    around = Graph(graph)
    found = [_follow(around, output, branches) for output in graph.output]
    rows = [of_output for of_output in found if of_output]
    levels = defaultdict[str, dict[int, int]](lambda: defaultdict(int))
    for of_output in rows:
        levels[of_output.branch.map][of_output.values] += 1
    if len(rows) < len(found) or any(level not in _LEVELS for level in levels.values()):
        return ()
    for branch, _, factor in rows:
        _scale(around, branch, factor)
    names = list(levels)
    graph.ClearField("output")
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in names)
    rebuild(graph, list(graph.node))
    return tuple(
        Place(names.index(branch.map), branch.first, branch.channels // values, values) for branch, values, _ in rows
    )


def _follow(graph: Graph, output: ValueInfoProto, branches: Mapping[str, Branch]) -> _Rows | None:
    """The branch whose channels of all anchors the rows of ``output`` are, if they are nothing else."""
    sides = output.type.tensor_type.shape.dim
    values = int(sides[-1].dim_value) if sides else 0
    name, factor, kinds = output.name, 1.0, list[str]()
    while name not in branches:
        node = graph.makers.get(name)
        if node is None:
            return None
        if is_node(node, "Mul"):
            name, by = _product(graph, node)
            factor *= by
        elif _only_rearranges(node) or is_node(node, "Sigmoid"):
            name = node.input[0]
        else:
            return None
        kinds.append(node.op_type)
    score = values == 1
    expected = [["Reshape", "Transpose"], ["Sigmoid"] if score else ["Mul"] * kinds.count("Mul")]
    in_order = [kind for kind in kinds if kind in expected[0]] == expected[0]
    others = [kind for kind in kinds if kind not in expected[0]]
    if not in_order or others != expected[1] or not values or branches[name].channels % values:
        return None
    return _Rows(branches[name], values, factor)


def _only_rearranges(node: NodeProto) -> bool:
    """Whether it makes rows of a map, cell after cell; how many is left to the output's last axis."""
    if is_node(node, "Transpose"):
        return [axis for attribute in node.attribute for axis in attribute.ints] in _BY_CELL
    return is_node(node, "Reshape")


def _product(graph: Graph, node: NodeProto) -> tuple[str, float]:
    """What is multiplied by a number, and the number; no value's name if it is by something else."""
    for name, other in (node.input, reversed(node.input)):
        if other in graph.constants and (by := numpy_helper.to_array(graph.constants[other])).size == 1:
            return name, float(by.item())
    return "", 1.0


def _scale(graph: Graph, branch: Branch, factor: float) -> None:
    """Multiplies what a branch predicts, by its weights."""
    if factor == 1:
        return
    conv = graph.conv(graph.makers[branch.map])
    for tensor in conv.weights if conv else ():
        values = np.array(numpy_helper.to_array(tensor))
        values[branch.first : branch.first + branch.channels] *= factor
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
