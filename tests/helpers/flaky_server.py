"""A local HTTP server that fails in the ways that servers fail, for the tests of downloads."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facedet_mm.zoo import download


@dataclass
class Page:
    """What is served under one path, and how.

    Attributes:
        data: the whole file.
        etag: its validator; a request whose ``If-Range`` is another one gets the whole file.
        ranges: whether ``Range`` is honored.
        length: whether the size is told.
        cuts: for one request after the other, after how many bytes the connection is cut.
        statuses: for one request after the other, an error instead of the file.
        redirect: the path to go to instead.
        content_range: sent instead of the right one.
        gate: waited for after half of the bytes.
    """

    data: bytes
    etag: str | None = None
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirect: str | None = None
    content_range: str | None = None
    gate: threading.Event | None = None


class FlakyServer(ThreadingHTTPServer):
    """Serves ``pages``; ``requests`` holds (path, Range, If-Range) of all that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, path: str, data: bytes, **how: object) -> str:
        """Serves ``data`` under ``path``; gives the address."""
        self.pages[path] = Page(data, **how)  # type: ignore[arg-type]
        return self.origin + path

    def handle_error(self, *_: object) -> None:
        """Connections that clients give up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FlakyServer

    def do_GET(self) -> None:
        wanted, validator = self.headers.get("Range"), self.headers.get("If-Range")
        self.server.requests.append((self.path, wanted, validator))
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
        elif page.statuses:
            self.send_error(page.statuses.pop(0))
        elif page.redirect:
            self.send_response(302)
            self.send_header("Location", page.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send_page(page, wanted, validator)

    def _send_page(self, page: Page, wanted: str | None, validator: str | None) -> None:
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and page.ranges else 0
        if validator and validator != page.etag:
            start = 0
        if start >= len(page.data) > 0:
            self.send_error(416)
            return
        body = page.data[start:]
        self.send_response(206 if start else 200)
        if page.length:
            self.send_header("Content-Length", str(len(body)))
        if page.etag:
            self.send_header("ETag", page.etag)
        if start:
            right = f"bytes {start}-{len(page.data) - 1}/{len(page.data)}"
            self.send_header("Content-Range", page.content_range or right)
        self.end_headers()
        if page.gate:
            self.wfile.write(body[: len(body) // 2])
            page.gate.wait(30)
            body = body[len(body) // 2 :]
        self.wfile.write(body[: page.cuts.pop(0)] if page.cuts else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """The tests look at ``requests``."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyServer]:
    """A running server, reached without any proxy of this machine."""
    for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with FlakyServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the zoo's files, and no waiting between tries; for the module that takes the name over."""
    monkeypatch.setenv("FACEDET_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "DELAYS", ())
    return tmp_path / "home"
