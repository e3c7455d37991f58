"""MOTChallenge text files: reads detections and writes tracks."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facedet_mm.errors import AnnotationError
from facedet_mm.io.formats import mot_lines
from facedet_mm.structures import Faces
from facedet_mm.system.files import write_text
from facedet_mm.system.reading import MB, read_text_file
from facedet_mm.system.text import FLOAT32_MAX, parse_number, parse_whole

MAX_FRAME = 10**9
_MAX_ID = 2**63 - 1
_LARGEST_FILE = 512 * MB


class MotRow(NamedTuple):
    """A line of a MOTChallenge file.

    Attributes:
        line: Number of the line, from 1.
        frame: Number of the frame, from 1.
        track_id: ID; −1 for none.
        box: Left, top, width and height in pixels.
        others: Score or mark, and what follows it.

    Example:
        >>> MotRow(1, 1, 3, (10.0, 20.0, 20.0, 30.0), (0.9,)).frame
        1
    """

    line: int
    frame: int
    track_id: int
    box: tuple[float, float, float, float]
    others: tuple[float, ...]


def find_files(path: str | os.PathLike[str], kind: str = "MOTChallenge") -> list[Path]:
    """Returns the file, or the sorted text files of the folder.

    Args:
        path: File or folder.
        kind: Kind of the files, used in the error message.

    Raises:
        AnnotationError: There is no such file or folder, or no text file in it.
    """
    path = Path(path)
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder")
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise AnnotationError(f"{path}: no .txt files; expected one {kind} file per video")
    return files


def read_detections(path: str | os.PathLike[str]) -> dict[int, Faces]:
    """Reads the detections of a video, one line ``frame,id,x,y,w,h,score[,...]`` each; the ID is ignored.

    Args:
        path: Text file, with frames in any order; boxes are left, top, width, height in pixels.

    Returns:
        Frame number → faces in the order of the lines, with frames in ascending order and without empty ones.

    Raises:
        AnnotationError: The file is missing, empty or malformed; the message names the line.
    """
    rows = defaultdict[int, list[list[float]]](list)
    for row in _rows(path, _detection_problem):
        score = row.others[0]
        if not 0 <= score <= 1:
            raise AnnotationError(f"{path}, line {row.line}: scores are from 0 to 1, not {score:g}")
        rows[row.frame].append([*row.box, score])
    if not rows:
        raise AnnotationError(f"{path} contains no detections; expected lines frame,id,x,y,w,h,score")
    return {frame: _faces(rows[frame]) for frame in sorted(rows)}


def read_rows(path: str | os.PathLike[str]) -> Iterator[MotRow]:
    """Yields the lines of a file with tracks or ground truth; blank ones are left out.

    Raises:
        AnnotationError: The file is missing or not text, or a line is malformed: it has fewer than seven values, a
            value is not a plain, finite number, the frame or ID is not a whole number in its range, or a box has a
            negative side; the message names the line.
    """
    return _rows(path, _track_problem)


class _Problem(ValueError):
    """What is wrong with a line: with its number of values (``field`` is −1), with a value, or with the box."""

    def __init__(self, fields: list[str], field: int, reason: str) -> None:
        super().__init__(reason)
        self.fields, self.field, self.reason = fields, field, reason


def _rows(path: str | os.PathLike[str], describe: Callable[[_Problem, str], str]) -> Iterator[MotRow]:
    text = read_text_file(path, _LARGEST_FILE, "MOTChallenge lines frame,id,x,y,w,h,score")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield _parse(number, [field.strip() for field in line.split(",")])
            except _Problem as problem:
                shown = repr(line.strip()[:80])
                raise AnnotationError(f"{path}, line {number}: {describe(problem, shown)}") from None


def _parse(number: int, fields: list[str]) -> MotRow:
    if len(fields) < 7:
        raise _Problem(fields, -1, "fewer than 7 values")
    values: list[float] = []
    for i, field in enumerate(fields):
        try:
            if i < 2:
                values.append(parse_whole(field, *((1, MAX_FRAME) if i == 0 else (-1, _MAX_ID))))
            else:
                values.append(parse_number(field))
        except ValueError as error:
            raise _Problem(fields, i, str(error)) from None
    frame, track_id, left, top, width, height, *others = values
    if width < 0 or height < 0:
        raise _Problem(fields, len(fields), f"a box has the size {width:g} × {height:g}")
    if abs(left + width) > FLOAT32_MAX or abs(top + height) > FLOAT32_MAX:
        raise _Problem(fields, len(fields), "a box ends beyond the range of float32")
    return MotRow(number, int(frame), int(track_id), (left, top, width, height), tuple(others))


def _detection_problem(problem: _Problem, line: str) -> str:
    if problem.field == -1:
        return f"expected frame,id,x,y,w,h,score, not {line}"
    if problem.field == len(problem.fields):
        return f"{problem.reason} in {line}"
    field = problem.fields[problem.field]
    if problem.field == 0:
        return f"frame numbers are whole numbers from 1 to {MAX_FRAME:,}, not {field[:40]}"
    if problem.field == 6 and _is_any_number(field):
        return f"scores are from 0 to 1, not {field[:40]}"
    return f"not a number in {line}: {problem.reason}"


def _track_problem(problem: _Problem, line: str) -> str:
    expected = "expected frame,id,left,top,width,height,score,…:"
    if problem.field in (-1, len(problem.fields)):
        return f"{expected} {problem.reason} in {line}"
    field = problem.fields[problem.field]
    if problem.field == 0 and _is_any_number(field) and math.isfinite(float(field)):
        return f"{expected} frames count from 1 to {MAX_FRAME:,}, not {field[:40]}"
    return f"{expected} fewer than 7 values, or one that is not a number: {problem.reason}"


def _is_any_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _faces(rows: list[list[float]]) -> Faces:
    values = np.array(rows)
    return Faces(np.hstack([values[:, :2], values[:, :2] + values[:, 2:4]]), values[:, 4])


def write_tracks(path: str | os.PathLike[str], frames: Iterable[tuple[int, Faces]]) -> int:
    """Writes tracks atomically, one line ``frame,id,x,y,w,h,score,-1,-1,-1`` per face.

    Args:
        path: Text file to write.
        frames: Number and faces of each frame; faces without a track (no IDs, or -1) are left out.

    Returns:
        Number of lines written.

    Raises:
        FaceDetError: The file cannot be written.
    """
    lines: list[str] = []
    for frame, faces in frames:
        if faces.track_ids is not None:
            lines += mot_lines(frame, faces[faces.track_ids >= 0], score_digits=2)
    write_text(path, "".join(f"{line}\n" for line in lines))
    return len(lines)
