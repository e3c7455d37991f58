"""labelme: one JSON file per image, with rectangles for faces and named points for landmarks."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.formats.numbers import short
from facedet_mm.datasets.records import (
    FaceData,
    ImageAnnotation,
    ImageBuilder,
    Place,
    ReadOptions,
    choose_category,
    finish,
    image_dimension,
    landmark_index,
    number,
)
from facedet_mm.errors import AnnotationError
from facedet_mm.structures import LANDMARK_NAMES
from facedet_mm.system.files import write_text
from facedet_mm.system.text import one_line

_IGNORED = ("ignore", "difficult", "crowd")
"""Flags of a rectangle that mark a face to ignore."""


def read_labelme(
    path: Path, root: Path, documents: Iterable[tuple[Path, Mapping[str, Any]]], options: ReadOptions
) -> FaceData:
    """Reads labelme documents.

    A rectangle is a face. A point that is named like a landmark (``left_eye``, ``nose``, ``mouth_right``) belongs to
    the rectangle of the same ``group_id``, else to the smallest rectangle that contains it. A rectangle with the flag
    ``ignore``, ``difficult`` or ``crowd`` is ignored.

    Args:
        path: The file or folder that was asked for, for messages.
        root: Folder that images must be in.
        documents: Path and content of each JSON file.
        options: What to take.

    Raises:
        AnnotationError: A shape is malformed, an image is outside of ``root``, or labels are ambiguous.
    """
    parsed = [(file, _without_image(document), _shapes(file, document)) for file, document in documents]
    labels = (shape["label"] for _, _, shapes in parsed for shape in shapes if shape["shape_type"] == "rectangle")
    chosen, notes = choose_category(Counter(labels), options.category, path)
    builders: dict[str, ImageBuilder] = {}
    unused: Counter[str] = Counter()
    for file, document, shapes in parsed:
        builder = ImageBuilder(_image_name(file, document, root), Place(str(file), "shapes"), _size(file, document))
        if builder.name in builders:
            raise AnnotationError(f"{file}: its image {builder.name} is annotated in two files; remove one")
        builders[builder.name] = builder
        faces = {i: _corners(shape) for i, shape in enumerate(shapes) if _is_face(shape, chosen)}
        points = _landmarks(file, shapes, faces) if options.landmarks else {}
        for index, corners in faces.items():
            flags = shapes[index].get("flags") or {}
            ignore = isinstance(flags, dict) and any(flags.get(name) for name in _IGNORED)
            builder.add(index, corners, ignore, points[index].tolist() if index in points else None)
        unused.update(kind for kind in map(_kind, shapes) if kind and (options.landmarks or kind != "point"))
    if unused:
        listed = ", ".join(f"{count} {kind}s" for kind, count in sorted(unused.items()))
        notes.append(f"shapes that are neither rectangles nor points named like landmarks are left out: {listed}")
    return FaceData("labelme", *finish(builders.values()), folder=root, notes=notes)


def _without_image(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a document without the content of the image, which labelme stores in it."""
    return {key: value for key, value in document.items() if key != "imageData"}


def _shapes(file: Path, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    shapes = document.get("shapes")
    if not isinstance(shapes, list):
        raise AnnotationError(f"{file}: 'shapes' must be a list, as labelme writes it")
    for index, shape in enumerate(shapes):
        place = f"{file}, shapes[{index}]"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise AnnotationError(f"{place} must be an object with a label")
        kind = shape.setdefault("shape_type", "polygon")
        points = shape.get("points")
        if not isinstance(kind, str) or not isinstance(points, list):
            raise AnnotationError(f"{place}: shape_type must be a name, and points a list")
        for point in points if kind in ("rectangle", "point") else ():
            if not isinstance(point, list) or len(point) != 2:
                raise AnnotationError(f"{place}: a point must be [x, y], not {point!r:.60}")
            for value in point:
                number(value, place, "a coordinate")
        wanted = {"rectangle": (2, 4), "point": (1,)}.get(kind)
        if wanted and len(points) not in wanted:
            raise AnnotationError(f"{place}: a {kind} must have {wanted[0]} points, not {len(points)}")
    return shapes


def _image_name(file: Path, document: Mapping[str, Any], root: Path) -> str:
    name = document.get("imagePath")
    if not isinstance(name, str) or not name:
        raise AnnotationError(f"{file}: imagePath must be the path of the image")
    place = os.path.normpath(os.path.join(os.path.relpath(file.parent, root), name.replace("\\", "/")))
    if place.startswith("..") or os.path.isabs(place):
        raise AnnotationError(
            f"{file}: imagePath {one_line(name)[:200]!r} leads out of {root}; give the folder that holds "
            "both the images and the JSON files"
        )
    return Path(place).as_posix()


def _size(file: Path, document: Mapping[str, Any]) -> tuple[int, int] | None:
    if document.get("imageWidth") is None or document.get("imageHeight") is None:
        return None
    width, height = (image_dimension(document[key], str(file), key) for key in ("imageWidth", "imageHeight"))
    return width, height


def _is_face(shape: Mapping[str, Any], chosen: str | None) -> bool:
    return bool(shape["shape_type"] == "rectangle" and shape["label"] == chosen)


def _corners(shape: Mapping[str, Any]) -> tuple[float, float, float, float]:
    xs, ys = zip(*shape["points"], strict=True)
    return float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))


