"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from facedet_mm.errors import FaceDetError
from facedet_mm.system import files
from facedet_mm.system.files import atomic_path, write_bytes, write_text


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "faces.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise error

    with pytest.raises(error):
        write()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_named_by_the_file_that_was_wanted(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "faces.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(FaceDetError, match=rf"cannot write {tmp_path}/faces.txt: No space left on device"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_beside_the_other_and_has_its_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "video.mp4") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path / "new", ".mp4")


@pytest.mark.skipif(os.name == "nt", reason="needs the permissions of POSIX")
def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="needs the permissions of POSIX")
def test_the_umask_is_never_set_not_even_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread would create files that everyone may write."""
    monkeypatch.setattr(os, "umask", None)
    write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_link_in_a_shared_folder_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for target in ("mine", "nowhere", "/dev/null"):
        link = tmp_path / f"link to {Path(target).name}"
        link.symlink_to(target)
        write_bytes(link, b"new", follow_link=False)
        assert not link.is_symlink()
        assert link.read_bytes() == b"new"
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_temporary_file_that_someone_planted_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text("mine")
    names = iter("01")
    monkeypatch.setattr("secrets.token_hex", lambda _: next(names))
    (tmp_path / ".facedet-0.txt").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "a.txt", "a")
    assert next(names, None) is None  # the planted name was tried
    assert (tmp_path / "a.txt").read_text() == "a"
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real.bin")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.bin").read_bytes() == b"new"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev/null")
def test_a_device_is_written_to_and_not_replaced() -> None:
    write_bytes("/dev/null", b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_names_that_are_no_unicode_come_back_as_their_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "names.txt", os.fsdecode(b"caf\xe9 \xc3\xa9"))
    assert (tmp_path / "names.txt").read_bytes() == b"caf\xe9 \xc3\xa9"


KILLED = """
import os, signal, sys
from facedet_mm.system.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.txt")], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    write_text(tmp_path / "b.txt", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of POSIX")
def test_the_temporary_file_of_a_running_process_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
        monkeypatch.setattr(files, "_swept", set())
        code = "import sys; from facedet_mm.system.files import write_text; write_text(sys.argv[1], 'b')"
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "b.txt")], check=True, timeout=60)
        write_text(tmp_path / "c.txt", "c")
        assert temporary.read_text() == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "c.txt"]


def test_a_name_that_is_too_long_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FaceDetError, match="File name too long"), atomic_path(tmp_path / ("n" * 300)):
        pytest.fail("the block began")


def test_a_name_of_the_largest_length_and_a_long_suffix_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 251 + ".txt", "n." + "x" * 253):
        write_text(tmp_path / name, "a")
        assert (tmp_path / name).read_text() == "a"


@pytest.mark.skipif(sys.platform == "win32", reason="needs names of open streams")
@pytest.mark.parametrize("opened", ["file", "pipe"])
def test_an_open_stream_is_added_to(tmp_path: Path, opened: str) -> None:
    if opened == "pipe":
        reader, writer = os.pipe()
    else:
        (tmp_path / "log").write_bytes(b"before ")
        reader, writer = os.open(tmp_path / "log", os.O_RDONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND)
    write_text(f"/dev/fd/{writer}", "faces")
    assert os.read(reader, 99) == (b"faces" if opened == "pipe" else b"before faces")
    os.close(reader)
    os.close(writer)
    with pytest.raises(FaceDetError, match=f"cannot write /dev/fd/{writer}: the stream is not open"):
        write_text(f"/dev/fd/{writer}", "faces")


@pytest.mark.skipif(os.name == "nt", reason="needs the permissions of POSIX")
def test_the_umask_of_the_process_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(_: int) -> int:
        raise AssertionError("another thread would make a file that all can write")

    monkeypatch.setattr(os, "umask", changed)
    write_text(tmp_path / "a.txt", "a")
