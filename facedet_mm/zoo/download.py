"""Downloads that resume where they were cut, are checked by SHA-256, and never leave half a file under its name."""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import ssl
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from tqdm import tqdm

from facedet_mm import __version__
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.system.files import atomic_path

DELAYS = (1.0, 2.0, 4.0)
"""Seconds to wait before each new try; a try that got further than all before starts the list again."""
_TIMEOUT = 30
"""Seconds without a byte after which a connection counts as cut."""
_CHUNK = 1 << 16
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that may be gone at the next try."""
_PARTS = (".part", ".zip.part")
"""Endings of what has arrived of a file, and of an archive that holds it."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
"""What ``zipfile`` raises on a damaged or encrypted file."""


class DownloadError(ModelError):
    """A file can't be fetched from its address, or what lies there is not the expected file."""


class _WrongContent(DownloadError):
    """What has arrived can't be, or become, the expected file."""


class _Interrupted(Exception):
    """A try failed in a way that may pass."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    size: int,
    member: str | None = None,
    archive_size: int = 0,
    progress: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> None:
    """Fetches a file, or one member of a zip archive, unless ``target`` is that file already.

    What arrives is kept in ``<target>.part`` (``<target>.zip.part``) until it is complete, so a download that was
    cut, by Ctrl-C too, goes on where it ended. Of several processes that fetch the same file one works and the
    others wait. Proxies are taken from ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``.

    Args:
        url: an http or https address.
        target: where the file goes; folders are made.
        sha256: of the file at ``target``, in hexadecimal.
        size: of the file at ``target``, in bytes.
        member: the name, without folders, of the file in the zip archive at ``url``; ``None`` when ``url`` is the
            file itself.
        archive_size: of the archive, in bytes.
        progress: show a bar on standard error when that is a terminal.
        notify: gets a sentence for whatever makes the user wait.

    Raises:
        DownloadError: the server can't be reached or refuses, or serves another file than the expected one.
        FaceDetError: a file can't be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:  # what is there already is not fetched
        ...     target = Path(folder, "a.onnx")
        ...     _ = target.write_bytes(b"abc")
        ...     download("https://example.org/a.onnx", target, sha256=hashlib.sha256(b"abc").hexdigest(), size=3)
    """
    part = target.with_name(target.name + _PARTS[bool(member)])
    with _exclusive(target, notify):
        if has_sha256(target, sha256):
            return
        for begun_earlier in (_length(part) > 0, False):
            try:
                _Transfer(url, part, archive_size if member else size).run(progress, notify)
                if member:
                    _extract(url, part, member, target, sha256, size)
                else:
                    _move(url, part, target, sha256)
            except _WrongContent as error:
                part.unlink(missing_ok=True)
                if not begun_earlier:
                    raise
                notify(f"{error}; an earlier download had begun it, so it is fetched anew")
            else:
                for suffix in _PARTS:  # one may be of another source
                    target.with_name(target.name + suffix).unlink(missing_ok=True)
                return


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether ``path`` is a file with that content; ``False`` when there is none or it can't be read.

    Example:
        >>> has_sha256(Path("no such file"), "0" * 64)
        False
    """
    try:
        return _sha256(path) == sha256
    except OSError:
        return False


