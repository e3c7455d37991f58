"""Atomic file writing: a file is complete or absent, never half written."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from facedet_mm.errors import FaceDetError
from facedet_mm.system.streams import stream_number, write_to_stream

if sys.platform != "win32":
    import fcntl

_PREFIX = ".facedet-"
"""Start of the names of temporary files."""
_LONGEST_SUFFIX = 32
"""Bytes of a suffix that a temporary file takes over."""
_swept: set[str] = set()
"""Folders in which this process has removed what killed processes left."""
_sweeping = threading.Lock()


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, follow_link: bool = True) -> Iterator[Path]:
    """Yields a temporary path with the same folder and suffix, renamed to ``path`` if the block ends without an error.

    Missing parent folders are created. On any error, including Ctrl-C, the temporary file is removed and ``path``
    stays as it was. If ``path`` is a pipe or a device, it is written to directly; if it names an open stream, as
    ``/dev/stdout`` does, the data are added to that stream. Temporary files of processes that were killed are removed
    by the next process that writes into their folder.

    Args:
        path: File to write.
        follow_link: Whether to write the file that a link at ``path`` points to; otherwise the link is replaced, as it
            should be in a folder where other users write, too.

    Raises:
        FaceDetError: The folder or file can't be written (no permission, disk full, a name that is too long, a file
            where a folder should be).

    Example:
        >>> folder = tempfile.TemporaryDirectory()
        >>> with atomic_path(Path(folder.name, "new", "faces.txt")) as temporary:
        ...     _ = temporary.write_text("29")
        >>> Path(folder.name, "new", "faces.txt").read_text()
        '29'
        >>> folder.cleanup()
    """
    path = Path(path)
    if (number := stream_number(path)) is not None:
        with _stream(path, number) as place:
            yield place
        return
    try:
        path = Path(os.path.realpath(path)) if follow_link and os.path.islink(path) else path
        special = _exists(path) and not path.is_file() and not path.is_dir()  # a pipe or device
        if special and not os.path.islink(path):  # there is nothing to replace
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        handle, temporary = _create(path)
        mode = os.stat(temporary).st_mode
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
        os.close(handle)


def write_text(path: str | os.PathLike[str], text: str, *, follow_link: bool = True) -> None:
    """Writes ``text`` as UTF-8 atomically; see :func:`atomic_path`.

    Example:
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
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_bytes(f"{folder.name}/a.bin", bytes(3))
        >>> os.path.getsize(f"{folder.name}/a.bin")
        3
        >>> folder.cleanup()
    """
    with atomic_path(path, follow_link=follow_link) as temporary:
        temporary.write_bytes(data)


def _exists(path: Path) -> bool:
    """Returns whether there is a file; a name that the file system refuses raises :class:`OSError`."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return False
    return True


def _create(path: Path) -> tuple[int, Path]:
    """Creates a temporary file beside ``path``; it is locked as long as the returned handle is open."""
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""
    while True:
        temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(6)}{suffix}")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            handle = os.open(temporary, flags, 0o666)  # less the umask
        except FileExistsError:
            continue
        if sys.platform == "win32":  # an open file can't be renamed
            os.close(handle)
            return os.open(os.devnull, os.O_RDONLY), temporary
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_open(temporary, handle):
            return handle, temporary
        os.close(handle)  # another process took it for a left-over before it was locked


def _is_open(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:
        return False


def _sweep(folder: Path) -> None:
    """Removes the temporary files of killed processes from a folder, once in the life of this process."""
    with _sweeping:
        key = os.path.abspath(folder)
        if key in _swept or sys.platform == "win32":
            return
        _swept.add(key)
        with os.scandir(folder) as entries:
            names = [entry.path for entry in entries if entry.name.startswith(_PREFIX) and entry.is_file()]
        for name in names:
            with suppress(OSError):  # in use, not ours, or gone already
                _remove_if_unlocked(Path(name))


def _remove_if_unlocked(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_open(path, handle):
            path.unlink()
    finally:
        os.close(handle)


@contextmanager
def _stream(path: Path, number: int) -> Iterator[Path]:
    """Yields a file whose content goes to the open stream ``number`` at the end, or the stream itself if it is a pipe.

    Opening the name of a stream that goes to a file would empty the file.
    """
    with tempfile.TemporaryDirectory(prefix="facedet-") as folder:
        temporary = Path(folder, "stream")
        temporary.touch()
        yield temporary
        try:
            with temporary.open("rb") as file:
                write_to_stream(number, file)
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = "the stream is not open" if error.errno == errno.EBADF else error.strerror or error
            raise FaceDetError(f"cannot write {path}: {reason}") from error
