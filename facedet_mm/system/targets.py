"""All files that a command will write, checked against all that it reads before the first one is written."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from facedet_mm.errors import FaceDetError
from facedet_mm.system.streams import is_regular, same_open_file, stream_number

STDOUT = "-"
"""Name of a result file that stands for standard output."""
_NUMBERED = re.compile(r"(.+)_([1-9]\d*)", re.DOTALL)


class Targets:
    """The files that a command reads and writes.

    Args:
        reads: Files that are read; names of models, which are no files, do no harm.
    """

    def __init__(self, reads: Iterable[str | os.PathLike[str] | None] = ()) -> None:
        self._reads = {real_path(path) for path in reads if path is not None}
        self._folded = {path.casefold() for path in self._reads}
        self._folders: list[tuple[str, tuple[str, ...]]] = []
        self._writes: dict[str, str] = {}
        self._series: dict[tuple[str, str, str], str] = {}

    def reads_folder(self, folder: str | os.PathLike[str] | None, suffixes: Collection[str]) -> None:
        """Adds the existing files in a folder and its subfolders that have one of the lower-case ``suffixes``."""
        if folder is not None:
            self._folders.append((real_path(folder), tuple(suffixes)))

    def add(self, option: str, path: Path | None, may_print: bool = False) -> None:
        """Adds a file to write.

        Args:
            option: Option that names it, for the error message.
            path: The file; ``None`` for an option that is not given.
            may_print: Whether ``-`` stands for standard output.

        Raises:
            FaceDetError: It is a folder, is read, is written by another option, or is where standard output goes.
        """
        if path is None:
            return
        if may_print and goes_to_stdout(path):
            self._claim(option, STDOUT, path)
        elif str(path) == STDOUT:
            raise FaceDetError(f"{option} - is not supported: give the name of a file")
        elif path.is_dir():
            raise FaceDetError(f"{option} {path} is a folder; give a file")
        elif is_regular(path):
            self._check_not_read(option, path)
            self._claim(option, real_path(path), path)

    def add_folder(self, option: str, folder: Path, suffix: str) -> None:
        """Adds a folder to which files of any name with the lower-case ``suffix`` will be written; see :meth:`add`."""
        self._claim(option, real_path(folder), folder)
        if folder.is_dir():
            for path in folder.iterdir():
                if path.suffix.lower() == suffix and path.is_file():
                    self._check_not_read(option, path)
                    self._claim(option, real_path(path), path)

    def add_series(self, option: str, path: Path) -> None:
        """Adds the files ``STEM_1.SUFFIX``, ``STEM_2.SUFFIX`` and so on, of an unknown number; see :meth:`add`.

        Call :meth:`check_series` when all files are known.
        """
        folder, name = os.path.split(real_path(path))
        stem, suffix = os.path.splitext(name)
        self._series[folder, stem.casefold(), suffix.casefold()] = option

    def check_series(self) -> None:
        """Raises :class:`FaceDetError` if a file of a series is read or is another file to write."""
        for path, other in [*((path, None) for path in self._reads), *self._writes.items()] if self._series else ():
            folder, name = os.path.split(path)
            stem, suffix = os.path.splitext(name)
            if not (match := _NUMBERED.fullmatch(stem)):
                continue
            option = self._series.get((folder, match[1].casefold(), suffix.casefold()))
            if option and other is None:
                raise FaceDetError(f"{option} would overwrite {path}, which is an input; choose another place")
            if option:
                raise FaceDetError(f"{option} and {other} would both write {path}; give each a folder of its own")

    def _check_not_read(self, option: str, path: Path) -> None:
        place = real_path(path)
        taken = place in self._reads or (place.casefold() in self._folded and self._is_same_file(path))
        for folder, suffixes in self._folders:
            inside = place.startswith(folder.rstrip(os.sep) + os.sep)
            taken = taken or (inside and place.lower().endswith(suffixes) and os.path.lexists(place))
        if taken:
            raise FaceDetError(f"{option} would overwrite {path}, which is an input; choose another place")
        if same_open_file(path, 0):
            raise FaceDetError(f"{option} would overwrite {path}, which is standard input; choose another place")
        if same_open_file(path, 1) or same_open_file(path, 2):
            raise FaceDetError(f"{option} would overwrite {path}, where the printed lines go; give each a file")

    def _is_same_file(self, path: Path) -> bool:
        """Returns whether a file that is read has this name in other letters: some file systems ignore case."""
        folded = real_path(path).casefold()
        return any(
            other.casefold() == folded and os.path.exists(other) and path.exists() and os.path.samefile(other, path)
            for other in self._reads
        )

    def _claim(self, option: str, key: str, path: Path) -> None:
        if other := self._writes.get(key):
            share = f"{other} and {option}" if other != option else f"two files of {option}"
            raise FaceDetError(f"{share} would share a file, {path}; give each its own")
        self._writes[key] = option


def goes_to_stdout(path: Path | None) -> bool:
    """Returns whether a result file is standard output: ``-``, or a name such as ``/dev/stdout``."""
    return path is not None and (str(path) == STDOUT or stream_number(path) == 1)


def real_path(path: str | os.PathLike[str]) -> str:
    """Returns the absolute path without links; a name that no file can have comes back as it is."""
    try:
        folder, name = os.path.split(os.path.join(os.getcwd(), path))
        if name in ("", os.curdir, os.pardir):
            return os.path.realpath(path)
        place = os.path.join(_real_folder(folder), name)
        return os.path.realpath(place) if os.path.islink(place) else place
    except (OSError, ValueError):
        return os.fspath(path)


@cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
