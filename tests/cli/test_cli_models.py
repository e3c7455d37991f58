"""``facedet models``: what it lists, asks, fetches and refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import sys
from pathlib import Path

import flaky_server
import pytest
from flaky_server import FlakyServer

from facedet_mm.cli import main
from facedet_mm.zoo import MODELS, Source, asset_path

server = flaky_server.server
home = flaky_server.home

DATA = random.Random(0).randbytes(50_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def url(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of ``scrfd_1g`` and ``scrfd_34g`` in these tests."""
    url = server.add("/a.onnx", DATA)
    for name in ("scrfd_1g", "scrfd_34g"):
        model = dataclasses.replace(MODELS[name], sha256=SHA256, size=len(DATA), sources=(Source(url),))
        monkeypatch.setitem(MODELS, name, model)
    return url


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a user at a terminal types."""
    lines: list[str] = []

    def read(_: str) -> str:
        if not lines:
            raise EOFError
        return lines.pop()

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", read)
    return lines


def row(output: str, name: str) -> str:
    """The line of a model, with single spaces."""
    return next(" ".join(line.split()) for line in output.splitlines() if line.split()[:1] == [name])


def test_the_list_holds_every_model_with_its_published_figures(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["models", "list"]) == 0
    output = capsys.readouterr().out
    assert [line.split()[0] for line in output.split("\n\n")[0].splitlines()[1:]] == list(MODELS)
    assert row(output, "yunet_n") == (
        "yunet_n yunet 0.08 0.45 0.3 89.20 88.30 81.10 original 0.76 95.3 31.4 5 bundled Apache-2.0"
    )
    assert row(output, "scrfd_2.5g_kps") == (
        "scrfd_2.5g_kps scrfd 0.82 - 3.3 93.80 92.02 77.13 640 0.45 95.4 41.3 5 not downloaded non-commercial research"
    )
    assert row(output, "scrfd_34g") == (
        "scrfd_34g scrfd 9.80 34.13 39.2 96.06 94.92 85.29 640 0.50 - - - "
        "not downloaded, unverified non-commercial research"
    )
    assert str(home) in output
    assert not home.exists()


@pytest.mark.usefixtures("url")
def test_the_list_tells_what_was_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "scrfd_1g", "--accept-license"]) == 0
    assert main(["models", "list"]) == 0
    output = capsys.readouterr().out
    assert "cached" in row(output, "scrfd_1g")
    assert "cached" not in row(output, "scrfd_0.5g")


def test_info_says_where_a_file_comes_from_and_whether_its_hash_is_verified(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(["models", "info", "scrfd_10g_kps"]) == 0
    output = capsys.readouterr().out
    assert "AP:   95.40 / 94.01 / 82.80 (easy / medium / hard, published, at 640)" in output
    assert "16923827 bytes" in output
    assert "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91 (verified)" in output
    assert "buffalo_l.zip det_10g.onnx\n" in output
    assert f"{home / 'scrfd_10g_kps.onnx'} (not downloaded)" in output
    assert main(["models", "info", "scrfd_34g"]) == 0
    assert "(not verified: " in capsys.readouterr().out
    assert main(["models", "info", "yunet_n"]) == 0
    assert f"{asset_path('yunet_n_dynamic.onnx')} (bundled)" in capsys.readouterr().out


def test_fetch_prints_the_path_and_no_bar_without_a_terminal(
    url: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", "scrfd_1g", "--accept-license"]) == 0
    out, err = capsys.readouterr()
    path = home / "scrfd_1g.onnx"
    assert out == f"scrfd_1g: {path}\n"
    assert err == f"facedet models: downloading {url} (0.1 MB)\n"
    assert path.read_bytes() == DATA


@pytest.mark.usefixtures("url")
def test_a_hash_that_is_not_verified_is_said_with_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "scrfd_34g", "--accept-license"]) == 0
    assert f"{SHA256}, which is not verified" in capsys.readouterr().err


@pytest.mark.usefixtures("url")
def test_a_license_without_an_answer_stops_and_says_how_to_answer(
    server: FlakyServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert main(["models", "fetch", "scrfd_1g"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("facedet models: error: scrfd_1g: ")
    assert "non-commercial research" in err
    assert "facedet models fetch scrfd_1g --accept-license" in err
    assert err.count("\n") == 1
    assert server.requests == []


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("reply", ["y", "YES", " yes "])
def test_yes_on_a_terminal_accepts_the_license_that_was_shown(
    home: Path, answer: list[str], capsys: pytest.CaptureFixture[str], reply: str
) -> None:
    answer.append(reply)
    assert main(["models", "fetch", "scrfd_1g"]) == 0
    assert "have this license: non-commercial research" in capsys.readouterr().err
    assert (home / "scrfd_1g.onnx").is_file()


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("replies", [["n"], [""], ["what?"], []])
def test_anything_else_fetches_nothing(
    server: FlakyServer, answer: list[str], capsys: pytest.CaptureFixture[str], replies: list[str]
) -> None:
    answer += replies
    assert main(["models", "fetch", "scrfd_1g"]) == 1
    assert "scrfd_1g is not downloaded: its license is not accepted" in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.usefixtures("url", "answer")
def test_what_is_there_is_neither_asked_about_nor_fetched_again(
    server: FlakyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", "scrfd_1g", "--accept-license"]) == 0
    assert main(["models", "fetch", "scrfd_1g"]) == 0
    assert main(["models", "fetch", "yunet_n"]) == 0
    assert len(server.requests) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"yunet_n: {asset_path('yunet_n_dynamic.onnx')}"


def test_a_failure_is_one_line_with_status_1(
    url: str, server: FlakyServer, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del server.pages["/a.onnx"]
    assert main(["models", "fetch", "scrfd_1g", "--accept-license"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1].startswith(
        f"facedet models: error: cannot download scrfd_1g: {url}: the server says 404"
    )
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("action", ["info", "fetch"])
def test_an_unknown_name_is_one_line_with_status_1(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", action, "scrfd_3g"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("facedet models: error: unknown model 'scrfd_3g'; did you mean scrfd_")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["info"], ["sell"]])
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["models", *arguments])
    assert stop.value.code == 2
    assert "usage: facedet models" in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["models", "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "facedet models fetch scrfd_2.5g_kps" in output
    assert "HTTPS_PROXY" in output
