"""Maps as outputs: the nodes that rearrange a head's maps into rows are cut off, since few faces need few rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from facedet_mm.detectors.heads import Place
from facedet_mm.detectors.rewriting.fusion import Branch
from facedet_mm.detectors.rewriting.graphs import Graph, is_node, is_readable, rebuild

_BY_CELL = ([0, 2, 3, 1], [2, 3, 0, 1])
"""Permutations of a map's axes that put its channels last."""
_LEVELS = ({1: 1, 4: 1}, {1: 1, 4: 1, 10: 1}, {1: 2, 4: 1}, {1: 2, 4: 1, 10: 1})
"""Outputs of one level, as values per row → number of outputs: scores (1), boxes (4) and landmarks (10)."""


class _Rows(NamedTuple):
    """An output of the graph and the branch that it comes from.

    Attributes:
        branch: Where the branch lies.
        values: Number of values per row.
        factor: Number that the branch is multiplied by.
    """

    branch: Branch
    values: int
    factor: float


def replace_rows_by_maps(graph: GraphProto, branches: Mapping[str, Branch]) -> tuple[Place, ...]:
    """Makes the maps that contain ``branches`` the graph's outputs, if all outputs are rows of them.

    Scores are then output before their sigmoid, and a factor of a branch is multiplied into its weights.

    Returns:
        Where each output of the graph lies now; empty if the graph was not changed.
    """
    around = Graph(graph)
    found = [_follow(around, output, branches) for output in graph.output]
    rows = [output for output in found if output]
    levels = defaultdict[str, dict[int, int]](lambda: defaultdict(int))
    for output in rows:
        levels[output.branch.map][output.values] += 1
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
    """Returns the branch that ``output`` rearranges into rows, or ``None`` if it does anything else."""
    if output.type.tensor_type.elem_type != TensorProto.FLOAT:
        return None
    sides = output.type.tensor_type.shape.dim
    values = int(sides[-1].dim_value) if sides else 0
    name, factor, kinds = output.name, 1.0, list[str]()
    while name not in branches:
        node = graph.makers.get(name)
        if node is None or not node.input:
            return None
        if is_node(node, "Mul"):
            name, number = _product(graph, node)
            factor *= number
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
    """Returns whether a node is a step from a map to rows, cell by cell; the output's last axis says their length."""
    if is_node(node, "Transpose"):
        return [axis for attribute in node.attribute for axis in attribute.ints] in _BY_CELL
    return is_node(node, "Reshape")


def _product(graph: Graph, node: NodeProto) -> tuple[str, float]:
    """Returns the value that is multiplied by a number, and the number; an empty name if there is no such number."""
    pairs = (node.input, reversed(node.input)) if len(node.input) == 2 else ()
    for name, other in pairs:
        constant = graph.constants.get(other)
        if constant is not None and is_readable(constant) and math.prod(constant.dims) == 1:
            return name, float(numpy_helper.to_array(constant).item())
    return "", 1.0


def _scale(graph: Graph, branch: Branch, factor: float) -> None:
    """Multiplies the channels of a branch by ``factor``, in its weights."""
    if factor == 1:
        return
    conv = graph.conv(graph.makers[branch.map])
    for tensor in conv.weights if conv else ():
        values = np.array(numpy_helper.to_array(tensor))
        values[branch.first : branch.first + branch.channels] *= factor
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
