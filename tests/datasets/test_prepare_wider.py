"""Checking and unpacking a downloaded WIDER FACE folder."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from facedet_mm.datasets import prepare as module
from facedet_mm.datasets.prepare import prepare
from facedet_mm.errors import FaceDetError

NAMES = {"train": ["0--Parade/a.jpg", "1--Party/b c.jpg"], "val": ["0--Parade/v.jpg"]}


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def annotations(split: str) -> bytes:
    return "".join(f"{name}\n1\n1 2 3 4 0 0 0 0 0 0\n" for name in NAMES[split]).encode()


def images(split: str) -> dict[str, bytes]:
    return {f"WIDER_{split}/images/{name}": name.encode() * 1000 for name in NAMES[split]}


@pytest.fixture
def root(tmp_path):
    """A folder with all archives, small, in the layout of the official ones."""
    split = {f"wider_face_split/wider_face_{name}_bbx_gt.txt": annotations(name) for name in NAMES}
    mats = {f"eval_tools/ground_truth/wider_{name}_val.mat": b"mat" for name in ("face", "easy", "medium", "hard")}
    write_zip(
        tmp_path / "wider_face_split.zip", {"wider_face_split/": b"", **split, "wider_face_split/readme.txt": b"r"}
    )
    write_zip(tmp_path / "WIDER_train.zip", {"WIDER_train/images/0--Parade/": b"", **images("train")})
    write_zip(tmp_path / "WIDER_val.zip", images("val"))
    write_zip(
        tmp_path / "eval_tools.zip", {**mats, "eval_tools/plot.m": b"m", "__MACOSX/ground_truth/wider_x_val.mat": b""}
    )
    write_zip(
        tmp_path / "retinaface_gt_v1.1.zip", {f"{name}/label.txt": b"# x.jpg\n" for name in ("train", "val", "test")}
    )
    return tmp_path


def states(root: Path, **arguments) -> dict[str, bool]:
    return {finding.part.folder: finding.complete for finding in prepare(root, **arguments)}


def test_all_archives_unpack_into_the_documented_layout(root):
    assert all(states(root).values())
    assert (root / "WIDER_train/images/1--Party/b c.jpg").read_bytes() == b"1--Party/b c.jpg" * 1000
    assert (root / "WIDER_val/images/0--Parade/v.jpg").is_file()
    assert (root / "wider_face_split/wider_face_train_bbx_gt.txt").read_bytes() == annotations("train")
    assert sorted(path.name for path in (root / "ground_truth").iterdir()) == sorted(
        f"wider_{name}_val.mat" for name in ("face", "easy", "medium", "hard")
    )
    assert (root / "retinaface_gt/train/label.txt").is_file()
    assert not list(root.glob(".unpacking*"))


def test_a_second_run_finds_everything_and_unpacks_nothing(root, monkeypatch):
    list(prepare(root))
    monkeypatch.setattr(module, "unpack_part", lambda *_: pytest.fail("unpacked again"))
    assert all(states(root).values())


def test_archives_may_lie_elsewhere(root, tmp_path_factory):
    target = tmp_path_factory.mktemp("data")
    assert all(states(target, downloads=root).values())


def test_checking_alone_unpacks_nothing(root):
    assert not any(states(root, unpack=False).values())
    assert not (root / "WIDER_train").exists()


def test_what_is_missing_is_said_with_its_source(root):
    (root / "WIDER_val.zip").unlink()
    finding = {f.part.folder: f for f in prepare(root)}["WIDER_val/images"]
    assert not finding.complete
    assert finding.text.startswith("missing: get https://")
    assert "WIDER_val.zip" in finding.text


def test_a_missing_image_is_named_and_counted(root):
    list(prepare(root))
    (root / "WIDER_train.zip").unlink()
    (root / "WIDER_train/images/0--Parade/a.jpg").unlink()
    text = {f.part.folder: f.text for f in prepare(root)}["WIDER_train/images"]
    assert "only 1 images of 1 events of 2" in text
    assert "first 0--Parade/a.jpg" in text


def test_an_empty_image_counts_as_missing_and_is_unpacked_again(root):
    list(prepare(root))
    path = root / "WIDER_train/images/0--Parade/a.jpg"
    path.write_bytes(b"")
    assert (
        "(1 empty), first 0--Parade/a.jpg"
        in {f.part.folder: f.text for f in prepare(root, unpack=False)}["WIDER_train/images"]
    )
    assert all(states(root).values())
    assert path.stat().st_size > 0


def test_unpacking_over_a_part_keeps_what_else_lies_there(root):
    mine = root / "WIDER_train/images/mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert states(root)["WIDER_train/images"]
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["../evil.jpg", "WIDER_val/images/../../../evil.jpg", "/tmp/evil.jpg"])
def test_an_archive_that_points_outside_is_refused(root, name):
    write_zip(root / "WIDER_val.zip", {**images("val"), name: b"evil"})
    with pytest.raises(FaceDetError, match="unsafe"):
        list(prepare(root))
    assert not (root / "WIDER_val").exists()
    assert not list(root.parent.rglob("evil.jpg"))


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><title>Quota exceeded</title>")


@pytest.mark.parametrize("harm", [damage_middle, cut, web_page])
def test_a_damaged_archive_is_named_and_leaves_nothing_behind(root, harm):
    harm(root / "WIDER_train.zip")
    with pytest.raises(FaceDetError, match=r"WIDER_train\.zip is not an intact ZIP archive.*download it again"):
        list(prepare(root))
    assert not (root / "WIDER_train").exists()
    assert not list(root.glob(".unpacking*"))


def test_an_archive_of_something_else_is_refused(root):
    write_zip(root / "WIDER_val.zip", {"holiday/photo.jpg": b"x"})
    with pytest.raises(FaceDetError, match="has none of the validation images"):
        list(prepare(root))


def test_too_little_space_is_noticed_before_unpacking(root, monkeypatch):
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(FaceDetError, match="not enough space"):
        list(prepare(root))
    assert not (root / "wider_face_split").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_interruption_while_unpacking_leaves_nothing_behind(root, monkeypatch, error):
    copy, calls = shutil.copyfileobj, []

    def fail_at_the_second_file(*args):
        calls.append(args)
        if len(calls) == 2:
            raise error
        copy(*args)

    monkeypatch.setattr(module.shutil, "copyfileobj", fail_at_the_second_file)
    expected = FaceDetError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if isinstance(error, OSError) else None):
        list(prepare(root))
    assert not (root / "wider_face_split").exists()
    assert not list(root.glob(".unpacking*"))


def test_leftovers_of_a_killed_run_are_removed(root):
    leftover = root / ".unpacking-WIDER_val-images/0--Parade/half.jpg"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    assert all(states(root).values())
    assert not leftover.exists()
    assert not (root / "WIDER_val/images/0--Parade/half.jpg").exists()


def run_tool(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(project / "tools/dataset/prepare_wider.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_tool_reports_each_part_and_its_status_says_whether_all_is_there(root, tmp_path_factory):
    project = Path(__file__).resolve().parents[2]
    done = run_tool(project, str(root))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok  ") == 5
    assert "training images: 2 images of 2 events" in done.stdout

    (root / "retinaface_gt_v1.1.zip").unlink()
    shutil.rmtree(root / "retinaface_gt")
    done = run_tool(project, str(root))
    assert (done.returncode, done.stdout.count("optional")) == (0, 1)

    done = run_tool(project, str(tmp_path_factory.mktemp("empty")))
    assert (done.returncode, done.stdout.count("MISSING")) == (1, 4)

    done = run_tool(project, str(root / "nowhere"))
    assert done.returncode == 1
    assert "nowhere is not a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_real_subset_is_recognized_as_incomplete(data):
    findings = {finding.part.folder: finding for finding in prepare(data / "wider", unpack=False)}
    assert findings["ground_truth"].complete
    assert "only 860 images of 5 events of 12,880" in findings["WIDER_train/images"].text
    assert "only 404 images of 61 events of 3,226" in findings["WIDER_val/images"].text
