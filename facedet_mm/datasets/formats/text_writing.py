"""Writes the text formats of WIDER FACE, RetinaFace and SCRFD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facedet_mm.datasets.formats.numbers import short, text, widths
from facedet_mm.datasets.formats.text import read_text
from facedet_mm.datasets.records import ATTRIBUTE_NAMES, ImageAnnotation
from facedet_mm.errors import AnnotationError
from facedet_mm.system.files import write_text

_INVALID = ATTRIBUTE_NAMES.index("invalid")


def write_text_format(
    kind: str, path: Path, images: Sequence[ImageAnnotation], sizes: Sequence[tuple[int, int]]
) -> None:
    """Writes an annotation file.

    Args:
        kind: ``wider``, ``retinaface`` or ``scrfd``.
        path: The file.
        images: Images with their faces.
        sizes: Width and height of each image in pixels.

    Raises:
        AnnotationError: The format can't hold the name of an image.
    """
    lines: list[str] = []
    for image, (width, height) in zip(images, sizes, strict=True):
        faces = [_LINES[kind](image, i) for i in range(len(image)) if kind != "retinaface" or not _is_marked(image, i)]
        if kind == "wider":
            lines += [image.name, str(len(faces)), *(faces or ["0 0 0 0 0 0 0 0 0 0"])]
        else:
            lines += [f"# {image.name}" + (f" {width} {height}" if kind == "scrfd" else ""), *faces]
    content = "\n".join([*lines, ""])
    _check(path, content, images)
    write_text(path, content)


def _check(path: Path, content: str, images: Sequence[ImageAnnotation]) -> None:
    """Reads what is about to be written: a name like ``# 1`` would be another image, or none."""
    try:
        found = [image.name for image in read_text(path, content).images] if images else []
    except AnnotationError as error:
        raise AnnotationError(f"the data can't be written in this format: {error}") from error
    for image, name in zip(images, [*found, *[""] * len(images)], strict=False):
        if image.name != name:
            raise AnnotationError(
                f"the name {image.name!r} can't be written to {path} in this format; rename the image"
            )


def _is_marked(image: ImageAnnotation, index: int) -> bool:
    """Returns whether a face is to be ignored although it has an area."""
    box = image.boxes[index]
    return bool(image.ignore[index] and (box[2:] > box[:2]).all())


def _wider(image: ImageAnnotation, index: int) -> str:
    columns = [0] * len(ATTRIBUTE_NAMES) if image.attributes is None else image.attributes[index].tolist()
    columns[_INVALID] = max(columns[_INVALID], int(_is_marked(image, index)))
    return " ".join([_box(image, index), *map(str, columns)])


def _retinaface(image: ImageAnnotation, index: int) -> str:
    return _box(image, index) + _points(image, index)


def _scrfd(image: ImageAnnotation, index: int) -> str:
    box = image.boxes[index]
    ends = np.maximum(box[2:], box[:2])  # a file of boxes that end before they begin would be taken for x y w h
    corners = " ".join(text(short(value)) for value in (*box[:2], *ends))
    return f"{corners} 1" if _is_marked(image, index) else corners + _points(image, index)


def _box(image: ImageAnnotation, index: int) -> str:
    box = image.boxes[index]
    return " ".join(map(text, (short(box[0]), short(box[1]), *widths(box))))


def _points(image: ImageAnnotation, index: int) -> str:
    if image.landmarks is None or image.landmark_weights is None:
        return ""
    triples = [
        f" {text(short(x))} {text(short(y))} 0" if weight > 0 else " -1 -1 -1"
        for (x, y), weight in zip(image.landmarks[index], np.asarray(image.landmark_weights[index]), strict=True)
    ]
    return "".join(triples)


_LINES = {"wider": _wider, "retinaface": _retinaface, "scrfd": _scrfd}