class _Transfer:
    """One file on its way: ``part`` grows to ``size`` bytes over as many connections as it takes."""

    def __init__(self, url: str, part: Path, size: int) -> None:
        self.url = url
        self.part = part
        self.size = size
        self.etag: str | None = None

    def run(self, progress: bool, notify: Callable[[str], None]) -> None:
        """Connects until all bytes are there or the tries are used up."""
        furthest = _length(self.part)
        waits = iter(DELAYS)
        name = self.part.name.removesuffix(".part")
        hidden = None if progress else True  # None: hidden unless standard error is a terminal
        with tqdm(total=self.size, initial=furthest, unit="B", unit_scale=True, desc=name, disable=hidden) as bar:
            while _length(self.part) < self.size:
                try:
                    self._connect(bar)
                except _Interrupted as error:
                    if _length(self.part) > furthest:
                        furthest, waits = _length(self.part), iter(DELAYS)
                    wait = next(waits, None)
                    if wait is None:
                        raise DownloadError(f"{self.url}: {error}; gave up after {len(DELAYS) + 1} tries") from error
                    notify(f"{self.url}: {error}; trying again in {wait:g} s")
                    time.sleep(wait)

    def _connect(self, bar: tqdm[NoReturn]) -> None:
        have = _length(self.part)
        headers = {"User-Agent": f"facedet-mm/{__version__}"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self.etag:
                headers["If-Range"] = self.etag
        with _network(self.url):
            response: HTTPResponse = build_opener().open(Request(self.url, headers=headers), timeout=_TIMEOUT)
        with response:
            start = self._check_range(response, have)
            etag = response.headers.get("ETag", "")
            self.etag = etag if etag.startswith('"') else None  # a weak one can't vouch for bytes
            remark = "what has arrived is kept for the next try"
            with _disk(self.part, remark), self.part.open("ab" if start else "wb") as file:
                self._receive(response, file, start, bar)

    def _check_range(self, response: HTTPResponse, have: int) -> int:
        """The position in the file at which the answer starts: where ours ends, or 0."""
        if response.status == 206:
            given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not given or int(given[1]) != have:
                self.part.unlink(missing_ok=True)
                raise _Interrupted("the server sent another range than the one asked for")
            if given[2] not in ("*", str(self.size)):
                raise _WrongContent(f"{self.url} has {given[2]} bytes, not the expected {self.size}")
            return have
        total = response.headers.get("Content-Length", "")
        if total.isdecimal() and int(total) != self.size:
            raise DownloadError(f"{self.url} has {total} bytes, not the expected {self.size}")
        return 0

    def _receive(self, response: HTTPResponse, file: BinaryIO, have: int, bar: tqdm[NoReturn]) -> None:
        bar.n = have
        while True:
            with _network(self.url):
                chunk = response.read(_CHUNK)
            if not chunk:
                break
            have += len(chunk)
            if have > self.size:
                raise _WrongContent(f"{self.url} has more than the expected {self.size} bytes")
            file.write(chunk)
            bar.update(len(chunk))
        if have < self.size:
            raise _Interrupted(f"the connection was cut after {have} of {self.size} bytes")


def _move(url: str, part: Path, target: Path, sha256: str) -> None:
    with _disk(target):
        _check(_sha256(part), sha256, url)
        part.replace(target)


def _extract(url: str, archive: Path, member: str, target: Path, sha256: str, size: int) -> None:
    """Writes one member to ``target``; the archive's own paths are compared, never used."""
    try:
        with zipfile.ZipFile(archive) as pack:
            infos = {PurePosixPath(info.filename).name: info for info in pack.infolist()}
            if member not in infos:
                raise _WrongContent(f"{url} has no member {member}; it has {', '.join(sorted(infos)[:10])}")
            if infos[member].file_size != size:
                raise _WrongContent(f"{member} in {url} has {infos[member].file_size} bytes, not the expected {size}")
            with pack.open(infos[member]) as source, atomic_path(target) as temporary:
                with temporary.open("wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
                _check(_sha256(temporary), sha256, f"{member} in {url}")
    except _DAMAGED as error:
        raise _WrongContent(f"{url} is not a zip archive, or a damaged one: {error}") from error


def _check(actual: str, expected: str, what: str) -> None:
    if actual != expected:
        raise _WrongContent(f"{what} is not the expected file: its SHA-256 is {actual}, not {expected}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Sorts what goes wrong on the way into what may pass and what won't."""
    try:
        yield
    except HTTPError as error:
        message = f"the server says {error.code} {error.reason}"
        if error.code in _PASSING:
            raise _Interrupted(message) from error
        if error.code == 416:
            raise _WrongContent(f"{url} is shorter than expected") from error
        raise DownloadError(f"{url}: {message}") from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"{url}: the server's certificate is not trusted: {error.reason}") from error
        raise _Interrupted(str(error.reason)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _Interrupted(" ".join(str(error).split()) or type(error).__name__) from error


@contextmanager
def _disk(path: Path, *remarks: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FaceDetError("; ".join((f"cannot write {path}: {error.strerror or error}", *remarks))) from error


@contextmanager
def _exclusive(target: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Lets one process at a time fetch ``target``; the lock dies with the process, the empty file stays."""
    lock = target.with_name(target.name + ".lock")
    with _disk(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("ab")
    with handle:
        if not _try_lock(handle):
            notify(f"another process fetches {target.name}; waiting for it")
            while not _try_lock(handle):
                time.sleep(0.1)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: BinaryIO) -> bool:
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: BinaryIO) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks; the SHA-256 still tells a mix-up
            return True
        return True
