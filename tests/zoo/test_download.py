"""Downloads from a server that cuts, refuses, lies and stalls."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import flaky_server
import pytest
import requests
from flaky_server import FlakyServer

from facedet_mm.errors import FaceDetError
from facedet_mm.zoo import download as module
from facedet_mm.zoo.download import DownloadError, download

server = flaky_server.server

DATA = random.Random(0).randbytes(300_001)
OTHER = random.Random(1).randbytes(300_001)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that pooch would have waited between tries."""
    seconds: list[float] = []
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.onnx"


def fetch(url: str, target: Path, data: bytes = DATA, **options: object) -> list[str]:
    """Downloads what should be ``data``; returns the messages to the user."""
    messages: list[str] = []
    download(url, target, sha256=sha256(data), size=len(data), notify=messages.append, **options)
    return messages


def files(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


class TestWhole:
    def test_a_file_arrives_under_its_name_and_nothing_else_stays(self, server: FlakyServer, target: Path) -> None:
        assert fetch(server.add("/a", DATA), target) == []
        assert target.read_bytes() == DATA
        assert files(target) == {"model.onnx"}
        assert server.requests == ["/a"]

    @pytest.mark.skipif(os.name == "nt", reason="needs the permissions of POSIX")
    def test_other_users_may_read_the_file_where_the_umask_lets_them(self, server: FlakyServer, target: Path) -> None:
        before = os.umask(0o022)
        try:
            fetch(server.add("/a", DATA), target)
        finally:
            os.umask(before)
        assert target.stat().st_mode & 0o777 == 0o644

    def test_a_file_that_is_there_is_not_fetched_again(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", DATA)
        fetch(url, target)
        fetch(url, target)
        assert len(server.requests) == 1

    def test_a_damaged_file_under_the_name_is_replaced(self, server: FlakyServer, target: Path) -> None:
        target.parent.mkdir()
        target.write_bytes(DATA[:-1])
        fetch(server.add("/a", DATA), target)
        assert target.read_bytes() == DATA

    def test_a_size_that_is_not_told_does_no_harm(self, server: FlakyServer, target: Path) -> None:
        fetch(server.add("/a", DATA, length=False), target)
        assert target.read_bytes() == DATA

    def test_a_redirect_is_followed(self, server: FlakyServer, target: Path) -> None:
        server.add("/b", DATA)
        fetch(server.add("/a", b"", redirect="/b"), target)
        assert target.read_bytes() == DATA
        assert server.requests == ["/a", "/b"]

    def test_a_proxy_of_the_environment_is_used(
        self, server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", server.origin)
        server.add("http://models.invalid/a", DATA)
        fetch("http://models.invalid/a", target)
        assert target.read_bytes() == DATA

    def test_the_bar_shows_on_a_terminal_only(
        self, server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = server.add("/a", DATA)
        shown = []
        for terminal in (False, True):
            stream = io.StringIO()
            monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
            monkeypatch.setattr(sys, "stderr", stream)
            fetch(url, target, progress=True)
            target.unlink()
            shown.append(stream.getvalue())
        assert shown[0] == ""
        assert "model.onnx: 100%" in shown[1]
        assert "300k/300k" in shown[1]


class TestCut:
    def test_a_cut_connection_is_tried_again(self, server: FlakyServer, target: Path) -> None:
        messages = fetch(server.add("/a", DATA, cuts=[100_000]), target)
        assert target.read_bytes() == DATA
        assert files(target) == {"model.onnx"}
        assert len(server.requests) == 2
        (message,) = messages
        assert message.startswith(f"{server.origin}/a: IncompleteRead(100000 bytes read")
        assert message.endswith("; trying again")

    def test_a_server_that_always_cuts_is_given_up(self, server: FlakyServer, target: Path, waits: list[float]) -> None:
        url = server.add("/a", DATA, cuts=[5000] * 99)
        with pytest.raises(DownloadError, match=r"/a: IncompleteRead\(5000 bytes read.*; gave up after 4 tries"):
            fetch(url, target)
        assert len(server.requests) == 4
        assert waits == [1, 2, 3]
        assert files(target) == set()

    def test_a_server_that_falls_silent_counts_as_cut(
        self, server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_TIMEOUT", 0.3)
        gate = threading.Event()
        url = server.add("/a", DATA, gate=gate)
        messages: list[str] = []

        def wake(message: str) -> None:
            messages.append(message)
            server.pages["/a"].gate = None
            gate.set()

        download(url, target, sha256=sha256(DATA), size=len(DATA), notify=wake)
        assert target.read_bytes() == DATA
        assert "timed out" in messages[0]

    def test_a_file_that_was_damaged_on_its_way_is_fetched_again(self, server: FlakyServer, target: Path) -> None:
        fetch(server.add("/a", DATA, bodies=[OTHER]), target)
        assert target.read_bytes() == DATA
        assert len(server.requests) == 2

    @pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
    @pytest.mark.parametrize("member", [None, "det.onnx"])
    def test_ctrl_c_leaves_nothing(self, server: FlakyServer, target: Path, member: str | None) -> None:
        process = start(server.add("/a", DATA, gate=threading.Event()), target, member)
        wait_for(lambda: any(path.stat().st_size >= 65536 for path in target.parent.rglob("*") if path.is_file()))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (130, "fetch: interrupted\n")
        assert files(target) == set()


class TestRefused:
    def test_busy_servers_are_asked_again(self, server: FlakyServer, target: Path) -> None:
        messages = fetch(server.add("/a", DATA, statuses=[503, 429, 500]), target)
        assert target.read_bytes() == DATA
        assert messages[0] == f"{server.origin}/a: the server says 503 Service Unavailable; trying again"
        assert len(messages) == 3

    def test_a_server_that_stays_busy_is_given_up(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", DATA, statuses=[503] * 9)
        with pytest.raises(DownloadError, match=f"{url}: the server says 503 Service Unavailable; gave up after 4 tri"):
            fetch(url, target)
        assert len(server.requests) == 4

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_a_refusal_for_good_is_not_asked_again(self, server: FlakyServer, target: Path, status: int) -> None:
        url = server.add("/a", DATA, statuses=[status] * 9)
        with pytest.raises(DownloadError, match=rf"{url}: the server says {status} \w+"):
            fetch(url, target)
        assert len(server.requests) == 1
        assert files(target) == set()

    def test_a_refused_connection_names_the_address(self, target: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(DownloadError, match=rf"http://127.0.0.1:{port}/a: .*refused; gave up after 4 tries") as e:
            fetch(f"http://127.0.0.1:{port}/a", target)
        assert "object at 0x" not in str(e.value)
        assert files(target) == set()

    def test_a_name_that_does_not_exist_is_said(self, target: Path) -> None:
        with pytest.raises(DownloadError, match=r"http://models\.invalid/a: .*; gave up"):
            fetch("http://models.invalid/a", target)

    def test_something_that_is_no_web_server_is_said(self, target: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def babble() -> None:
                for _ in range(4):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

            thread = threading.Thread(target=babble)
            thread.start()
            with pytest.raises(DownloadError, match=r"SSH-2\.0.*gave up"):
                fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/a", target)
            thread.join()

    def test_a_certificate_that_is_not_trusted_is_not_tried_again(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries = []

        def refuse(url: str, **_: object) -> None:
            tries.append(url)
            raise requests.exceptions.SSLError(
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"
            )

        monkeypatch.setattr(requests, "get", refuse)
        with pytest.raises(DownloadError, match=r"https://a/b: the server's certificate is not trusted; .*REQUESTS_CA"):
            fetch("https://a/b", target)
        assert len(tries) == 1

    def test_a_redirect_to_a_local_file_is_refused(self, server: FlakyServer, target: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(DATA)
        url = server.add("/a", b"", redirect=(tmp_path / "secret").as_uri())
        with pytest.raises(DownloadError, match=f"{url}: No connection adapters were found for 'file:"):
            fetch(url, target)
        with pytest.raises(DownloadError, match="No connection adapters were found for 'file:"):
            fetch((tmp_path / "secret").as_uri(), target)
        assert files(target) == set()


class TestWrong:
    def test_a_wrong_hash_is_shown_and_nothing_is_kept(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", OTHER)
        with pytest.raises(DownloadError, match=rf"{url}: SHA256 .* expected {sha256(DATA)} but got {sha256(OTHER)}"):
            fetch(url, target)
        assert files(target) == set()

    @pytest.mark.parametrize("data", [DATA[:-1], b"<html>Log in to the hotel's network</html>", b""])
    @pytest.mark.parametrize("length", [True, False])
    def test_a_file_that_is_too_small_is_not_asked_for_again(
        self, server: FlakyServer, target: Path, data: bytes, length: bool
    ) -> None:
        with pytest.raises(DownloadError, match=rf"/a has {len(data)} bytes, not the expected 300001"):
            fetch(server.add("/a", data, length=length), target)
        assert len(server.requests) == 1
        assert files(target) == set()

    @pytest.mark.parametrize("length", [True, False])
    def test_bytes_beyond_the_size_are_not_written_on_and_on(
        self, server: FlakyServer, target: Path, length: bool
    ) -> None:
        """The second half of the file never comes: the download ends without it."""
        url = server.add("/a", DATA * 9, length=length, gate=threading.Event())
        with pytest.raises(DownloadError, match="more than the expected 300001 bytes"):
            fetch(url, target)
        assert len(server.requests) == 1
        assert files(target) == set()


class TestZip:
    @staticmethod
    def pack(*members: tuple[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
            for name, data in members:
                pack.writestr(name, data)
        return buffer.getvalue()

    @staticmethod
    def fetch(url: str, target: Path, pack: bytes) -> None:
        fetch(url, target, member="det.onnx", archive_size=len(pack))

    @pytest.mark.parametrize("name", ["det.onnx", "buffalo/det.onnx"])
    def test_one_member_is_taken_out_and_the_archive_goes(self, server: FlakyServer, target: Path, name: str) -> None:
        pack = self.pack(("rec.onnx", OTHER), (name, DATA), ("buffalo/", b""))
        self.fetch(server.add("/a", pack, cuts=[1000]), target, pack)
        assert target.read_bytes() == DATA
        assert files(target) == {"model.onnx"}
        assert len(server.requests) == 2

    @pytest.mark.parametrize("name", ["../../det.onnx", "/det.onnx", "../det.onnx"])
    def test_paths_in_the_archive_lead_nowhere(self, server: FlakyServer, target: Path, name: str) -> None:
        pack = self.pack(("../evil.onnx", OTHER), ("/evil.onnx", OTHER), (name, DATA))
        self.fetch(server.add("/a", pack), target, pack)
        assert {path.name for path in target.parents[1].rglob("*")} == {"cache", "model.onnx"}
        assert target.read_bytes() == DATA

    def test_a_member_that_is_missing_is_named_with_those_there_are(self, server: FlakyServer, target: Path) -> None:
        pack = self.pack(("x/rec.onnx", DATA), ("x/pose.onnx", DATA))
        with pytest.raises(DownloadError, match=r"has no member det\.onnx; it has pose\.onnx, rec\.onnx"):
            self.fetch(server.add("/a", pack), target, pack)
        assert files(target) == set()

    def test_a_member_of_another_size_is_not_unpacked(self, server: FlakyServer, target: Path) -> None:
        pack = self.pack(("det.onnx", bytes(10**8)))
        with pytest.raises(DownloadError, match=r"det\.onnx in .*/a has 100000000 bytes, not the expected 300001"):
            self.fetch(server.add("/a", pack), target, pack)
        assert files(target) == set()

    def test_a_member_with_another_hash_is_refused(self, server: FlakyServer, target: Path) -> None:
        pack = self.pack(("det.onnx", OTHER))
        with pytest.raises(DownloadError, match=rf"det\.onnx in .*/a .* SHA-256 is {sha256(OTHER)}"):
            self.fetch(server.add("/a", pack), target, pack)
        assert files(target) == set()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda pack: bytes(len(pack)),
            lambda pack: pack[:-30] + bytes(30),
            lambda pack: pack[:5000] + bytes(100) + pack[5100:],
            lambda pack: pack[: len(pack) // 2],
            lambda pack: pack[:38] + b"\7" + pack[39:],
            lambda pack: pack.replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
            lambda pack: pack.replace(b"PK\1\2\x14\3\x14\0\0\0\x08", b"PK\1\2\x14\3\x14\0\0\0\x63"),
        ],
        ids=["zeros", "end", "middle", "half", "block type", "encrypted", "unknown method"],
    )
    def test_a_damaged_archive_is_refused_and_thrown_away(
        self, server: FlakyServer, target: Path, damage: object
    ) -> None:
        pack = damage(self.pack(("det.onnx", DATA)))
        with pytest.raises(DownloadError, match="/a is not a zip archive, or a damaged one: "):
            self.fetch(server.add("/a", pack), target, pack)
        assert files(target) == set()

    def test_an_archive_of_another_size_is_refused(self, server: FlakyServer, target: Path) -> None:
        pack = self.pack(("det.onnx", DATA))
        url = server.add("/a", pack + bytes(1000))
        with pytest.raises(DownloadError, match=rf"/a has more than the expected {len(pack)} bytes"):
            self.fetch(url, target, pack)
        assert files(target) == set()


class TestDisk:
    @pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
    @pytest.mark.parametrize("member", [None, "det.onnx"])
    def test_a_full_disk_is_named_and_not_tried_again(
        self, server: FlakyServer, target: Path, member: str | None
    ) -> None:
        process = start(server.add("/a", DATA), target, member, limit=100_000)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 1
        assert err == f"fetch: error: cannot write {target}: File too large\n"
        assert len(server.requests) == 1
        assert files(target) == set()

    def test_a_disk_that_fills_while_unpacking_leaves_no_half_file(
        self, server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill(path: Path, data: bytes) -> None:
            with path.open("wb") as file:
                file.write(data[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

        pack = TestZip.pack(("det.onnx", DATA))
        monkeypatch.setattr(Path, "write_bytes", fill)
        with pytest.raises(FaceDetError, match=r"cannot write .*model\.onnx: No space left on device"):
            TestZip.fetch(server.add("/a", pack), target, pack)
        assert files(target) == set()

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs the permissions of POSIX; root has all")
    def test_a_folder_that_cannot_be_written_is_named(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", DATA)
        target.parent.mkdir(mode=0o555)
        with pytest.raises(FaceDetError, match=r"cannot write .*model\.onnx: Permission denied"):
            fetch(url, target)
        assert server.requests == []

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FaceDetError, match=r"cannot write .*file.*: (Not a directory|File exists)"):
            fetch("http://127.0.0.1:9/a", tmp_path / "file" / "model.onnx")

    def test_a_folder_in_the_place_of_the_file_is_named(self, server: FlakyServer, target: Path) -> None:
        target.mkdir(parents=True)
        with pytest.raises(FaceDetError, match=r"cannot write .*model\.onnx: "):
            fetch(server.add("/a", DATA), target)
        assert files(target) == {"model.onnx"}


class TestSeveralAtOnce:
    def test_processes_that_fetch_the_same_file_all_succeed(self, server: FlakyServer, target: Path) -> None:
        gate = threading.Event()
        url = server.add("/a", DATA, gate=gate)
        processes = [start(url, target) for _ in range(2)]
        wait_for(lambda: len(server.requests) == 2)
        gate.set()
        assert [process.wait(20) for process in processes] == [0, 0]
        assert target.read_bytes() == DATA
        assert files(target) == {"model.onnx"}

    def test_threads_that_fetch_the_same_file_all_succeed(self, server: FlakyServer, target: Path) -> None:
        gate = threading.Event()
        url = server.add("/a", DATA, gate=gate)
        with ThreadPoolExecutor(4) as pool:
            tasks = [pool.submit(fetch, url, target) for _ in range(4)]
            wait_for(lambda: len(server.requests) == 4)
            gate.set()
            assert [task.result(20) for task in tasks] == [[]] * 4
        assert target.read_bytes() == DATA
        assert files(target) == {"model.onnx"}


def start(url: str, target: Path, member: str | None = None, limit: int | None = None) -> subprocess.Popen[str]:
    """A process that downloads ``DATA``, or a member of that archive, and writes files of at most ``limit`` bytes."""
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom facedet_mm.cli import guard\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell runs in the background
        "from facedet_mm.zoo.download import download\n"
        f"what = dict(sha256={sha256(DATA)!r}, size={len(DATA)}, member={member!r}, archive_size={len(DATA)})\n"
    )
    if limit:
        code += f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    code += f"sys.exit(guard(lambda: download({url!r}, Path({str(target)!r}), **what) or 0, 'fetch'))"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def wait_for(condition: object) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
