"""Reading face annotation files: WIDER FACE, RetinaFace and SCRFD formats, told apart by their content.

NumPy only, so that evaluation can read ground truth without torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import AnnotationError

ATTRIBUTE_NAMES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")
"""Columns of :attr:`ImageAnnotation.attributes`, in the order of the WIDER FACE files."""

_FACE_COLUMNS = {
    "wider": {4: "x y w h", 10: f"x y w h {' '.join(ATTRIBUTE_NAMES)}"},
    "retinaface": {4: "x y w h", 19: "x y w h and 5 times x y visible", 20: "x y w h, 5 times x y visible and blur"},
    "scrfd": {4: "x1 y1 x2 y2", 5: "x1 y1 x2 y2 ignore", 19: "x1 y1 x2 y2 and 5 times x y visible"},
}
_NAME = re.compile(r".*\.[A-Za-z]\w*")
_SIZED_NAME = re.compile(r"(.*\.[A-Za-z]\w*)\s+(\d+)\s+(\d+)")


@dataclass(frozen=True, eq=False)
class ImageAnnotation:
    """The N annotated faces of one image.

    Attributes:
        name: path of the image below the image folder, ``event/image.jpg``.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels; may reach beyond the image.
        ignore: (N,) bool, faces that are marked invalid or have no area.
        landmarks: (N, 5, 2) float32, x y in pixels; ``None`` when the file has none at all.
        landmark_weights: (N, 5) float32, 1 where the landmark is annotated, else 0; ``None`` like ``landmarks``.
        attributes: (N, 6) int64, columns :data:`ATTRIBUTE_NAMES`; ``None`` when the file has none.
        size: width and height of the image in pixels, where the file says it.
    """

    name: str
    boxes: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    landmarks: NDArray[np.float32] | None = None
    landmark_weights: NDArray[np.float32] | None = None
    attributes: NDArray[np.int64] | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class _Layout:
    """Where in the file things are: line indices count from 0; ``faces`` belong to images in order."""

    kind: str
    names: list[str]
    sizes: list[tuple[int, int] | None]
    counts: list[int]
    face_lines: list[int]


def read_annotations(path: str | os.PathLike[str]) -> list[ImageAnnotation]:
    """Reads the faces of all images in an annotation file.

    Three formats are told apart by content:

    * WIDER FACE ``wider_face_*_bbx_gt.txt``: name, number of faces, then ``x y w h`` and six attributes a line; a
      image without faces has the number 0 and then a line of zeros, which may be absent;
    * RetinaFace ``label.txt``: ``# name``, then ``x y w h`` a line, with or without five ``x y visible`` and blur;
    * SCRFD ``labelv2.txt``: ``# name width height``, then ``x1 y1 x2 y2``, with or without five ``x y visible``.

    A landmark whose three values are all −1, or whose third value is −1, is not annotated.

    Args:
        path: the text file; UTF-8, any line ends.

    Returns:
        The images in the order of the file.

    Raises:
        AnnotationError: the file is missing, not text, empty, or a line is malformed; names file and line.

    Example:
        >>> annotations = read_annotations("wider_face_val_bbx_gt.txt")  # doctest: +SKIP
        >>> annotations[0].name, annotations[0].boxes.shape  # doctest: +SKIP
        ('0--Parade/0_Parade_marchingband_1_465.jpg', (94, 4))
    """
    lines = _read_lines(Path(path))
    first = next((line for line in lines if line), None)
    if first is None:
        raise AnnotationError(f"{path} is empty; expected WIDER FACE, RetinaFace or SCRFD annotations")
    layout = _scan_hash_format(path, lines) if first.startswith("#") else _scan_wider(path, lines)
    return list(_images(layout, *_parse_faces(path, lines, layout)))


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not a UTF-8 text file, so it holds no annotations") from error
    except OSError as error:
        raise AnnotationError(f"cannot read the annotation file {path}: {error.strerror or error}") from error
    return [line.strip() for line in text.split("\n")]


def _broken(path: str | os.PathLike[str], index: int, line: str, expected: str) -> AnnotationError:
    found = f"{line[:77]}…" if len(line) > 78 else line
    return AnnotationError(f"{path}, line {index + 1}: expected {expected}, found {found!r}")


def _scan_wider(path: str | os.PathLike[str], lines: Sequence[str]) -> _Layout:
    numbered = [i for i, line in enumerate(lines) if line]
    names: list[str] = []
    counts: list[int] = []
    face_lines: list[int] = []
    at = 0
    while at < len(numbered):
        index = numbered[at]
        name = lines[index]
        if not _NAME.fullmatch(name):
            raise _broken(path, index, name, "the name of an image, like 'event/image.jpg'")
        if at + 1 == len(numbered):
            raise AnnotationError(f"{path} ends after line {index + 1}: expected the number of faces of {name}")
        count_index = numbered[at + 1]
        if not lines[count_index].isdecimal():
            raise _broken(path, count_index, lines[count_index], f"the number of faces of {name}")
        count = int(lines[count_index])
        faces = numbered[at + 2 : at + 2 + count]
        for face, face_index in enumerate(faces):
            if _NAME.fullmatch(lines[face_index]):
                expected = f"face {face + 1} of the {count} that line {count_index + 1} announces"
                raise _broken(path, face_index, lines[face_index], expected)
        if len(faces) < count:
            raise AnnotationError(
                f"{path} ends after line {numbered[-1] + 1}: expected {count} faces of {name}, found {len(faces)}"
            )
        names.append(name)
        counts.append(count)
        face_lines.extend(faces)
        at += 2 + count
        if count == 0 and at < len(numbered) and not lines[numbered[at]].strip("0 \t"):
            at += 1
    return _Layout("wider", names, [None] * len(names), counts, face_lines)


def _scan_hash_format(path: str | os.PathLike[str], lines: Sequence[str]) -> _Layout:
    headers = [i for i, line in enumerate(lines) if line.startswith("#")]
    first = lines[headers[0]][1:].strip()
    kind = "scrfd" if _SIZED_NAME.fullmatch(first) else "retinaface"
    pattern, expected = {
        "scrfd": (_SIZED_NAME, "'# event/image.jpg width height'"),
        "retinaface": (_NAME, "'# event/image.jpg'"),
    }[kind]
    names: list[str] = []
    sizes: list[tuple[int, int] | None] = []
    for index in headers:
        match = pattern.fullmatch(lines[index][1:].strip())
        if match is None:
            raise _broken(path, index, lines[index], expected)
        names.append(match[1] if kind == "scrfd" else match[0])
        sizes.append((int(match[2]), int(match[3])) if kind == "scrfd" else None)
    face_lines = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    ends = np.searchsorted(face_lines, [*headers[1:], len(lines)])
    return _Layout(kind, names, sizes, np.diff(ends, prepend=0).tolist(), face_lines)


def _parse_faces(
    path: str | os.PathLike[str], lines: Sequence[str], layout: _Layout
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All faces as (M, 20) float64, padded with −1, and the number of columns that each line really has."""
    faces = [lines[i] for i in layout.face_lines]
    columns = np.fromiter((len(face.split()) for face in faces), np.int64, len(faces))
    values = np.full((len(faces), 20), -1.0)
    for width in np.unique(columns).tolist():
        rows = np.flatnonzero(columns == width)
        if width in _FACE_COLUMNS[layout.kind]:
            values[rows, :width] = _numbers([faces[i] for i in rows.tolist()], width)
        else:
            values[rows] = np.nan
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if bad.size:
        index = layout.face_lines[bad[0]]
        wanted = " or ".join(f"'{text}'" for text in _FACE_COLUMNS[layout.kind].values())
        raise _broken(path, index, lines[index], f"a face as numbers {wanted}")
    if layout.kind == "scrfd":
        _check_corners(path, lines, layout, values)
    return values, columns


def _numbers(faces: Sequence[str], width: int) -> NDArray[np.float64]:
    """Lines of ``width`` fields each as float64; a line that is not numeric becomes NaN."""

    def parse(face: str) -> list[float]:
        try:
            return [float(field) for field in face.split()]
        except ValueError:
            return [np.nan] * width

    try:
        return np.loadtxt(faces, ndmin=2, comments=None)
    except ValueError:
        return np.array([parse(face) for face in faces])


def _check_corners(
    path: str | os.PathLike[str], lines: Sequence[str], layout: _Layout, values: NDArray[np.float64]
) -> None:
    """A few boxes that end before they begin are blemishes, most of them are x y w h in the wrong format."""
    reversed_rows = np.flatnonzero((values[:, 2:4] < values[:, :2]).any(1))
    if 2 * reversed_rows.size > len(values):
        index = layout.face_lines[reversed_rows[0]]
        raise _broken(path, index, lines[index], "corners x1 y1 x2 y2 with x2 ≥ x1 and y2 ≥ y1, not x y w h")


def _images(layout: _Layout, values: NDArray[np.float64], columns: NDArray[np.int64]) -> Iterator[ImageAnnotation]:
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
