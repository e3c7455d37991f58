"""``facedet video``: what its lines hold, and what they must not."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from video_samples import numbered, write_video

from facedet_mm.cli import main


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize(("name", "status"), [("v.mkv", 0), ("missing.mkv", 1)])
def test_a_password_is_in_no_line(
    tmp_path: Path, server: str, name: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "v.mkv", map(numbered, range(5)))
    assert main(["video", f"http://user:sec%40ret@{server}/{name}?token=secret"]) == status
    output = capsys.readouterr()
    text = output.out + output.err
    assert f"http://{server}/{name}?token=***: " in text
    assert "user" not in text.partition("check the address")[0]
    assert "sec" not in text.partition("check the address")[0].replace("second", "")


@pytest.mark.parametrize("exists", [True, False])
def test_a_name_does_not_control_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a\x1b[2J\rb.mkv"
    if exists:
        write_video(tmp_path / "v.mkv", map(numbered, range(5))).rename(name)
    assert main(["video", name, "--out", "o\x1b[2J.csv"]) == (0 if exists else 1)
    output = capsys.readouterr()
    assert "\x1b" not in output.out + output.err
    assert "a\\x1b[2J\\rb.mkv: " in output.out + output.err


def test_a_plain_run_prints_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "v.mkv", map(numbered, range(5)))
    assert main(["video", str(tmp_path / "v.mkv")]) == 0
    output = capsys.readouterr()
    assert "5 frames, 0.0 faces per frame, 0 tracks, " in output.out
    assert output.err == ""
