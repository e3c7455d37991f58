"""Atomic file writing: a file is complete or absent, never half written."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facedet_mm.errors import FaceDetError


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, follow_link: bool = True) -> Iterator[Path]:
    """Yields a temporary path with the same folder and suffix, renamed to ``path`` if the block ends without an error.

    Missing parent folders are created. On any error, including Ctrl-C, the temporary file is removed and ``path``
    stays as it was. If ``path`` is a pipe or a device, it is written to directly.

    Args:
        path: File to write.
        follow_link: Whether to write the file that a link at ``path`` points to; otherwise the link is replaced, as it
            should be in a folder where other users write, too.

    Raises:
        FaceDetError: The folder or file can't be written (no permission, disk full, a file where a folder
            should be).

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with atomic_path(Path(folder.name, "new", "faces.txt")) as temporary:
        ...     _ = temporary.write_text("29")
        >>> Path(folder.name, "new", "faces.txt").read_text()
        '29'
        >>> folder.cleanup()
    """
    path = Path(os.path.realpath(path)) if follow_link and os.path.islink(path) else Path(path)
    special = path.exists() and not path.is_file() and not path.is_dir()  # a pipe or device
    if special and not path.is_symlink():  # there is nothing to replace
        yield path
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _create_beside(path)
        mode = temporary.stat().st_mode
    except OSError as error:
        raise FaceDetError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield temporary
        temporary.chmod(stat.S_IMODE(mode))  # the caller may have put another file in its place
        temporary.replace(path)
    except BrokenPipeError:  # raised by standard output, not by this file
        raise
    except OSError as error:
        raise FaceDetError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _create_beside(path: Path) -> Path:
    """Creates an empty hidden file in the folder of ``path``, with its suffix, and returns its path.

    Unlike ``tempfile``, it leaves the permissions to the system: the umask can't be read without setting it for all
    threads. Nothing that is already there is opened, and no link is followed.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    temporary = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(temporary, flags, 0o666))
    return temporary


def write_text(path: str | os.PathLike[str], text: str, *, follow_link: bool = True) -> None:
    """Writes ``text`` as UTF-8 atomically; see :func:`atomic_path`.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_text(f"{folder.name}/a.txt", "29 faces")
        >>> os.listdir(folder.name)
        ['a.txt']
        >>> folder.cleanup()
    """
    with atomic_path(path, follow_link=follow_link) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_bytes(path: str | os.PathLike[str], data: bytes, *, follow_link: bool = True) -> None:
    """Writes ``data`` atomically; see :func:`atomic_path`.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_bytes(f"{folder.name}/a.bin", bytes(3))
        >>> os.path.getsize(f"{folder.name}/a.bin")
        3
        >>> folder.cleanup()
    """
    with atomic_path(path, follow_link=follow_link) as temporary:
        temporary.write_bytes(data)
