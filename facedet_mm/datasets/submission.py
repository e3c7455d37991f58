"""The WIDER FACE submission format: one text file an image, ``<event>/<image>.txt``.

A file holds the image's name, the number of boxes, and a line ``x y w h score`` a box.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.errors import AnnotationError
from facedet_mm.io.images import IMAGE_SUFFIXES
from facedet_mm.system.files import write_text


@dataclass(frozen=True, eq=False)
class Predictions:
    """Detections of many images in flat columns.

    Attributes:
        names: M image keys ``event/image`` without suffix, see :func:`image_key`.
        offsets: (M + 1,) int64; image ``i`` owns the rows ``offsets[i]:offsets[i + 1]``.
        boxes: (N, 4) floating point, x1 y1 x2 y2 in pixels.
        scores: (N,) floating point, any range, in any order.

    Example:
        >>> predictions = Predictions.from_images([("party/1.jpg", [[10, 10, 50, 60]], [0.9]), ("party/2.jpg", [], [])])
        >>> [(name, len(scores)) for name, boxes, scores in predictions]
        [('party/1', 1), ('party/2', 0)]
    """

    names: tuple[str, ...]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]

    @classmethod
    def from_images(cls, images: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> Predictions:
        """Joins ``(name, boxes (n, 4) x1 y1 x2 y2, scores (n,))`` of each image; names as :func:`image_key` takes.

        Raises:
            AnnotationError: an image comes twice, or a box or score is not a finite number.
            ValueError: boxes and scores of an image have shapes that do not agree.
        """
        names: list[str] = []
        boxes: list[NDArray[np.floating]] = [np.zeros((0, 4), np.float32)]
        scores: list[NDArray[np.floating]] = [np.zeros(0, np.float32)]
        for name, image_boxes, image_scores in images:
            image_boxes, image_scores = _checked(name, image_boxes, image_scores)
            names.append(image_key(name))
            boxes.append(image_boxes)
            scores.append(image_scores)
        refuse_duplicates(names, names)
        offsets = np.cumsum([len(part) for part in scores], dtype=np.int64)
        return cls(tuple(names), offsets, np.concatenate(boxes), np.concatenate(scores))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.floating], NDArray[np.floating]]]:
        """Gives ``(name, boxes, scores)`` of each image."""
        for i, name in enumerate(self.names):
            rows = slice(self.offsets[i], self.offsets[i + 1])
            yield name, self.boxes[rows], self.scores[rows]


def image_key(path: str) -> str:
    """The key ``event/image`` of an image or of its prediction file.

    Takes the last folder and the file name, without ``.txt`` and without an image's suffix.

    Example:
        >>> image_key("WIDER_val/images/0--Parade/0_Parade_marchingband_1_465.jpg")
        '0--Parade/0_Parade_marchingband_1_465'
        >>> image_key("0--Parade/0_Parade_marchingband_1_465.jpg.txt")
        '0--Parade/0_Parade_marchingband_1_465'
    """
    stem = "/".join(path.replace("\\", "/").split("/")[-2:])
    if stem.lower().endswith(".txt"):
        stem = stem[:-4]
    root, dot, suffix = stem.rpartition(".")
    return root if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else stem


def refuse_duplicates(names: Sequence[str], sources: Sequence[str]) -> None:
    """Raises :class:`AnnotationError` when a name comes twice, naming where both came from."""
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            raise AnnotationError(f"image {name} comes twice: {sources[first[name]]} and {sources[i]}")


def write_prediction_file(path: str | os.PathLike[str], image_name: str, boxes: ArrayLike, scores: ArrayLike) -> None:
    """Writes the detections of one image, atomically and in descending order of score.

    Numbers are written in full, so that a file scores exactly what the arrays do.

    Args:
        path: ``<event>/<image>.txt`` below the submission's folder; missing folders are made.
        image_name: first line of the file.
        boxes: (N, 4) x1 y1 x2 y2 in pixels.
        scores: (N,).

    Raises:
        AnnotationError: a box or score is not a finite number.
        ValueError: shapes do not agree.
        FaceDetError: the file can't be written.

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
    boxes, scores = _checked(image_name, boxes, scores)
    order = np.argsort(-scores, kind="stable")
    rows = np.column_stack([boxes, scores])[order].astype(np.float64)
    rows[:, 2:4] -= rows[:, :2]
    lines = [" ".join(map(repr, row)) for row in rows.tolist()]
    write_text(path, "\n".join([image_name, str(len(rows)), *lines, ""]))


def read_predictions(folder: str | os.PathLike[str]) -> Predictions:
    """Reads a submission folder: every ``<event>/<image>.txt``; also ``<image>.jpg.txt``.

    The image is known by the file's place and name; the name in the first line is not looked at, as in the
    official tools. Boxes and scores come as float64. Hidden files and other suffixes are passed over.

    Raises:
        AnnotationError: no such folder, no prediction file in it, two files for one image, or a malformed
            file; the message names file and line.

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
    values = array("d")  # grows in place: the rows of all files exist once
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
        if event.is_dir()
        for file in _entries(event)
        if file.name.lower().endswith(".txt") and file.is_file()
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


def _read_file(path: str) -> NDArray[np.float64]:
    """The (N, 5) rows x y w h score of one file."""
    try:
        with open(path, "rb") as stream:
            lines = stream.read().splitlines()
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror or error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) < 2:
        what = "is empty" if not lines else "ends after its first line"
        raise AnnotationError(f"{path} {what}; an image without faces has two lines: its name and 0")
    try:
        count = int(lines[1])
    except ValueError:
        raise AnnotationError(f"{path}:2: expected the number of boxes, not {_shown(lines[1])}") from None
    if count != len(lines) - 2:
        raise AnnotationError(f"{path}:2: says {count} boxes, but {len(lines) - 2} lines follow")
    rows = [line.split() for line in lines[2:]]
    try:
        table = np.array([[float(field) for field in row] for row in rows], np.float64).reshape(-1, 5)
    except ValueError:
        raise _line_error(path, lines) from None
    if len(table) != count or not np.isfinite(table).all():
        raise _line_error(path, lines)
    return table


def _line_error(path: str, lines: list[bytes]) -> AnnotationError:
    """The error for the first box line that is not five finite numbers."""
    problems = ((number, _problem(line)) for number, line in enumerate(lines[2:], start=3))
    number, problem = next((number, problem) for number, problem in problems if problem)
    return AnnotationError(f"{path}:{number}: {problem}")


def _problem(line: bytes) -> str:
    fields = line.split()
    if len(fields) != 5:
        return f"expected 5 numbers (x y w h score), found {len(fields)}: {_shown(line)}"
    for field in fields:
        try:
            finite = math.isfinite(float(field))
        except ValueError:
            return f"{_shown(field)} is not a number: {_shown(line)}"
        if not finite:
            return f"{_shown(field)} is not a finite number: {_shown(line)}"
    return ""


def _shown(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))


def _checked(name: str, boxes: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    scores = _as_float(scores)
    boxes = _as_float(boxes)
    if boxes.size == 0 and scores.size == 0:
        boxes = boxes.reshape(0, 4)
    if scores.ndim != 1 or boxes.shape != (len(scores), 4):
        raise ValueError(f"{name}: boxes must be (N, 4) and scores (N,), not {boxes.shape} and {scores.shape}")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        row = int(np.argmin(np.isfinite(boxes).all(1) & np.isfinite(scores)))
        raise AnnotationError(f"{name}: detection {row} is not finite: {boxes[row].tolist()}, score {scores[row]}")
    return boxes, scores


def _as_float(values: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
