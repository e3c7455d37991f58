"""``open_sink``: writes the frames of a video and their faces to a file or folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from pathlib import Path

from facedet_mm.errors import VideoError
from facedet_mm.io.images import IMAGE_SUFFIXES
from facedet_mm.video.encoder import VideoSink
from facedet_mm.video.frame import SourceInfo
from facedet_mm.video.images_sink import ImagesSink
from facedet_mm.video.sink import Sink
from facedet_mm.video.text_sinks import CsvSink, JsonlSink, MotSink

_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
_TEXT_SINKS: dict[str, Callable[[Path], Sink]] = {".jsonl": JsonlSink, ".csv": CsvSink, ".txt": MotSink}


def open_sink(path: str | os.PathLike[str], info: SourceInfo) -> Sink:
    """Opens the output whose kind the suffix of ``path`` says.

    Args:
        path: A video (``.mp4``, ``.m4v``, ``.mov``, ``.mkv``, ``.avi``, ``.webm``), ``.jsonl``, ``.csv``, ``.txt``
            (MOTChallenge), or a folder for one image per frame.
        info: Facts about the video that will be written.

    Raises:
        VideoError: The suffix is unknown, or the output would overwrite the input.
        FaceDetError: The output cannot be written.

    Example:
        >>> open_sink("faces.docx", SourceInfo("a.mp4", 640, 480, 25.0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        facedet_mm.errors.VideoError: faces.docx: cannot write .docx files; choose a video ...
    """
    target = Path(path)
    check_not_read(target, info)
    suffix = target.suffix.lower()
    if target.is_dir() or not suffix or os.fspath(path).endswith(("/", os.sep)):
        return ImagesSink(target)
    if suffix in _VIDEO_SUFFIXES:
        return VideoSink(target, info)
    if suffix in _TEXT_SINKS:
        return _TEXT_SINKS[suffix](target)
    raise VideoError(
        f"{target}: cannot write {suffix} files; choose a video ({', '.join(_VIDEO_SUFFIXES)}), "
        f"{', '.join(_TEXT_SINKS)} or a folder"
    )


def check_not_read(target: Path, info: SourceInfo) -> None:
    """Raises :class:`VideoError` if ``target`` is the file or the folder that a video is read from."""
    if target.exists() and any(target.samefile(place) for place in _places_read(info.name, target.is_dir())):
        raise VideoError(f"{target} is the input; choose another output")


def _places_read(name: str, folders: bool) -> list[Path]:
    """Returns the files that the source called ``name`` reads; with ``folders``, the folders of its images instead."""
    files = [Path(file) for file in ([name] if os.path.exists(name) else glob.glob(name))]
    images = IMAGE_SUFFIXES - {".gif"}  # a GIF is read as a video, beside which frames may be written
    return [file.parent if folders and file.suffix.lower() in images else file for file in files]
