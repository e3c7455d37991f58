"""From a network's raw outputs to faces.

Two families: SCRFD (arXiv 2105.04714; distances and offsets in units of the stride) and YuNet (anchor-free, one
point a cell; centre offset and log size). What an output means is told from its shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.letterbox import Letterbox, Normalization
from facedet_mm.detectors.nms import nms
from facedet_mm.structures import Faces

Family = Literal["scrfd", "yunet"]

_STRIDES = (8, 16, 32, 64, 128)
_MAX_ANCHORS = 4
_NORMALIZATION = {
    "scrfd": Normalization((127.5, 127.5, 127.5), (128, 128, 128), to_rgb=True),
    "yunet": Normalization((0, 0, 0), (1, 1, 1), to_rgb=False),
}
_SIGNS = np.array([[-1], [1]], np.float32)
"""Of SCRFD's distances, left and top before right and bottom; of YuNet's half sides likewise."""
_ROUNDING = 1 - 1e-6
"""Share of a threshold that outweighs the rounding of a product in float32."""
_LOG_HUGE = 80.0
"""A box of e to the power of this is larger than any picture; a little more would be infinite in float32."""


@dataclass(frozen=True)
class Level:
    """One stride of a head: which of the outputs are its own.

    Attributes:
        stride: pixels between two cells.
        scores: indices of the outputs whose values make the score: one for SCRFD, two for YuNet.
        boxes: index of the box output.
        landmarks: index of the landmark output, ``None`` without landmarks.
    """

    stride: int
    scores: tuple[int, ...]
    boxes: int
    landmarks: int | None

    @property
    def columns(self) -> tuple[int, ...]:
        """Indices of its outputs: boxes, landmarks if there are some, scores."""
        return (self.boxes, *(() if self.landmarks is None else (self.landmarks,)), *self.scores)


@dataclass(frozen=True)
class Head:
    """How to read a network's outputs and feed its input.

    Attributes:
        family: how boxes are decoded.
        levels: by ascending stride.
        num_anchors: anchors at each cell of every level.
        normalization: of the input.
    """

    family: Family
    levels: tuple[Level, ...]
    num_anchors: int
    normalization: Normalization

    @property
    def divisor(self) -> int:
        """The input's sides must be multiples of it."""
        return max(level.stride for level in self.levels)


