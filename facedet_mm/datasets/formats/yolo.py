"""YOLO: one text file per image with fractions of its width and height, and landmarks as the pose format has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.formats.numbers import text
from facedet_mm.datasets.formats.yolo_layouts import YoloLayout, find_yolo
from facedet_mm.datasets.records import (
    LANDMARK_REMEDY,
    FaceData,
    ImageAnnotation,
    ImageBuilder,
    Place,
    ReadOptions,
    choose_category,
    finish,
)
from facedet_mm.errors import AnnotationError
from facedet_mm.io.dimensions import image_dimensions
from facedet_mm.structures import LANDMARK_NAMES
from facedet_mm.system.files import write_text
from facedet_mm.system.reading import MB, read_text_file
from facedet_mm.system.text import parse_number, parse_whole

_LARGEST_FILE = 16 * MB
_LARGEST_CLASS = 1 << 20
_SLACK = 0.01
"""How far a coordinate may be outside of the image, as a fraction of it: rounding."""
_POINTS = len(LANDMARK_NAMES)
_BOX = 5
"""Columns of a line without landmarks: class and box."""


@dataclass(frozen=True)
class _Row:
    line: int
    label: str
    values: list[float]


def read_yolo(path: Path, options: ReadOptions) -> FaceData:
    """Reads a YOLO data set.

    A line is ``class cx cy w h``, alone or with five landmarks ``x y visible``, or ``x y`` if ``kpt_shape`` in
    ``data.yaml`` is [5, 2], as fractions of the width and height of the image. A landmark with visibility 0, with a
    negative coordinate, or at 0 0 is not annotated. An image without label file has no faces. The sizes of the images
    are read from their files.

    Args:
        path: ``data.yaml``, its folder, a folder with ``images`` and ``labels``, a folder of images such as
            ``images/train``, or a text file with a list of images.
        options: What to take; ``images`` is the folder of the images if it is not the usual one.

    Raises:
        AnnotationError: A line or the layout is not YOLO's, landmarks are not five, or several classes might be faces.
        ImageError: An image with labels can't be read.
        MissingDependencyError: ``data.yaml`` has to be read, and PyYAML is not installed.
    """
    layout = find_yolo(path, options.images)
    count, per_point = layout.shape or (_POINTS, 3)
    if options.landmarks and count not in (0, _POINTS):
        raise AnnotationError(f"{layout.data_file}: kpt_shape has {count} keypoints; {LANDMARK_REMEDY}")
    rows = [_rows(label, layout) for _, _, label in layout.entries]
    chosen, notes = choose_category(Counter(row.label for image in rows for row in image or ()), options.category, path)
    builders = []
    for (name, image, label), labels in zip(layout.entries, rows, strict=True):
        size = image_dimensions(image) if labels else None
        builder = ImageBuilder(name, Place(str(label), "line"), size)
        for row in labels or ():
            if row.label == chosen and size is not None:
                _add(builder, row, size, per_point if options.landmarks else 0)
        builders.append(builder)
    if missing := sum(image is None for image in rows):
        notes.append(f"{missing:,} of {len(rows):,} images have no label file, so they have no faces")
    problems = []
    if orphans := layout.orphans():
        first = ", ".join(map(str, orphans[:3])) + (", …" if len(orphans) > 3 else "")
        problems.append(f"{len(orphans):,} label files belong to no image: {first}; add the images or remove the files")
    return FaceData("yolo", *finish(builders), folder=layout.root, notes=notes, problems=problems)


def _rows(path: Path, layout: YoloLayout) -> list[_Row] | None:
    """Returns the lines of a label file, ``None`` if there is none."""
    if not path.is_file():
        return None
    rows = []
    count, per_point = layout.shape or (_POINTS, 3)
    columns = (_BOX, _BOX + count * per_point)
    for number, line in enumerate(read_text_file(path, _LARGEST_FILE, "a YOLO label file").split("\n"), start=1):
        fields = line.split()
        if not fields:
            continue
        place = f"{path}, line {number}"
        try:
            label = parse_whole(fields[0], 0, _LARGEST_CLASS)
            values = [parse_number(field) for field in fields[1:]]
        except ValueError as error:
            raise AnnotationError(f"{place}: expected 'class cx cy w h': {error}") from None
        if len(fields) not in columns:
            raise AnnotationError(f"{place}: {_wrong_width(len(fields), columns)}")
        if layout.names is not None and label not in layout.names:
            raise AnnotationError(f"{place}: class {label} is not among the names of {layout.data_file}")
        rows.append(_Row(number, layout.names[label] if layout.names else str(label), values))
    return rows


def _wrong_width(count: int, columns: tuple[int, int]) -> str:
    found = f"expected 'class cx cy w h', alone or with landmarks ({columns[0]} or {columns[1]} columns), found {count}"
    if count == _BOX + 1:
        return f"{found}, as in predictions with a confidence; labels have none"
    return (
        f"{found}: write the shape of landmarks into data.yaml (kpt_shape: [5, 2] for x y, [5, 3] for x y visible), "
        "or turn polygons into boxes"
    )


def _add(builder: ImageBuilder, row: _Row, size: tuple[int, int], per_point: int) -> None:
    cx, cy, w, h = row.values[:4]
    place = f"{builder.place().file}, line {row.line}"
    if not all(-_SLACK <= value <= 1 + _SLACK for value in (cx, cy, w, h)):
        raise AnnotationError(f"{place}: cx cy w h must be fractions of the image from 0 to 1, not pixels")
    width, height = size
    corners = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    points = None
    if per_point and len(row.values) == _BOX - 1 + _POINTS * per_point:
        points = np.ones((_POINTS, 3))
        points[:, :per_point] = np.reshape(row.values[4:], (_POINTS, per_point))
        points[:, 2] = (points[:, 2] > 0) & (points[:, :2] >= 0).all(1) & points[:, :2].any(1)
        if not (points[points[:, 2] > 0, :2] <= 1 + _SLACK).all():
            raise AnnotationError(f"{place}: landmarks must be fractions of the image from 0 to 1, not pixels")
        points[:, :2] *= np.where(points[:, 2:] > 0, (width, height), 0)
    builder.add(row.line, corners, points=None if points is None else points.tolist())


def write_yolo(path: Path, image: ImageAnnotation, size: tuple[int, int], landmarks: bool) -> dict[str, int]:
    """Writes the label file of one image: faces that count, cut at the border of the image.

    Args:
        path: The text file.
        image: The image with its faces.
        size: Its width and height in pixels.
        landmarks: Whether to write landmarks, zeros for those that are missing or outside of the image.

    Returns:
        What could not be written → how often.
    """
    lost: Counter[str] = Counter()
    lost["faces to ignore"] = int(image.ignore.sum())
    scale = np.array(size, np.float64)
    lines = []
    for i in np.flatnonzero(~image.ignore).tolist():
        corners = image.boxes[i].astype(np.float64).reshape(2, 2) / scale
        cut = corners.clip(0, 1)
        if (cut[1] <= cut[0]).any():
            lost["faces outside of their image"] += 1
            continue
        lost["parts of faces outside of their image"] += int((cut != corners).any())
        fields = [0.0, *((cut[0] + cut[1]) / 2).tolist(), *(cut[1] - cut[0]).tolist()]
        if landmarks:
            points = _fractions(image, i, scale)
            if image.landmark_weights is not None:
                lost["landmarks outside of their image"] += int((image.landmark_weights[i] > points[:, 2]).sum())
            fields += points.ravel().tolist()
        lines.append(" ".join(text(int(v) if v == int(v) else round(v, 9)) for v in fields))
    write_text(path, "".join(f"{line}\n" for line in lines))
    return {what: count for what, count in lost.items() if count}


def _fractions(image: ImageAnnotation, index: int, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (5, 3) float64: x y as fractions and visibility 2, zeros where there is none inside of the image."""
    points = np.zeros((_POINTS, 3))
    if image.landmarks is not None and image.landmark_weights is not None:
        where = image.landmarks[index].astype(np.float64) / scale
        inside = (image.landmark_weights[index] > 0) & ((where >= 0) & (where <= 1)).all(1) & where.any(1)
        points[inside] = np.column_stack([where[inside], np.full(inside.sum(), 2.0)])
    return points


def write_data_file(path: Path, splits: Sequence[str], landmarks: bool) -> None:
    """Writes ``data.yaml``, which names the classes, the shape of the landmarks and the folders of images.

    Args:
        path: The file.
        splits: Folders of images below its folder, for ``train`` and then ``val``; one serves for both.
        landmarks: Whether labels have landmarks.
    """
    lines = [f"train: {splits[0]}", f"val: {splits[-1]}", "names:", "  0: face"]
    if landmarks:
        lines += [f"kpt_shape: [{_POINTS}, 3]", "flip_idx: [1, 0, 2, 4, 3]"]
    write_text(path, "\n".join([*lines, ""]))
