"""Reads face annotation files in the formats of WIDER FACE, RetinaFace and SCRFD."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.formats.text_layouts import Layout, find_layout, malformed
from facedet_mm.datasets.records import ATTRIBUTE_NAMES, FaceData, ImageAnnotation, Place
from facedet_mm.system.text import FLOAT32_MAX, are_plain_numbers, parse_number

_LARGEST_LABEL = 1 << 31
_FACE_COLUMNS = {
    "wider": {4: "x y w h", 10: f"x y w h {' '.join(ATTRIBUTE_NAMES)}"},
    "retinaface": {4: "x y w h", 19: "x y w h and 5 times x y visible", 20: "x y w h, 5 times x y visible and blur"},
    "scrfd": {4: "x1 y1 x2 y2", 5: "x1 y1 x2 y2 ignore", 19: "x1 y1 x2 y2 and 5 times x y visible"},
}


def read_text(path: Path, text: str) -> FaceData:
    """Reads the faces of all images in an annotation file of WIDER FACE, RetinaFace or SCRFD.

    Args:
        path: Name of the file.
        text: Its content.

    Raises:
        AnnotationError: A line is malformed; the message names file and line.
    """
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    layout = find_layout(path, lines)
    images = list(_images(layout, *_parse_faces(path, lines, layout)))
    return FaceData(layout.kind, images, list(_places(path, layout)))


def _places(path: Path, layout: Layout) -> Iterator[Place]:
    start = 0
    for line, count in zip(layout.name_lines, layout.counts, strict=True):
        faces = layout.face_lines[start : start + count]
        yield Place(str(path), "line", line + 1, tuple(index + 1 for index in faces))
        start += count


def _parse_faces(
    path: str | os.PathLike[str], lines: Sequence[str], layout: Layout
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns all faces as (M, 20) float64, padded with −1, and the number of columns in each line, (M,) int64."""
    faces = [lines[i] for i in layout.face_lines]
    columns = np.fromiter((len(face.split()) for face in faces), np.int64, len(faces))
    values = np.full((len(faces), 20), -1.0)
    for width in np.unique(columns).tolist():
        rows = np.flatnonzero(columns == width)
        if width in _FACE_COLUMNS[layout.kind]:
            values[rows, :width] = _numbers([faces[i] for i in rows.tolist()], width)
        else:
            values[rows] = np.nan
    bad = np.flatnonzero(~_are_usable(layout, values, columns))
    if bad.size:
        index = layout.face_lines[bad[0]]
        wanted = " or ".join(f"'{text}'" for text in _FACE_COLUMNS[layout.kind].values())
        raise malformed(path, index, lines[index], f"a face as finite decimal numbers {wanted}")
    if layout.kind == "scrfd":
        _check_corners(path, lines, layout, values)
    return values, columns


def _numbers(faces: Sequence[str], width: int) -> NDArray[np.float64]:
    """Returns lines of ``width`` fields as float64; a line that is not numeric becomes NaN."""

    def parse(face: str) -> list[float]:
        try:
            return [parse_number(field) for field in face.split()]
        except ValueError:
            return [np.nan] * width

    if are_plain_numbers("".join(faces).encode()):
        with contextlib.suppress(ValueError):
            return np.loadtxt(faces, ndmin=2, comments=None)
    return np.array([parse(face) for face in faces])


def _are_usable(layout: Layout, values: NDArray[np.float64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns (M,) bool, the faces whose numbers, and the corners made of them, are finite float32 and whole labels."""
    used = values[:, : int(columns.max(initial=4))]
    usable = np.asarray((np.abs(used) <= FLOAT32_MAX).all(1))
    if layout.kind != "scrfd":
        corners = np.where(usable[:, None], values[:, :2], 0) + np.where(usable[:, None], values[:, 2:4], 0)
        usable &= (np.abs(corners) <= FLOAT32_MAX).all(1)
    if layout.kind == "wider":
        labels = values[:, 4:10]
        whole = (np.abs(labels) < _LARGEST_LABEL) & (labels == np.trunc(labels))
        usable &= whole.all(1) | (columns != 10)
    return usable


def _check_corners(
    path: str | os.PathLike[str], lines: Sequence[str], layout: Layout, values: NDArray[np.float64]
) -> None:
    """Checks that most boxes end after they begin: otherwise they are x y w h, while a few are blemishes."""
    reversed_rows = np.flatnonzero((values[:, 2:4] < values[:, :2]).any(1))
    if 2 * reversed_rows.size > len(values):
        index = layout.face_lines[reversed_rows[0]]
        raise malformed(path, index, lines[index], "corners x1 y1 x2 y2 with x2 ≥ x1 and y2 ≥ y1, not x y w h")


def _images(layout: Layout, values: NDArray[np.float64], columns: NDArray[np.int64]) -> Iterator[ImageAnnotation]:
    corners = values[:, :4].copy()
    if layout.kind != "scrfd":
        corners[:, 2:] += corners[:, :2]
    ignore = (corners[:, 2] <= corners[:, 0]) | (corners[:, 3] <= corners[:, 1])
    landmarks = weights = attributes = None
    if layout.kind == "wider" and (columns == 10).any():
        attributes = np.where(columns[:, None] == 10, values[:, 4:10], 0).astype(np.int64)
        ignore |= attributes[:, ATTRIBUTE_NAMES.index("invalid")] > 0
    if layout.kind == "scrfd":
        ignore |= (columns == 5) & (values[:, 4] > 0)
    if (columns >= 19).any():
        points = np.where(columns[:, None] >= 19, values[:, 4:19], -1).reshape(-1, 5, 3)
        landmarks = points[..., :2].astype(np.float32)
        weights = (points[..., 2] >= 0).astype(np.float32)
    boxes = corners.astype(np.float32)
    ends = np.cumsum(layout.counts).tolist()
    for name, size, start, end in zip(layout.names, layout.sizes, [0, *ends], ends, strict=False):
        faces = slice(start, end)
        yield ImageAnnotation(
            name,
            boxes[faces],
            ignore[faces],
            None if landmarks is None else landmarks[faces],
            None if weights is None else weights[faces],
            None if attributes is None else attributes[faces],
            size,
        )
