"""Atomic file writing: a file is complete or absent, never half written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facedet_mm.errors import FaceDetError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path with the same folder and suffix, renamed to ``path`` if the block ends without an error.

    Missing parent folders are created. On any error, including Ctrl-C, the temporary file is removed and ``path``
    stays as it was. If ``path`` is a pipe or a device, it is written to directly.

    Raises:
        FaceDetError: The folder or file can't be written (no permission, disk full, a file where a folder
            should be).

    Example:
        >>> folder = tempfile.TemporaryDirectory()
        >>> with atomic_path(Path(folder.name, "new", "faces.txt")) as temporary:
        ...     _ = temporary.write_text("29")
        >>> Path(folder.name, "new", "faces.txt").read_text()
        '29'
        >>> folder.cleanup()
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe or device: there is nothing to replace
        yield path
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise FaceDetError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BrokenPipeError:  # raised by standard output, not by this file
        raise
    except OSError as error:
        raise FaceDetError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes ``text`` as UTF-8 atomically; see :func:`atomic_path`.

    Example:
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_text(f"{folder.name}/a.txt", "29 faces")
        >>> os.listdir(folder.name)
        ['a.txt']
        >>> folder.cleanup()
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes ``data`` atomically; see :func:`atomic_path`.

    Example:
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_bytes(f"{folder.name}/a.bin", bytes(3))
        >>> os.path.getsize(f"{folder.name}/a.bin")
        3
        >>> folder.cleanup()
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
