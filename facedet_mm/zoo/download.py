"""Downloads of one file, or of one member of a zip archive, checked by size and SHA-256."""

from __future__ import annotations

import hashlib
import lzma
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pooch
import requests
from tqdm import tqdm

from facedet_mm.errors import ModelError
from facedet_mm.system.files import atomic_path
from facedet_mm.version import __version__

RETRIES = 3
"""Number of new tries after a failure that may pass; pooch waits 1, 2 and 3 s before them."""
_TIMEOUT = 30
"""Seconds without a byte after which a connection counts as cut."""
_CHUNK = 1 << 16
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that may be gone at the next try."""
_CUT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
"""Errors that ``zipfile`` raises for a damaged or encrypted file."""

pooch.get_logger().setLevel("ERROR")  # by default pooch writes every step to standard error


class DownloadError(ModelError):
    """A URL does not serve the expected file."""


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
    """Downloads a file, or one member of a zip archive, unless ``target`` is that file already.

    The file appears at ``target`` only when it is complete and checked, so several processes may download it at
    once. Proxies are read from ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``.

    Args:
        url: An http or https address.
        target: Path of the file to write; missing folders are created.
        sha256: SHA-256 of the file at ``target``, in hexadecimal.
        size: Size of the file at ``target`` in bytes.
        member: File name, without folders, of the member of the zip archive at ``url``; ``None`` when ``url`` is
            the file itself.
        archive_size: Size of the archive in bytes.
        progress: Whether to show a progress bar on standard error when that is a terminal.
        notify: Called with a status message before each new try.

    Raises:
        DownloadError: The server can't be reached or refuses, or the file is not the expected one.
        FaceDetError: The file can't be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:  # nothing is downloaded when the file exists
        ...     target = Path(folder, "a.onnx")
        ...     _ = target.write_bytes(b"abc")
        ...     download("https://example.org/a.onnx", target, sha256=hashlib.sha256(b"abc").hexdigest(), size=3)
    """
    if has_sha256(target, sha256):
        return
    name = f"{target.name}.zip" if member else target.name
    downloader = _Downloader(name, archive_size if member else size, progress, notify)
    with (
        atomic_path(target, follow_link=False) as temporary,
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder,
    ):
        known_hash = None if member else sha256
        store = pooch.Pooch(folder, "", registry={name: known_hash}, urls={name: url}, retry_if_failed=RETRIES)
        try:
            received = Path(store.fetch(name, downloader=downloader))
        except requests.RequestException as error:
            raise DownloadError(f"{url}: {_reason(error)}; gave up after {RETRIES + 1} tries") from error
        except ValueError as error:  # another hash
            raise DownloadError(f"{url}: {error}") from error
        if member:
            temporary.write_bytes(_read_member(url, received, member, sha256, size))
        else:
            received.replace(temporary)


def has_sha256(path: Path, sha256: str) -> bool:
    """Returns whether ``path`` is a readable file with that content.

    Example:
        >>> has_sha256(Path("no such file"), "0" * 64)
        False
    """
    try:
        return str(pooch.file_hash(path)) == sha256
    except OSError:
        return False


class _Downloader:
    """Downloads one file for pooch, and ends what no further try would change with a :class:`DownloadError`."""

    def __init__(self, name: str, size: int, progress: bool, notify: Callable[[str], None]) -> None:
        self.name = name
        self.size = size
        self.progress = progress
        self.notify = notify
        self.retries = RETRIES

    def __call__(self, url: str, output_file: str, _: pooch.Pooch) -> None:
        hidden = not (self.progress and sys.stderr.isatty())
        headers = {"User-Agent": f"facedet-mm/{__version__}"}
        with (
            open(output_file, "wb") as file,
            tqdm(total=self.size, unit="B", unit_scale=True, desc=self.name, disable=hidden) as bar,
        ):
            fetch = pooch.HTTPDownloader(bar, chunk_size=_CHUNK, timeout=_TIMEOUT, headers=headers)
            try:
                fetch(url, _LimitedFile(file, self.size, url), None)
            except requests.RequestException as error:
                self._check_passing(url, error)
                raise
            received = file.tell()
        if received != self.size:
            raise DownloadError(f"{url} has {received} bytes, not the expected {self.size}")

    def _check_passing(self, url: str, error: requests.RequestException) -> None:
        """Raises a :class:`DownloadError` unless the failure may pass, and announces the next try if it may."""
        response = error.response
        passing = isinstance(error, _CUT) if response is None else response.status_code in _PASSING
        if "certificate verify failed" in str(error):
            remedy = "behind a proxy that replaces certificates, set REQUESTS_CA_BUNDLE to its certificate file"
            raise DownloadError(f"{url}: the server's certificate is not trusted; {remedy}") from error
        if not passing:
            raise DownloadError(f"{url}: {_reason(error)}") from error
        if self.retries:
            self.notify(f"{url}: {_reason(error)}; trying again")
            self.retries -= 1


class _LimitedFile:
    """A file that refuses more than ``size`` bytes, whatever a server sends."""

    def __init__(self, file: BinaryIO, size: int, url: str) -> None:
        self.file = file
        self.left = size
        self.message = f"{url} has more than the expected {size} bytes"

    def write(self, chunk: bytes) -> None:
        self.left -= len(chunk)
        if self.left < 0:
            raise DownloadError(self.message)
        self.file.write(chunk)

    def flush(self) -> None:
        self.file.flush()


def _reason(error: requests.RequestException) -> str:
    """The innermost message: requests and urllib3 wrap an error of the network up to three times."""
    if error.response is not None:
        return f"the server says {error.response.status_code} {error.response.reason}"
    inner: BaseException = error
    while isinstance(wrapped := getattr(inner, "reason", None) or (inner.args or [None])[-1], BaseException):
        inner = wrapped
    return " ".join(str(inner).split()) or type(inner).__name__


def _read_member(url: str, archive: Path, member: str, sha256: str, size: int) -> bytes:
    """The content of one member; paths in the archive are compared by their last part and never used."""
    try:
        with zipfile.ZipFile(archive) as pack:
            infos = {PurePosixPath(info.filename).name: info for info in pack.infolist()}
            if member not in infos:
                raise DownloadError(f"{url} has no member {member}; it has {', '.join(sorted(infos)[:10])}")
            if infos[member].file_size != size:
                given = infos[member].file_size
                raise DownloadError(f"{member} in {url} has {given} bytes, not the expected {size}")
            data = pack.read(infos[member])
    except _DAMAGED as error:
        raise DownloadError(f"{url} is not a zip archive, or a damaged one: {error}") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise DownloadError(f"{member} in {url} is not the expected file: its SHA-256 is {actual}, not {sha256}")
    return data
