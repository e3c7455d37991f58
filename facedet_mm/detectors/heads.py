"""Heads: which output of a network is which, found from their shapes, and selection of the high scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.preprocess import Normalization

Family = Literal["scrfd", "yunet"]

STRIDES = (8, 16, 32, 64, 128)
"""Strides of the heads of files without metadata."""
_MAX_ANCHORS = 4
_NORMALIZATION = {
    "scrfd": Normalization((127.5, 127.5, 127.5), (128, 128, 128), to_rgb=True),
    "yunet": Normalization((0, 0, 0), (1, 1, 1), to_rgb=False),
}


@dataclass(frozen=True)
class Place:
    """Where the rows of one output of a file lie, if the network returns maps (N, C, H, W) instead.

    Attributes:
        map: Index of the map.
        first: First channel of the output; its values follow one another, anchor by anchor.
        anchors: Number of anchors per cell.
        values: Number of values per row.
    """

    map: int
    first: int
    anchors: int
    values: int

    def shape(self, maps: Sequence[NDArray[np.float32]]) -> tuple[int, ...]:
        """Returns the shape (N, rows, values) of the output."""
        batch, _, height, width = maps[self.map].shape
        return batch, height * width * self.anchors, self.values


@dataclass(frozen=True)
class RowLevel:
    """One stride of a head whose outputs are rows.

    Attributes:
        stride: Distance between two cells in pixels.
        anchors: Number of anchors per cell.
        outputs: Indices of its outputs: boxes, landmarks if the head has them, one or two scores.
    """

    stride: int
    anchors: int
    outputs: tuple[int, ...]

    def pick(
        self, outputs: Sequence[NDArray[np.float32]], least: float, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Returns the cells (K, 3) and values (K, D) of all anchors whose last score is above ``least``.

        A cell is its column, its row and the stride; the values are in the order of ``outputs``.

        Args:
            outputs: Outputs for one image.
            least: Threshold of the last score.
            width: Width of the network's input.

        Returns:
            Cells and values, both float32; ``None`` if no score is above the threshold.
        """
        scores = outputs[self.outputs[-1]].ravel()
        rows = (scores > least).nonzero()[0]
        if not len(rows):
            return None
        cells = _cells(self.stride, len(scores), self.anchors, width).take(rows, 0)
        tables = (outputs[i].reshape(len(scores), -1) for i in self.outputs)
        return cells, np.concatenate([table.take(rows, 0) for table in tables], axis=1)

    def fits(self, outputs: Sequence[NDArray[np.float32]], batch: int, width: int, height: int) -> bool:
        """Returns whether the outputs of a batch have the shapes that belong to an input of this size."""
        cells = height // self.stride, width // self.stride
        shapes = [outputs[i].shape for i in self.outputs]
        if len(shapes[0]) == 4:
            whole, anchors = all(shape[:-1] == (batch, *cells) for shape in shapes), self.anchors
        else:
            rows, anchors = cells[0] * cells[1] * self.anchors, 1
            whole = all(shape[:-1] in ([(rows,), (1, rows)] if batch == 1 else [(batch, rows)]) for shape in shapes)
        return whole and shapes[0][-1] == 4 * anchors and shapes[-1][-1] == anchors


@dataclass(frozen=True, eq=False)
class MapPart:
    """Values of a row that lie in one map.

    Attributes:
        map: Index of the map.
        channels: (A, V) channels of the values, for each anchor.
    """

    map: int
    channels: NDArray[np.intp]


