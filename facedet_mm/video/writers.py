"""``open_sink``: where the frames of a video and their faces go."""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError, VideoError
from facedet_mm.io.formats import CSV_COLUMNS, csv_rows, csv_text, face_records, mot_lines
from facedet_mm.io.images import write_image
from facedet_mm.structures import Faces
from facedet_mm.system.files import atomic_path
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.sources import IMAGES

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
_MICROSECONDS = 6
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
"""One of these variables says where Qt shows windows on Linux."""


class Sink(Protocol):
    """Takes the frames of a video, in order, in one thread."""

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:
        """Takes the next frame.

        Args:
            frame: as it was read.
            faces: of the frame.
            drawn: (H, W, 3) uint8 BGR: what to show of it.

        Raises:
            VideoError: it can't be written; what was written before stays.
        """
        ...

    def close(self) -> None:
        """Finishes what was written into a whole file under its name; may be called twice."""
        ...

    def abort(self) -> None:
        """Throws away what was written."""
        ...


def open_sink(path: str | os.PathLike[str], info: SourceInfo) -> Sink:
    """A sink for ``path``: its ending says what is written.

    Args:
        path: a video (``.mp4``, ``.m4v``, ``.mov``, ``.mkv``, ``.avi``, ``.webm``), ``.jsonl``, ``.csv``, ``.txt``
            (MOTChallenge), or a folder, which gets an image a frame.
        info: of the video that will be written.

    Raises:
        VideoError: an unknown ending, or the file would be the one that is read.
        FaceDetError: it can't be written.

    Example:
        >>> open_sink("faces.docx", SourceInfo("a.mp4", 640, 480, 25.0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        facedet_mm.errors.VideoError: faces.docx: don't know how to write .docx; ...
    """
    target = Path(path)
    read = [Path(name) for name in ([info.name] if os.path.exists(info.name) else glob.glob(info.name))]
    taken = [file.parent if file.suffix.lower() in IMAGES and target.is_dir() else file for file in read]
    if target.exists() and any(target.samefile(place) for place in taken):
        raise VideoError(f"{target} is what is read; write somewhere else")
    suffix = target.suffix.lower()
    if target.is_dir() or not suffix or os.fspath(path).endswith(("/", os.sep)):
        return ImagesSink(target)
    if suffix in VIDEOS:
        try:
            from facedet_mm.video.encoder import AVSink
        except ImportError:
            return OpenCVSink(target, info)
        return AVSink(target, info)
    kinds: dict[str, Callable[[Path], Sink]] = {".jsonl": JsonlSink, ".csv": CsvSink, ".txt": MotSink}
    if suffix not in kinds:
        raise VideoError(
            f"{target}: don't know how to write {suffix}; a video ({', '.join(VIDEOS)}), .jsonl, .csv, .txt or a folder"
        )
    return kinds[suffix](target)


class FileSink:
    """A file under a temporary name until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        self.temporary = self._stack.enter_context(atomic_path(path))

    def close(self) -> None:
        """See :meth:`Sink.close`."""
        try:
            self._finish()
        finally:  # what was written before an error is whole all the same
            self._stack.close()

    def abort(self) -> None:
        """See :meth:`Sink.abort`."""
        with suppress(FaceDetError):  # it is thrown away
            self._finish()
        error = VideoError("aborted")
        self._stack.__exit__(VideoError, error, None)

    def _finish(self) -> None:
        """Closes what writes into the temporary file."""


class _TextSink(FileSink):
    """Lines, of which each frame's are written whole or not at all."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = self.temporary.open("wb", buffering=0)

    def _append(self, lines: Sequence[str]) -> None:
        data = "".join(lines).encode("utf-8", "backslashreplace")
        good = self._file.tell()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.truncate(good)
            raise VideoError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _finish(self) -> None:
        self._file.close()


class JsonlSink(_TextSink):
    """A JSON record a frame: ``{"frame", "time", "faces": [...]}``, the time in seconds."""

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write`."""
        record = {"frame": frame.number, "time": round(frame.time, _MICROSECONDS), "faces": face_records(faces)}
        self._append([json.dumps(record) + "\n"])


class CsvSink(_TextSink):
    """A line a face: frame, time in seconds, then the columns of an image's faces."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._append([csv_text([("frame", "time", *CSV_COLUMNS[1:])])])

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write`."""
        time = round(frame.time, _MICROSECONDS)
        rows = [(number, time, *values) for number, *values in csv_rows(str(frame.number), faces)]
        self._append([csv_text(rows)])


class MotSink(_TextSink):
    """Tracks in MOTChallenge format; faces without a track are left out."""

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write`."""
        tracked = faces if faces.track_ids is None else faces[faces.track_ids > 0]
        self._append([f"{line}\n" for line in mot_lines(frame.number, tracked)])


class ImagesSink:
    """A JPEG a frame, ``000001.jpg`` on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(f"cannot write into {folder}: {error.strerror or error}") from error

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write`."""
        try:
            write_image(self.folder / f"{frame.number:06d}.jpg", drawn)
        except FaceDetError as error:
            raise VideoError(str(error)) from error

    def close(self) -> None:
        """See :meth:`Sink.close`."""

    def abort(self) -> None:
        """See :meth:`Sink.abort`: images that are there stay."""


class OpenCVSink(FileSink):
    """A video by OpenCV alone: MPEG-4 part 2, a constant rate, no sound. PyAV does better."""

    def __init__(self, path: Path, info: SourceInfo) -> None:
        super().__init__(path)
        codec = {".webm": "VP80", ".avi": "MJPG"}.get(path.suffix.lower(), "mp4v")
        fourcc = cv2.VideoWriter.fourcc(*codec)
        self._writer: Any = cv2.VideoWriter(str(self.temporary), fourcc, info.fps, (info.width, info.height))
        if not self._writer.isOpened():
            self.abort()
            raise VideoError(f"{path}: OpenCV can't write such a video")

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write`."""
        self._writer.write(drawn)

    def _finish(self) -> None:
        self._writer.release()


class WindowSink:
    """Shows the frames; q or Esc closes.

    Attributes:
        closed: whether the user has closed it.
    """

    def __init__(self, title: str) -> None:
        self.closed = False
        self._title = f"facedet {title}"
        try:
            if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAYS):
                raise cv2.error("no display")  # Qt would abort the process
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise VideoError(
                "no window can be shown: there is no display, or OpenCV is the headless build "
                "(pip uninstall opencv-python-headless && pip install opencv-python)"
            ) from error

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write`."""
        cv2.imshow(self._title, drawn)
        key = cv2.waitKey(1) & 0xFF
        gone = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        self.closed = self.closed or key in (ord("q"), 27) or gone

    def close(self) -> None:
        """See :meth:`Sink.close`."""
        with suppress(cv2.error):  # the user has closed it already
            cv2.destroyWindow(self._title)

    abort = close
