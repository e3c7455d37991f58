"""Open streams of the process by number and by name (``/dev/stdout``, ``/dev/fd/3``)."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path
from typing import IO

_LINKS = 40
"""Largest number of symbolic links that lead to a name, as in Linux."""
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


def stream_number(path: str | os.PathLike[str]) -> int | None:
    """Returns the number of the open stream that a path stands for, through links; ``None`` for all other paths.

    Example:
        >>> stream_number("/dev/stdout"), stream_number("/dev/fd/3"), stream_number("faces.csv")
        (1, 3, None)
    """
    if sys.platform == "win32":
        return None
    place = os.path.abspath(path)
    for _ in range(_LINKS):
        folder, name = os.path.split(place)
        if folder == "/dev" and name in _STANDARD:
            return _STANDARD[name]
        folder = os.path.realpath(folder)
        if name.isdecimal() and folder in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            return int(name)
        try:
            target = os.readlink(place)
        except (OSError, ValueError):  # ValueError: a NUL character in the name
            return None
        place = os.path.join(folder, target)
    return None


def write_to_stream(number: int, data: IO[bytes]) -> None:
    """Adds data to an open stream at its place, after whatever Python has printed to it.

    Raises:
        OSError: The stream is closed, full or open for reading only.

    Example:
        >>> import io
        >>> reader, writer = os.pipe()
        >>> write_to_stream(writer, io.BytesIO(b"faces"))
        >>> os.read(reader, 9)
        b'faces'
        >>> os.close(reader); os.close(writer)
    """
    for printed in (sys.stdout, sys.stderr):
        if printed is not None:
            printed.flush()
    with os.fdopen(os.dup(number), "wb") as stream:
        shutil.copyfileobj(data, stream)


def same_open_file(path: str | os.PathLike[str], number: int) -> bool:
    """Returns whether ``path`` is the regular file that the open stream ``number`` reads or writes.

    Example:
        >>> same_open_file(os.devnull, 1)
        False
    """
    try:
        opened = os.fstat(number)
        return stat.S_ISREG(opened.st_mode) and os.path.samestat(opened, os.stat(path))
    except (OSError, ValueError):
        return False


def is_regular(path: Path) -> bool:
    """Returns whether ``path`` is a file that can be replaced, or nothing yet: no pipe, device or open stream.

    Example:
        >>> is_regular(Path("faces.csv")), is_regular(Path(os.devnull))
        (True, False)
    """
    return stream_number(path) is None and (path.is_file() or not path.exists())