def recognise(
    shapes: Sequence[tuple[int, ...]], width: int, height: int, metadata: Mapping[str, Any] | None = None
) -> Head:
    """Tells from the shapes of all outputs, for an input of ``width`` × ``height``, what they are.

    Outputs of one stride have the same number of rows, (rows, D) or (N, rows, D): D = 1 is a score, 4 a box,
    10 landmarks. One score output a stride is SCRFD, two are YuNet. ``metadata`` of our own files (``layout``,
    ``strides``, ``mean``, ``std``, ``to_rgb``) goes before what is told from the shapes.

    Raises:
        ValueError: the outputs are not those of such a head.
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
    rows = sorted(groups, reverse=True)
    strides = metadata.get("strides") or [_stride(count, width, height) for count in rows]
    family: Family = metadata.get("layout") or ("scrfd" if len(groups[rows[0]][1]) == 1 else "yunet")
    if family not in _NORMALIZATION:
        raise ValueError(f"its layout is {family!r}")
    cells = [(height // stride) * (width // stride) for stride in strides]
    anchors = {count / cell for count, cell in zip(rows, cells, strict=True)}
    if len(anchors) != 1 or not min(anchors).is_integer() or min(anchors) < 1:
        raise ValueError(f"its strides {strides} have {rows} rows, not one number of anchors a cell")
    levels = tuple(
        Level(stride, tuple(group[1]), group[4][0], group[10][0] if group[10] else None)
        for stride, group in zip(strides, (groups[count] for count in rows), strict=True)
    )
    normalization = _NORMALIZATION[family]
    if "mean" in metadata:
        normalization = Normalization(tuple(metadata["mean"]), tuple(metadata["std"]), bool(metadata["to_rgb"]))
    return Head(family, levels, int(anchors.pop()), normalization)


def to_faces(
    head: Head, outputs: Sequence[NDArray[np.float32]], letterbox: Letterbox, score_thr: float, iou_thr: float
) -> Faces:
    """Decodes one picture's outputs, drops duplicates and gives the faces in pixels of the picture.

    Boxes are clipped to the picture; those that keep no area, or aren't finite, are left out. Landmarks may lie
    outside.

    Args:
        head: what the outputs are.
        outputs: one (rows, D) array for each output of the network.
        letterbox: how the picture lay in the input.
        score_thr: faces score above it.
        iou_thr: see :func:`nms`.
    """
    return faces_of_picture(*decode(head, outputs, letterbox.canvas[0], score_thr), letterbox, iou_thr)


def faces_of_picture(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    landmarks: NDArray[np.float32] | None,
    letterbox: Letterbox,
    iou_thr: float,
) -> Faces:
    """Drops duplicates and what is no face, and gives the rest in pixels of the picture; see :func:`to_faces`.

    Args:
        boxes: (K, 4) x1 y1 x2 y2, in pixels of the network's input.
        scores: (K,).
        landmarks: (K, 5, 2) or ``None``, as the boxes.
        letterbox: how the picture lay in the input.
        iou_thr: see :func:`nms`.
    """
    limits = np.array(letterbox.resized * 2, np.float32)
    boxes = np.minimum(np.maximum(boxes, 0), limits)
    sound = boxes[:, :2] < boxes[:, 2:]  # false for a NaN
    if not sound.all() or (landmarks is not None and not np.isfinite(landmarks).all()):
        good = sound.all(1)
        if landmarks is not None:
            good &= np.isfinite(landmarks).all((1, 2))
            landmarks = landmarks[good]
        boxes, scores = boxes[good], scores[good]
    kept = nms(boxes, scores, iou_thr)
    scale = np.array(letterbox.scale * 2, np.float32)
    return Faces(boxes[kept] / scale, scores[kept], None if landmarks is None else landmarks[kept] / scale[:2])


def decode(
    head: Head, outputs: Sequence[NDArray[np.float32]], width: int, score_thr: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    """Decodes, of the outputs for one picture, only the anchors that score above ``score_thr``.

    Args:
        head: what the outputs are.
        outputs: one (rows, D) array for each output of the network.
        width: of the network's input.
        score_thr: a NaN is never above it.

    Returns:
        Boxes (K, 4) x1 y1 x2 y2, scores (K,) of at most 1 and landmarks (K, 5, 2) or ``None``, all float32, in
        pixels of the input, unclipped.
    """
    sizes = tuple(len(outputs[level.boxes]) for level in head.levels)
    cells = _cells(tuple(level.stride for level in head.levels), sizes, head.num_anchors, width)
    # A score of two factors is the root of their product. Where one is too small the other need not be looked at, and
    # YuNet's second, whether there is a face at all, leaves a few; its first is large almost everywhere.
    least = score_thr if len(head.levels[0].scores) == 1 else _ROUNDING * score_thr**2
    parts: list[list[NDArray[np.float32]]] = []
    for level, of_level in zip(head.levels, cells, strict=True):
        rows = (outputs[level.scores[-1]].ravel() > least).nonzero()[0]
        parts.append([of_level.take(rows, 0), *(outputs[i].take(rows, 0) for i in level.columns)])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    scores = columns.pop().ravel()
    if len(head.levels[0].scores) == 2:
        scores = np.sqrt(np.minimum(np.maximum(scores, 0), 1) * np.minimum(np.maximum(columns.pop().ravel(), 0), 1))
        rows = (scores > score_thr).nonzero()[0]
        scores, columns = scores.take(rows), [column.take(rows, 0) for column in columns]
    cell, raw, *landmarks = columns
    corners, scale = cell[:, None, :2], cell[:, None, 2:]
    raw = raw.reshape(-1, 2, 2)
    boxes = (raw * _SIGNS if head.family == "scrfd" else _yunet_corners(raw)) + corners
    boxes *= scale
    points = [(column.reshape(-1, 5, 2) + corners) * scale for column in landmarks]
    return boxes.reshape(-1, 4), np.minimum(scores, 1), points[0] if points else None


@lru_cache(maxsize=16)
def _cells(
    strides: tuple[int, ...], sizes: tuple[int, ...], num_anchors: int, width: int
) -> tuple[NDArray[np.float32], ...]:
    """For each level (rows, 3): column and line of the cell of each anchor, and its stride."""
    levels = list[NDArray[np.float32]]()
    for stride, size in zip(strides, sizes, strict=True):
        y, x = np.divmod(np.arange(size) // num_anchors, width // stride)
        levels.append(np.stack([x, y, np.full(size, stride)], axis=1).astype(np.float32))
    return tuple(levels)


def _yunet_corners(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre relative to the cell and logarithm of width and height as two corners relative to it, (K, 2, 2)."""
    half = np.exp(np.minimum(raw[:, 1:], _LOG_HUGE))
    half /= 2
    corners: NDArray[np.float32] = raw[:, :1] + half * _SIGNS
    return corners


def _stride(rows: int, width: int, height: int) -> int:
    """The smallest stride whose cells hold a whole number of anchors."""
    for stride in _STRIDES:
        cells = (height // stride) * (width // stride)
        if cells and rows % cells == 0 and 0 < rows // cells <= _MAX_ANCHORS:
            return stride
    raise ValueError(f"{rows} rows fit no stride of {_STRIDES} for an input of {width} x {height}")