def _landmarks(
    file: Path, shapes: Sequence[Mapping[str, Any]], faces: Mapping[int, Sequence[float]]
) -> dict[int, NDArray[np.float64]]:
    found: dict[int, NDArray[np.float64]] = {}
    for index, shape in enumerate(shapes):
        landmark = landmark_index(shape["label"]) if shape["shape_type"] == "point" else None
        if landmark is None:
            continue
        place = f"{file}, shapes[{index}]"
        face = _owner(place, shape, shapes, faces)
        points = found.setdefault(face, np.zeros((len(LANDMARK_NAMES), 3)))
        if points[landmark, 2]:
            raise AnnotationError(
                f"{place}: the face shapes[{face}] has a second {shape['label']}; give each face and its points a "
                "group_id of their own"
            )
        points[landmark] = [*shape["points"][0], 1]
    return found


def _owner(
    place: str, point: Mapping[str, Any], shapes: Sequence[Mapping[str, Any]], faces: Mapping[int, Sequence[float]]
) -> int:
    """Returns the index of the rectangle that a point belongs to."""
    group = point.get("group_id")
    if group is not None:
        owners = [i for i in faces if shapes[i].get("group_id") == group]
        if len(owners) == 1:
            return owners[0]
        raise AnnotationError(f"{place}: {len(owners)} faces have its group_id {group!r:.60}; there must be one")
    x, y = point["points"][0]
    around = [i for i, (x1, y1, x2, y2) in faces.items() if x1 <= x <= x2 and y1 <= y <= y2]
    if not around:
        raise AnnotationError(f"{place}: {point['label']} is in no face; give it the group_id of its face")
    return min(around, key=lambda i: (faces[i][2] - faces[i][0]) * (faces[i][3] - faces[i][1]))


def _kind(shape: Mapping[str, Any]) -> str | None:
    """Returns the type of a shape that is neither a face, an object of another category nor a landmark."""
    kind: str = shape["shape_type"]
    known = kind == "rectangle" or (kind == "point" and landmark_index(shape["label"]) is not None)
    return None if known else one_line(kind)[:30]


def write_labelme(path: Path, image: ImageAnnotation, size: tuple[int, int], image_path: str) -> None:
    """Writes the document of one image; each face and its landmarks have a ``group_id``.

    Args:
        path: The JSON file.
        image: The image with its faces.
        size: Its width and height in pixels.
        image_path: Path of the image relative to the folder of ``path``.
    """
    shapes = []
    for i in range(len(image)):
        x1, y1, x2, y2 = map(short, image.boxes[i])
        shapes.append(_shape("face", "rectangle", [[x1, y1], [x2, y2]], i, bool(image.ignore[i])))
        if image.landmarks is None or image.landmark_weights is None:
            continue
        for name, (x, y), weight in zip(LANDMARK_NAMES, image.landmarks[i], image.landmark_weights[i], strict=True):
            if weight > 0:
                shapes.append(_shape(name, "point", [[short(x), short(y)]], i))
    document: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
    }
    write_text(path, json.dumps(document | {"imageWidth": size[0], "imageHeight": size[1]}, indent=1) + "\n")


def _shape(label: str, kind: str, points: list[list[float]], group: int, ignore: bool = False) -> dict[str, Any]:
    flags = {"ignore": True} if ignore else {}
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": flags}
