"""Downloads from a server that cuts, refuses, lies and stalls."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import flaky_server
import pytest
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
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAYS", (0, 0, 0))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.onnx"


def fetch(url: str, target: Path, data: bytes = DATA, **options: object) -> list[str]:
    """Downloads what should be ``data``; gives what the user was told."""
    told: list[str] = []
    download(url, target, sha256=sha256(data), size=len(data), notify=told.append, **options)
    return told


def files(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {"model.onnx.lock"}


def part_of(target: Path, data: bytes, suffix: str = ".part") -> Path:
    part = target.with_name(target.name + suffix)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(data)
    return part


class TestWhole:
    def test_a_file_arrives_under_its_name_and_nothing_else_stays(self, server: FlakyServer, target: Path) -> None:
        assert fetch(server.add("/a", DATA), target) == []
        assert target.read_bytes() == DATA
        assert files(target) == {"model.onnx"}
        assert server.requests == [("/a", None, None)]

    def test_a_file_that_is_there_is_not_fetched_again(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", DATA)
        fetch(url, target)
        fetch(url, target)
        assert len(server.requests) == 1

    def test_a_damaged_file_under_the_name_is_replaced(self, server: FlakyServer, target: Path) -> None:
        part_of(target, DATA[:-1], "")
        fetch(server.add("/a", DATA), target)
        assert target.read_bytes() == DATA

    def test_a_size_that_is_not_told_does_no_harm(self, server: FlakyServer, target: Path) -> None:
        fetch(server.add("/a", DATA, length=False), target)
        assert target.read_bytes() == DATA

    def test_a_redirect_is_followed_and_keeps_the_range(self, server: FlakyServer, target: Path) -> None:
        part_of(target, DATA[:1000])
        server.add("/b", DATA)
        fetch(server.add("/a", b"", redirect="/b"), target)
        assert target.read_bytes() == DATA
        assert server.requests == [("/a", "bytes=1000-", None), ("/b", "bytes=1000-", None)]

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
    def test_a_cut_connection_goes_on_where_it_ended(self, server: FlakyServer, target: Path) -> None:
        told = fetch(server.add("/a", DATA, cuts=[100_000], etag='"x"'), target)
        assert target.read_bytes() == DATA
        assert server.requests == [("/a", None, None), ("/a", "bytes=100000-", '"x"')]
        assert len(told) == 1
        assert "cut after 100000 of 300001 bytes; trying again" in told[0]

    def test_as_long_as_it_gets_further_it_is_never_given_up(self, server: FlakyServer, target: Path) -> None:
        fetch(server.add("/a", DATA, cuts=[20_000] * 12), target)
        assert target.read_bytes() == DATA
        assert [wanted for _, wanted, _ in server.requests[1:]] == [f"bytes={20_000 * i}-" for i in range(1, 13)]

    def test_a_server_without_ranges_starts_over(self, server: FlakyServer, target: Path) -> None:
        fetch(server.add("/a", DATA, cuts=[100_000, 5000], ranges=False), target)
        assert target.read_bytes() == DATA
        assert len(server.requests) == 3

    def test_a_server_that_always_cuts_at_the_same_byte_is_given_up(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", DATA, cuts=[5000] * 99, ranges=False)
        with pytest.raises(DownloadError, match=r"/a: .*cut after 5000 of 300001 bytes; gave up after 4 tries"):
            fetch(url, target)
        assert len(server.requests) == 4
        assert target.with_name("model.onnx.part").read_bytes() == DATA[:5000]

    def test_a_later_call_goes_on_with_what_an_earlier_one_left(self, server: FlakyServer, target: Path) -> None:
        part_of(target, DATA[:123_456])
        fetch(server.add("/a", DATA), target)
        assert target.read_bytes() == DATA
        assert server.requests == [("/a", "bytes=123456-", None)]

    def test_a_part_that_is_complete_needs_no_server(self, target: Path) -> None:
        part_of(target, DATA)
        fetch("http://127.0.0.1:9/a", target)
        assert target.read_bytes() == DATA

    @pytest.mark.parametrize("left", [OTHER[:1000], OTHER, DATA + b"more"])
    def test_a_part_of_something_else_is_thrown_away(self, server: FlakyServer, target: Path, left: bytes) -> None:
        part_of(target, left)
        fetch(server.add("/a", DATA), target)
        assert target.read_bytes() == DATA
        assert server.requests[-1] == ("/a", None, None)
        assert files(target) == {"model.onnx"}

    def test_a_file_that_changes_between_two_tries_is_not_mixed(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", OTHER, cuts=[100_000], etag='"old"')

        def change(_: str) -> None:
            server.add("/a", DATA, etag='"new"')

        download(url, target, sha256=sha256(DATA), size=len(DATA), notify=change)
        assert target.read_bytes() == DATA
        assert server.requests == [("/a", None, None), ("/a", "bytes=100000-", '"old"')]

    def test_a_weak_etag_vouches_for_no_bytes(self, server: FlakyServer, target: Path) -> None:
        fetch(server.add("/a", DATA, cuts=[100_000], etag='W/"x"'), target)
        assert server.requests[1] == ("/a", "bytes=100000-", None)

    @pytest.mark.parametrize("given", ["bytes 7-300000/300001", "bytes=1000-", "pages 1-2/3"])
    def test_a_range_that_was_not_asked_for_is_not_appended(
        self, server: FlakyServer, target: Path, given: str
    ) -> None:
        part_of(target, DATA[:1000])
        fetch(server.add("/a", DATA, content_range=given), target)
        assert target.read_bytes() == DATA
        assert server.requests == [("/a", "bytes=1000-", None), ("/a", None, None)]

    def test_a_server_that_falls_silent_counts_as_cut(
        self, server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_TIMEOUT", 0.3)
        gate = threading.Event()
        url = server.add("/a", DATA, gate=gate)
        told: list[str] = []

        def wake(message: str) -> None:
            told.append(message)
            server.pages["/a"].gate = None
            gate.set()

        download(url, target, sha256=sha256(DATA), size=len(DATA), notify=wake)
        assert target.read_bytes() == DATA
        assert "timed out" in told[0]

    @pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
    def test_ctrl_c_keeps_the_part_and_the_next_call_goes_on(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", DATA, gate=threading.Event())
        process = start(url, target)
        part = target.with_name("model.onnx.part")
        wait_for(lambda: part.is_file() and part.stat().st_size >= 65536)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (130, "fetch: interrupted\n")
        assert files(target) == {"model.onnx.part"}
        assert DATA.startswith(part.read_bytes())
        server.pages["/a"].gate = None
        fetch(url, target)
        assert target.read_bytes() == DATA
        assert server.requests[1][1] is not None


class TestRefused:
    def test_busy_servers_are_asked_again(self, server: FlakyServer, target: Path) -> None:
        told = fetch(server.add("/a", DATA, statuses=[503, 429, 500]), target)
        assert target.read_bytes() == DATA
        assert "the server says 503 Service Unavailable; trying again" in told[0]

    def test_the_waits_grow(self, server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        with pytest.raises(DownloadError, match="503 Service Unavailable; gave up after 4 tries"):
            fetch(server.add("/a", DATA, statuses=[503] * 9), target)
        assert waits == [1, 2, 4]

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
        with pytest.raises(DownloadError, match=rf"http://127.0.0.1:{port}/a: .*refused; gave up after 4 tries"):
            fetch(f"http://127.0.0.1:{port}/a", target)
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


class TestWrong:
    def test_a_wrong_hash_is_shown_and_nothing_is_kept(self, server: FlakyServer, target: Path) -> None:
        url = server.add("/a", OTHER)
        with pytest.raises(DownloadError, match=rf"{url} .* SHA-256 is {sha256(OTHER)}, not {sha256(DATA)}"):
            fetch(url, target)
        assert files(target) == set()
        assert len(server.requests) == 1

    @pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"<html>Log in to the hotel's network</html>"])
    def test_a_wrong_size_is_seen_before_the_download(self, server: FlakyServer, target: Path, data: bytes) -> None:
        with pytest.raises(DownloadError, match=rf"/a has {len(data)} bytes, not the expected 300001"):
            fetch(server.add("/a", data), target)
        assert files(target) == set()

    def test_a_page_of_something_else_costs_nothing_of_what_has_arrived(
        self, server: FlakyServer, target: Path
    ) -> None:
        part = part_of(target, DATA[:1000])
        with pytest.raises(DownloadError, match="/a has 5 bytes, not the expected 300001"):
            fetch(server.add("/a", b"Hello", ranges=False), target)
        assert part.read_bytes() == DATA[:1000]

    def test_a_part_of_a_file_with_another_size_is_thrown_away(self, server: FlakyServer, target: Path) -> None:
        part_of(target, DATA[:1000])
        with pytest.raises(DownloadError, match="/a has 300000 bytes, not the expected 300001"):
            fetch(server.add("/a", DATA[:-1]), target)
        assert [wanted for _, wanted, _ in server.requests] == ["bytes=1000-", None]
        assert files(target) == set()

    def test_bytes_beyond_the_size_are_not_written_on_and_on(self, server: FlakyServer, target: Path) -> None:
        with pytest.raises(DownloadError, match="more than the expected 300001 bytes"):
            fetch(server.add("/a", DATA * 9, length=False), target)
        assert files(target) == set()

    def test_a_file_that_got_shorter_is_told_from_a_cut(self, server: FlakyServer, target: Path) -> None:
        part_of(target, DATA[:2000])
        with pytest.raises(DownloadError, match="/a has 1000 bytes, not the expected 300001"):
            fetch(server.add("/a", DATA[:1000]), target)
        assert [wanted for _, wanted, _ in server.requests] == ["bytes=2000-", None]
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
        assert server.requests[1][1] == "bytes=1000-"

    @pytest.mark.parametrize("name", ["../../det.onnx", "/det.onnx", "../det.onnx"])
    def test_paths_in_the_archive_lead_nowhere(self, server: FlakyServer, target: Path, name: str) -> None:
        pack = self.pack(("../evil.onnx", OTHER), ("/evil.onnx", OTHER), (name, DATA))
        self.fetch(server.add("/a", pack), target, pack)
        assert {path.name for path in target.parents[1].rglob("*")} == {"cache", "model.onnx", "model.onnx.lock"}
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

    def test_a_damaged_archive_that_an_earlier_call_left_is_fetched_anew(
        self, server: FlakyServer, target: Path
    ) -> None:
        pack = self.pack(("det.onnx", DATA))
        part_of(target, bytes(len(pack)), ".zip.part")
        self.fetch(server.add("/a", pack), target, pack)
        assert target.read_bytes() == DATA


class TestDisk:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_named_and_not_tried_again(self, server: FlakyServer, target: Path) -> None:
        target.parent.mkdir()
        target.with_name("model.onnx.part").symlink_to("/dev/full")
        with pytest.raises(FaceDetError, match=r"cannot write .*model\.onnx\.part: No space left on device; what has"):
            fetch(server.add("/a", DATA), target)
        assert len(server.requests) == 1
        assert not target.exists()

    def test_a_disk_that_fills_while_unpacking_leaves_no_half_file(
        self, server: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pack = TestZip.pack(("det.onnx", DATA))
        url = server.add("/a", pack)

        def fill(source: io.BufferedIOBase, file: io.BufferedIOBase, _: int) -> None:
            file.write(source.read(1000))
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfileobj", fill)
            with pytest.raises(FaceDetError, match=r"cannot write .*model\.onnx: No space left on device"):
                TestZip.fetch(url, target, pack)
        assert files(target) == {"model.onnx.zip.part"}
        TestZip.fetch(url, target, pack)
        assert target.read_bytes() == DATA
        assert len(server.requests) == 1

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FaceDetError, match=r"cannot write .*file.*: (Not a directory|File exists)"):
            fetch("http://127.0.0.1:9/a", tmp_path / "file" / "model.onnx")

    def test_a_folder_in_the_place_of_the_file_is_named(self, server: FlakyServer, target: Path) -> None:
        target.mkdir(parents=True)
        with pytest.raises(FaceDetError, match=r"cannot write .*model\.onnx: "):
            fetch(server.add("/a", DATA), target)


class TestTwoAtOnce:
    def test_one_process_fetches_and_the_other_waits_for_it(self, server: FlakyServer, target: Path) -> None:
        gate = threading.Event()
        url = server.add("/a", DATA, gate=gate)
        first = start(url, target)
        wait_for(lambda: server.requests)
        second = start(url, target)
        assert second.stderr is not None
        assert second.stderr.readline() == "another process fetches model.onnx; waiting for it\n"
        gate.set()
        assert [first.wait(20), second.wait(20)] == [0, 0]
        assert target.read_bytes() == DATA
        assert files(target) == {"model.onnx"}
        assert len(server.requests) == 1

    def test_threads_share_one_download(self, server: FlakyServer, target: Path) -> None:
        gate = threading.Event()
        url = server.add("/a", DATA, gate=gate)
        threads = [threading.Thread(target=fetch, args=(url, target)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: server.requests)
        gate.set()
        for thread in threads:
            thread.join(20)
        assert target.read_bytes() == DATA
        assert len(server.requests) == 1


def start(url: str, target: Path) -> subprocess.Popen[str]:
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom facedet_mm.cli import guard\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell runs in the background
        "from facedet_mm.zoo.download import download\n"
        "say = lambda message: print(message, file=sys.stderr, flush=True)\n"
        f"what = dict(sha256={sha256(DATA)!r}, size={len(DATA)}, notify=say)\n"
        f"sys.exit(guard(lambda: download({url!r}, Path({str(target)!r}), **what), 'fetch'))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def wait_for(condition: object) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
