"""The WIDER FACE submission format: one text file per image, ``<event>/<image>.txt``.

A file has the image's name, the number of boxes, and one line ``x y w h score`` per box.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.datasets.predictions import Predictions, check_detections, image_key, refuse_duplicates
from facedet_mm.errors import AnnotationError
from facedet_mm.system.files import write_text
from facedet_mm.system.reading import MB, read_whole_file
from facedet_mm.system.text import FLOAT32_MAX, are_plain_numbers, one_line, parse_number

_LARGEST_FILE = 64 * MB
"""Of one image: about a million boxes."""
_COUNT = re.compile(rb"[0-9]{1,9}")


def write_prediction_file(path: str | os.PathLike[str], image_name: str, boxes: ArrayLike, scores: ArrayLike) -> None:
    r"""Writes the detections of one image, atomically and in descending order of score.

    Numbers are written in full, so that a file has exactly the average precision of the arrays.

    Args:
        path: ``<event>/<image>.txt`` below the submission's folder; missing folders are made.
        image_name: First line of the file; a line break or other control character in it is written as
            an escape such as ``\n``.
        boxes: (N, 4) x1 y1 x2 y2 in pixels.
        scores: (N,).

    Raises:
        AnnotationError: A box or score is not finite in float32.
        ValueError: The shapes do not agree.
        FaceDetError: The file can't be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_prediction_file(f"{folder.name}/party/1.txt", "party/1.jpg", [[10, 10, 50, 60]], [0.9])
        >>> print(Path(folder.name, "party", "1.txt").read_text(), end="")
        party/1.jpg
        1
        10.0 10.0 40.0 50.0 0.9
        >>> folder.cleanup()
    """
    boxes, scores = check_detections(image_name, boxes, scores)
    order = np.argsort(-scores, kind="stable")
    rows = np.column_stack([boxes, scores])[order].astype(np.float64)
    rows[:, 2:4] -= rows[:, :2]
    if not (np.abs(rows) <= FLOAT32_MAX).all():
        row = int(np.argmin((np.abs(rows) <= FLOAT32_MAX).all(1)))
        raise AnnotationError(f"{image_name}: detection {order[row]} is beyond the range of float32")
    lines = [" ".join(map(repr, row)) for row in rows.tolist()]
    write_text(path, "\n".join([one_line(image_name), str(len(rows)), *lines, ""]))


def read_predictions(folder: str | os.PathLike[str]) -> Predictions:
    """Reads a submission folder: every ``<event>/<image>.txt``; also ``<image>.jpg.txt``.

    The folder and the name of a file tell the image; the name in its first line is ignored, as in the official
    tools. Boxes and scores are float64. Hidden files and files with other suffixes are ignored.

    Raises:
        AnnotationError: The folder does not exist or has no prediction file, an image has two files, or a file is
            malformed; the message names file and line.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_prediction_file(f"{folder.name}/party/1.txt", "party/1.jpg", [[10, 10, 50, 60]], [0.9])
        >>> read_predictions(folder.name).boxes.tolist()
        [[10.0, 10.0, 50.0, 60.0]]
        >>> folder.cleanup()
    """
    folder = Path(folder)
    files = list(_prediction_files(folder))
    names = [image_key(f"{event}/{name}") for event, name in files]
    refuse_duplicates(names, [str(folder / event / name) for event, name in files])
    values = array("d")  # grows in place, so that the rows are in memory only once
    offsets = [0]
    for file in files:
        table = _read_file(os.path.join(folder, *file))
        values.frombytes(table.tobytes())
        offsets.append(offsets[-1] + len(table))
    rows = np.asarray(values).reshape(-1, 5)
    rows[:, 2:4] += rows[:, :2]
    return Predictions(tuple(names), np.array(offsets, np.int64), rows[:, :4], rows[:, 4])


def _prediction_files(folder: Path) -> list[tuple[str, str]]:
    if not folder.is_dir():
        raise AnnotationError(f"{folder} is not a folder; give the folder that holds <event>/<image>.txt")
    files = [
        (event.name, file.name)
        for event in _entries(folder)
        if _is(event, os.DirEntry.is_dir)
        for file in _entries(event)
        if file.name.lower().endswith(".txt") and _is(file, os.DirEntry.is_file)
    ]
    if not files:
        raise AnnotationError(f"{folder} holds no prediction file; expected {folder}/<event>/<image>.txt")
    return sorted(files)


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise AnnotationError(f"cannot read {os.fspath(folder)}: {error.strerror or error}") from error


def _is(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    try:
        return kind(entry)
    except OSError as error:  # such as links in a circle
        raise AnnotationError(f"cannot read {entry.path}: {error.strerror or error}") from error


def _read_file(path: str) -> NDArray[np.float64]:
    """Returns the (N, 5) rows x y w h score of a file."""
    lines = read_whole_file(path, _LARGEST_FILE, "a prediction file").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) < 2:
        what = "is empty" if not lines else "ends after its first line"
        raise AnnotationError(f"{path} {what}; an image without faces has two lines: its name and 0")
    if not _COUNT.fullmatch(lines[1].strip()):
        raise AnnotationError(f"{path}:2: expected the number of boxes, not {_shown(lines[1])}")
    count = int(lines[1])
    if count != len(lines) - 2:
        raise AnnotationError(f"{path}:2: says {count} boxes, but {len(lines) - 2} lines follow")
    if not are_plain_numbers(b"".join(lines[2:])):
        raise _line_error(path, lines)
    rows = [line.split() for line in lines[2:]]
    try:
        table = np.array([[float(field) for field in row] for row in rows], np.float64).reshape(-1, 5)
    except ValueError:
        raise _line_error(path, lines) from None
    if len(table) != count or not (np.abs(table) <= FLOAT32_MAX).all():
        raise _line_error(path, lines)
    if not (np.abs(table[:, :2] + table[:, 2:4]) <= FLOAT32_MAX).all():
        row = int(np.argmin((np.abs(table[:, :2] + table[:, 2:4]) <= FLOAT32_MAX).all(1)))
        raise AnnotationError(f"{path}:{row + 3}: the box ends beyond the range of float32: {_shown(lines[row + 2])}")
    return table


def _line_error(path: str, lines: list[bytes]) -> AnnotationError:
    """Returns the error for the first box line that is not five plain, finite numbers."""
    problems = ((number, _problem(line)) for number, line in enumerate(lines[2:], start=3))
    number, problem = next((number, problem) for number, problem in problems if problem)
    return AnnotationError(f"{path}:{number}: {problem}")


def _problem(line: bytes) -> str:
    fields = line.split()
    if len(fields) != 5:
        return f"expected 5 numbers (x y w h score), found {len(fields)}: {_shown(line)}"
    for field in fields:
        try:
            parse_number(field.decode("utf-8", "replace"))
        except ValueError as error:
            return f"{error}: {_shown(line)}"
    return ""


def _shown(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))
