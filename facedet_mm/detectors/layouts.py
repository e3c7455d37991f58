"""Layouts of the outputs of files that others exported: maps instead of rows, scores before their sigmoid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.contents import read_onnx
from facedet_mm.detectors.heads import STRIDES, Place

_ROWS = ((1, 4), (1, 4, 10), (1, 1, 4), (1, 1, 4, 10))
"""Values per row of the outputs of one stride: scores (1), boxes (4) and landmarks (10)."""
_LAYOUT_ONLY = ("Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten")
_NEARLY_0, _NEARLY_1 = -0.1, 1.1
"""Range of scores after their sigmoid; those of INT8 files are rounded."""


def rows_of_maps(
    shapes: Sequence[tuple[int, ...]], width: int, height: int
) -> tuple[list[tuple[int, ...]], tuple[Place, ...], list[int]]:
    """Returns how maps are read as rows, for an input of ``width`` × ``height``.

    A map (N, C, H, W) or (N, H, W, C) holds, for A anchors per cell, A scores, 4 A box values or 10 A landmark values;
    which of the two it is, and which map is what, follows from the shapes of all of them.

    Args:
        shapes: Shape of each output.
        width: Width of the input in pixels.
        height: Height of the input in pixels.

    Returns:
        Shape (N, rows, values) of each output; where the rows lie in maps (N, C, H, W), or nothing for maps
        (N, H, W, C), whose memory is that of rows; and the strides in ascending order.

    Raises:
        ValueError: The outputs are no maps of such a head.

    Example:
        >>> rows_of_maps([(1, 2, 8, 8), (1, 8, 8, 8)], 64, 64)[0]
        [(1, 128, 1), (1, 128, 4)]
    """
    described = ", ".join(map(str, shapes))
    # The maps of one stride differ in C alone, so they never fit the other order.
    reading = _read(shapes, width, height, channels_last=False) or _read(shapes, width, height, channels_last=True)
    if reading is None:
        raise ValueError(
            f"outputs have shapes {described}, which are no maps of A scores, 4 A box values and 10 A landmark values "
            f"for an input of {width} x {height}"
        )
    return reading


def before_sigmoid(
    scores: Sequence[NDArray[np.float32]], factors: int, graph_has_sigmoid: Callable[[], bool | None]
) -> bool:
    """Returns whether scores come before their sigmoid, judged by their values on a trial input.

    After it they lie between 0 and 1. A trained network whose scores before it did as well would find a face at more
    than half of all anchors of any image; where the values look like that, the graph decides.

    Args:
        scores: The score outputs on noise, factor after factor for each stride.
        factors: Number of factors of a score: 1, or 2 for YuNet.
        graph_has_sigmoid: Returns whether a sigmoid comes last in the graph; ``None`` if that is not known.

    Raises:
        ValueError: Neither the values nor the graph tell.
    """
    values = [np.concatenate([part.ravel() for part in scores[i::factors]]) for i in range(factors)]
    inside = [bool(((part >= _NEARLY_0) & (part <= _NEARLY_1)).all()) for part in values]
    if not any(inside):
        return True
    if all(inside) and any((part < 0.5).mean() > 0.5 for part in values):
        return False
    sigmoid = graph_has_sigmoid()
    if sigmoid is not None:
        return not sigmoid
    low, high = min(float(part.min()) for part in values), max(float(part.max()) for part in values)
    raise ValueError(
        f"its scores are {low:.3g} to {high:.3g} on noise, which tells neither that a sigmoid was applied nor that it "
        "was not; export the file with the sigmoid inside"
    )


def ends_in_sigmoid(path: Path, outputs: Sequence[int]) -> bool | None:
    """Returns whether these outputs of an ONNX file, apart from their layout, come out of a sigmoid or a convolution.

    Returns:
        Whether it is a sigmoid; ``None`` if it is another operator, not the same for all, or no ONNX file.
    """
    model = read_onnx(path)
    if model is None or len(model.graph.output) <= max(outputs):
        return None
    makers = {name: node for node in model.graph.node for name in node.output}
    last = set[str]()
    for index in outputs:
        node = makers.pop(model.graph.output[index].name, None)
        while node is not None and node.op_type in _LAYOUT_ONLY and node.input:
            node = makers.pop(node.input[0], None)  # each once, as a damaged graph may have a cycle
        last.add(node.op_type if node is not None else "")
    return {"Sigmoid": True, "Conv": False}.get(last.pop()) if len(last) == 1 else None


def _read(
    shapes: Sequence[tuple[int, ...]], width: int, height: int, *, channels_last: bool
) -> tuple[list[tuple[int, ...]], tuple[Place, ...], list[int]] | None:
    """Returns the reading of maps in one of the two orders; ``None`` if the shapes do not fit it."""
    if any(len(shape) != 4 for shape in shapes):
        return None
    channels = [shape[3 if channels_last else 1] for shape in shapes]
    cells = [shape[1:3] if channels_last else shape[2:] for shape in shapes]
    levels = defaultdict[int, list[int]](list)
    for count, size in zip(channels, cells, strict=True):
        strides = [s for s in STRIDES if size == (height // s, width // s) and min(size) > 0]
        if len(strides) != 1 or count < 1:
            return None
        levels[strides[0]].append(count)
    anchors = {min(counts) for counts in levels.values()}
    found = {tuple(sorted(count // min(anchors) for count in counts)) for counts in levels.values()}
    whole = all(count % min(anchors) == 0 for count in channels)
    if len(anchors) != 1 or not whole or len(found) != 1 or not found <= {*_ROWS}:
        return None
    (count,) = anchors
    places = tuple(Place(i, 0, count, channels[i] // count) for i in range(len(shapes)))
    rows: list[tuple[int, ...]] = [
        (shape[0], size[0] * size[1] * count, place.values)
        for shape, size, place in zip(shapes, cells, places, strict=True)
    ]
    return rows, () if channels_last else places, sorted(levels)
