"""Finds names, counts and faces in the lines of an annotation file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedet_mm.errors import AnnotationError
from facedet_mm.system.text import has_control_characters

_NAME = re.compile(r".*\.[A-Za-z]\w*")
_SIZED_NAME = re.compile(r"(.*\.[A-Za-z]\w*)\s+([0-9]{1,9})\s+([0-9]{1,9})")
_COUNT = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Layout:
    """Where the parts of an annotation file are.

    Attributes:
        kind: ``wider``, ``retinaface`` or ``scrfd``.
        names: Name of each image.
        sizes: Width and height of each image in pixels, or ``None``.
        counts: Number of faces of each image.
        face_lines: Indices of the lines with faces, from 0; the images have them in order.
        name_lines: Indices of the lines with names.
    """

    kind: str
    names: list[str]
    sizes: list[tuple[int, int] | None]
    counts: list[int]
    face_lines: list[int]
    name_lines: list[int]


def find_layout(path: str | os.PathLike[str], lines: Sequence[str]) -> Layout:
    """Returns the layout of an annotation file, whose format its first line tells.

    Args:
        path: File name used in error messages.
        lines: The file's lines without surrounding blanks.

    Raises:
        AnnotationError: There are no lines, or one is malformed.
    """
    first = next((line for line in lines if line), None)
    if first is None:
        raise AnnotationError(f"{path} is empty; expected WIDER FACE, RetinaFace or SCRFD annotations")
    return _scan_hash_format(path, lines) if first.startswith("#") else _scan_wider(path, lines)


def _check_name(path: str | os.PathLike[str], index: int, line: str, name: str) -> None:
    if has_control_characters(name):
        raise malformed(path, index, line, "the name of an image without control characters")


def malformed(path: str | os.PathLike[str], index: int, line: str, expected: str) -> AnnotationError:
    """Returns the error for a line, whose index counts from 0."""
    found = f"{line[:77]}…" if len(line) > 78 else line
    return AnnotationError(f"{path}, line {index + 1}: expected {expected}, found {found!r}")


def _scan_wider(path: str | os.PathLike[str], lines: Sequence[str]) -> Layout:
    numbered = [i for i, line in enumerate(lines) if line]
    names: list[str] = []
    counts: list[int] = []
    face_lines: list[int] = []
    name_lines: list[int] = []
    at = 0
    while at < len(numbered):
        index = numbered[at]
        name = lines[index]
        if not _NAME.fullmatch(name):
            raise malformed(path, index, name, "the name of an image, like 'event/image.jpg'")
        _check_name(path, index, name, name)
        if at + 1 == len(numbered):
            raise AnnotationError(f"{path} ends after line {index + 1}: expected the number of faces of {name}")
        count_index = numbered[at + 1]
        if not _COUNT.fullmatch(lines[count_index]):
            raise malformed(path, count_index, lines[count_index], f"the number of faces of {name}")
        count = int(lines[count_index])
        faces = numbered[at + 2 : at + 2 + count]
        for face, face_index in enumerate(faces):
            if _NAME.fullmatch(lines[face_index]):
                expected = f"face {face + 1} of the {count} that line {count_index + 1} announces"
                raise malformed(path, face_index, lines[face_index], expected)
        if len(faces) < count:
            raise AnnotationError(
                f"{path} ends after line {numbered[-1] + 1}: expected {count} faces of {name}, found {len(faces)}"
            )
        names.append(name)
        name_lines.append(index)
        counts.append(count)
        face_lines.extend(faces)
        at += 2 + count
        if count == 0 and at < len(numbered) and not lines[numbered[at]].strip("0 \t"):
            at += 1
    return Layout("wider", names, [None] * len(names), counts, face_lines, name_lines)


def _scan_hash_format(path: str | os.PathLike[str], lines: Sequence[str]) -> Layout:
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
            raise malformed(path, index, lines[index], expected)
        _check_name(path, index, lines[index], match[0])
        names.append(match[1] if kind == "scrfd" else match[0])
        sizes.append((int(match[2]), int(match[3])) if kind == "scrfd" else None)
    face_lines = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    ends = np.searchsorted(face_lines, [*headers[1:], len(lines)])
    return Layout(kind, names, sizes, np.diff(ends, prepend=0).tolist(), face_lines, headers)
