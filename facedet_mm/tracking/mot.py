"""MOTChallenge text files: reads detections and writes tracks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from facedet_mm.errors import AnnotationError
from facedet_mm.io.formats import mot_lines
from facedet_mm.structures import Faces
from facedet_mm.system.files import write_text

_MAX_FRAME = 10**9


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
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise AnnotationError(f"{path} is not a text file; expected lines frame,id,x,y,w,h,score") from None
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror or error}") from error
    rows = defaultdict[int, list[list[float]]](list)
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                frame, values = _parse(line)
            except ValueError as error:
                raise AnnotationError(f"{path}, line {number}: {error}") from None
            rows[frame].append(values)
    if not rows:
        raise AnnotationError(f"{path} contains no detections; expected lines frame,id,x,y,w,h,score")
    return {frame: _faces(rows[frame]) for frame in sorted(rows)}


def _parse(line: str) -> tuple[int, list[float]]:
    fields = line.split(",")
    if len(fields) < 7:
        raise ValueError(f"expected frame,id,x,y,w,h,score, not {line.strip()[:80]!r}")
    try:
        frame, values = float(fields[0]), [float(field) for field in fields[2:7]]
    except ValueError:
        raise ValueError(f"not a number in {line.strip()[:80]!r}") from None
    if not (1 <= frame <= _MAX_FRAME and frame.is_integer()):
        raise ValueError(f"frame numbers are whole numbers from 1 to {_MAX_FRAME:,}, not {fields[0].strip()}")
    if not 0 <= values[-1] <= 1:
        raise ValueError(f"scores are from 0 to 1, not {fields[6].strip()}")
    return int(frame), values


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
