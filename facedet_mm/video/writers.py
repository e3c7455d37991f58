"""``open_sink``: writes the frames of a video and their faces to a file or folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from facedet_mm.errors import VideoError
from facedet_mm.io.images import IMAGE_SUFFIXES
from facedet_mm.system.targets import STDOUT, Targets
from facedet_mm.video.best_shots import CSV_NAME, SHOT_NAMES
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
        VideoError: The suffix is unknown.
        FaceDetError: The output cannot be written.

    Example:
        >>> open_sink("faces.docx", SourceInfo("a.mp4", 640, 480, 25.0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        facedet_mm.errors.VideoError: faces.docx: cannot write .docx files; choose a video ...
    """
    target, suffix = Path(path), Path(path).suffix.lower()
    if _is_folder(path):
        return ImagesSink(target)
    if suffix in _VIDEO_SUFFIXES:
        return VideoSink(target, info)
    if suffix in _TEXT_SINKS:
        return _TEXT_SINKS[suffix](target)
    raise VideoError(
        f"{target}: cannot write {suffix} files; choose a video ({', '.join(_VIDEO_SUFFIXES)}), "
        f"{', '.join(_TEXT_SINKS)} or a folder"
    )


def check_outputs(
    paths: Iterable[str | os.PathLike[str]],
    info: SourceInfo,
    models: Iterable[str | os.PathLike[str] | None] = (),
    best_shots: str | os.PathLike[str] | None = None,
) -> None:
    """Checks the outputs of a video against all that is read and against each other.

    Args:
        paths: Outputs, see :func:`open_sink`.
        info: Facts about the video.
        models: Files of the model.
        best_shots: Folder of the best images, see :class:`~facedet_mm.video.best_shots.BestShots`.

    Raises:
        FaceDetError: An output would overwrite a file that is read, or two outputs would share one.
    """
    targets = Targets([*info.files, *models])
    images = {file.parent.resolve() for file in info.files if file.suffix.lower() in IMAGE_SUFFIXES - {".gif"}}
    for path in paths:
        target = Path(path)
        if str(target) == STDOUT or not _is_folder(path):
            targets.add("the output", target)
        elif target.resolve() in images:
            raise VideoError(f"the output {target} is the folder of the images that are read; choose another folder")
        else:
            targets.add_folder("the output", target, ".jpg")
    if best_shots is not None:
        targets.add("the table of the best shots", Path(best_shots, CSV_NAME))
        for name in SHOT_NAMES:
            targets.add_series("the best shots", Path(best_shots, name))
        targets.check_series()


def _is_folder(path: str | os.PathLike[str]) -> bool:
    return Path(path).is_dir() or not Path(path).suffix or os.fspath(path).endswith(("/", os.sep))