@dataclass(frozen=True)
class MapLevel:
    """One stride of a head whose outputs are maps; only the selected anchors are ever put into rows.

    Attributes:
        stride: Distance between two cells in pixels.
        parts: The parts of a row, whose values come in the order of :class:`RowLevel`.
    """

    stride: int
    parts: tuple[MapPart, ...]

    def pick(
        self, outputs: Sequence[NDArray[np.float32]], least: float, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Does what :meth:`RowLevel.pick` does."""
        part = self.parts[-1]
        scores = outputs[part.map]
        size, anchors, first = scores.shape[1] * scores.shape[2], len(part.channels), part.channels[0, -1]
        found = (scores.reshape(-1)[first * size : (first + anchors) * size] > least).nonzero()[0]
        if not len(found):
            return None
        anchor, cell = (0, found) if anchors == 1 else np.divmod(found, size)
        places = [part.channels[anchor] * size + cell[:, None] for part in self.parts]
        rows = [outputs[part.map].reshape(-1).take(place) for part, place in zip(self.parts, places, strict=True)]
        return (
            _cells(self.stride, size, 1, width).take(cell, 0),
            rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1),
        )

    def fits(self, outputs: Sequence[NDArray[np.float32]], batch: int, width: int, height: int) -> bool:
        """Does what :meth:`RowLevel.fits` does."""
        cells = (batch, height // self.stride, width // self.stride)
        shapes = [(outputs[part.map].shape, part.channels.max()) for part in self.parts]
        return all(len(s) == 4 and (s[0], *s[2:]) == cells and s[1] > last for s, last in shapes)


@dataclass(frozen=True)
class Head:
    """How to read a network's outputs and how to make its input.

    Attributes:
        family: Model family, which determines how boxes are decoded.
        levels: Levels by ascending stride.
        scores: Number of factors of a score: one for SCRFD; two for YuNet, the second of which is the objectness.
        landmarks: Whether the head has landmarks.
        normalization: Normalization of the input.
        logits: Whether the scores come before their sigmoid.
    """

    family: Family
    levels: tuple[RowLevel | MapLevel, ...]
    scores: int
    landmarks: bool
    normalization: Normalization
    logits: bool = False

    @property
    def divisor(self) -> int:
        """Both sides of the input are multiples of this number."""
        return max(level.stride for level in self.levels)

    def fits(self, outputs: Sequence[NDArray[np.float32]], batch: int, width: int, height: int) -> bool:
        """Returns whether the outputs of a batch belong to an input of ``width`` × ``height``."""
        return all(level.fits(outputs, batch, width, height) for level in self.levels)


def find_head(
    shapes: Sequence[tuple[int, ...]],
    width: int,
    height: int,
    metadata: Mapping[str, Any] | None = None,
    places: Sequence[Place] = (),
) -> Head:
    """Returns the head that the shapes of all outputs, for an input of ``width`` × ``height``, belong to.

    Outputs of one stride have the same number of rows, (rows, D) or (N, rows, D): D = 1 is a score, 4 a box,
    10 landmarks. One score output per stride means SCRFD, two mean YuNet. The ``metadata`` of our own files
    (``layout``, ``strides``, ``mean``, ``std``, ``to_rgb``) takes precedence over the shapes. ``places`` says where the
    outputs lie in maps, if the network returns maps.

    Raises:
        ValueError: The outputs do not belong to such a head.
    """
    metadata = metadata or {}
    groups: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, shape in enumerate(shapes):
        if len(shape) not in (2, 3) or shape[-1] not in (1, 4, 10):
            raise ValueError(f"output {index} has shape {shape}")
        groups[shape[-2]][shape[-1]].append(index)
    counts = {(len(group[1]), len(group[4]), len(group[10])) for group in groups.values()}
    if len(counts) != 1 or not counts <= {(1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1)}:
        raise ValueError(f"outputs have shapes {', '.join(map(str, shapes))}")
    ((scores, _, landmarks),) = counts
    rows = sorted(groups, reverse=True)
    strides = metadata.get("strides") or [_stride(count, width, height) for count in rows]
    family, normalization = input_of(scores, metadata)
    cells = [(height // stride) * (width // stride) for stride in strides]
    anchors = {count / cell for count, cell in zip(rows, cells, strict=True)}
    if len(anchors) != 1 or not min(anchors).is_integer() or min(anchors) < 1:
        raise ValueError(
            f"its strides {strides} have {rows} rows, which is not the same whole number of anchors per cell"
        )
    levels = list[RowLevel | MapLevel]()
    for stride, group in zip(strides, (groups[count] for count in rows), strict=True):
        indices = (*group[4], *group[10], *group[1])
        if places:
            levels.append(_map_level(stride, [places[i] for i in indices]))
        else:
            levels.append(RowLevel(stride, int(min(anchors)), indices))
    return Head(family, tuple(levels), scores, bool(landmarks), normalization)


def input_of(scores: int, metadata: Mapping[str, Any]) -> tuple[Family, Normalization]:
    """Returns the family of a head with this number of scores per row, and the normalization of its input.

    Raises:
        ValueError: The metadata names an unknown family.
    """
    family: Family = metadata.get("layout") or ("scrfd" if scores == 1 else "yunet")
    if family not in _NORMALIZATION:
        raise ValueError(f"its layout is {family!r}")
    if "mean" not in metadata:
        return family, _NORMALIZATION[family]
    return family, Normalization(tuple(metadata["mean"]), tuple(metadata["std"]), bool(metadata["to_rgb"]))


@lru_cache(maxsize=64)
def _cells(stride: int, rows: int, anchors: int, width: int) -> NDArray[np.float32]:
    """Returns (rows, 3): column and row of the cell of each anchor, and the stride."""
    y, x = np.divmod(np.arange(rows) // anchors, width // stride)
    return np.stack([x, y, np.full(rows, stride)], axis=1).astype(np.float32)


def _map_level(stride: int, places: Sequence[Place]) -> MapLevel:
    """Returns the level whose boxes, landmarks and scores lie in these ``places``."""
    if len({place.anchors for place in places}) != 1:
        raise ValueError(f"the outputs of stride {stride} have different numbers of anchors")
    parts = []
    for index, group in groupby(places, lambda place: place.map):
        channels = [
            place.first + np.arange(place.anchors * place.values).reshape(place.anchors, place.values)
            for place in group
        ]
        parts.append(MapPart(index, np.concatenate(channels, axis=1)))
    return MapLevel(stride, tuple(parts))


def _stride(rows: int, width: int, height: int) -> int:
    """Returns the smallest stride whose cells have a whole number of anchors."""
    for stride in STRIDES:
        cells = (height // stride) * (width // stride)
        if cells and rows % cells == 0 and 0 < rows // cells <= _MAX_ANCHORS:
            return stride
    raise ValueError(f"{rows} rows fit no stride of {STRIDES} for an input of {width} x {height}")
