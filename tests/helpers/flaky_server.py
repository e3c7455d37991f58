"""A local HTTP server that fails in the ways that servers fail, for the tests of downloads."""

from __future__ import annotations

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
        data: Content of the file.
        length: Whether the response states its size.
        cuts: Number of bytes after which the connection is cut, one per request.
        bodies: Content to send instead of ``data``, one per request.
        statuses: HTTP errors to send instead of the file, one per request.
        redirect: Path or URL to redirect to.
        gate: Event to wait for after half of the bytes.
    """

    data: bytes
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirect: str | None = None
    gate: threading.Event | None = None


class FlakyServer(ThreadingHTTPServer):
    """Serves ``pages``; ``requests`` lists the paths of all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.requests: list[str] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, path: str, data: bytes, **how: object) -> str:
        """Serves ``data`` under ``path``; returns its URL."""
        self.pages[path] = Page(data, **how)  # type: ignore[arg-type]
        return self.origin + path

    def handle_error(self, *_: object) -> None:
        """Prints nothing: clients that close the connection are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FlakyServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
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
            self._send_page(page)

    def _send_page(self, page: Page) -> None:
        body = page.bodies.pop(0) if page.bodies else page.data
        self.send_response(200)
        if page.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if page.gate:
            self.wfile.write(body[: len(body) // 2])
            page.gate.wait(30)
            body = body[len(body) // 2 :]
        self.wfile.write(body[: page.cuts.pop(0)] if page.cuts else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Prints nothing: the tests look at ``requests``."""


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
    """An empty folder of downloaded models, and no retries, for test modules that import this fixture."""
    monkeypatch.setenv("FACEDET_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "RETRIES", 0)
    return tmp_path / "home"
