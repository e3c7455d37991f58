"""Faces of a video as text: JSON Lines, CSV and MOTChallenge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.io.formats import CSV_COLUMNS, csv_rows, csv_text, face_records, mot_lines
from facedet_mm.structures import Faces
from facedet_mm.video.frame import Frame
from facedet_mm.video.sink import FileSink

_TIME_DIGITS = 6


class TextSink(FileSink):
    """A text file in which the lines of a frame are written completely or not at all.

    Args:
        path: File to write.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = self.temporary.open("wb", buffering=0)

    def _append(self, lines: Sequence[str]) -> None:
        data = "".join(lines).encode("utf-8", "backslashreplace")
        complete = self._file.tell() if self._file.seekable() else None
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            if complete is not None:
                self._file.truncate(complete)
            raise VideoError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _finish(self) -> None:
        self._file.close()


class JsonlSink(TextSink):
    """One JSON record per frame: ``{"frame", "time", "faces": [...]}``, with the time in seconds."""

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write <facedet_mm.video.sink.Sink.write>`."""
        record = {"frame": frame.number, "time": round(frame.time, _TIME_DIGITS), "faces": face_records(faces)}
        self._append([json.dumps(record) + "\n"])


class CsvSink(TextSink):
    """One line per face: frame, time in seconds, then the columns that ``facedet detect`` writes for an image.

    Args:
        path: File to write.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._append([csv_text([("frame", "time", *CSV_COLUMNS[1:])])])

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write <facedet_mm.video.sink.Sink.write>`."""
        time = round(frame.time, _TIME_DIGITS)
        rows = [(number, time, *values) for number, *values in csv_rows(str(frame.number), faces)]
        self._append([csv_text(rows)])


class MotSink(TextSink):
    """Tracks in MOTChallenge format; faces without a track are left out."""

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write <facedet_mm.video.sink.Sink.write>`."""
        tracked = faces if faces.track_ids is None else faces[faces.track_ids > 0]
        self._append([f"{line}\n" for line in mot_lines(frame.number, tracked)])
