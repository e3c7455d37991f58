"""Checks and unpacks a downloaded WIDER FACE folder."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from facedet_mm.datasets.annotations import read_annotations
from facedet_mm.datasets.wider_parts import PARTS, Part
from facedet_mm.errors import FaceDetError


@dataclass(frozen=True)
class Finding:
    """State of a part.

    Attributes:
        part: The part.
        complete: Whether nothing is missing.
        text: The state in words.
    """

    part: Part
    complete: bool
    text: str


def prepare(
    root: str | os.PathLike[str], downloads: str | os.PathLike[str] | None = None, unpack: bool = True
) -> Iterator[Finding]:
    """Checks the parts of the data set below ``root`` and unpacks those whose archive is there.

    Args:
        root: Folder of the data set, ``data/wider_face``.
        downloads: Folder of the archives; ``None`` means ``root`` itself.
        unpack: Whether to unpack; otherwise the parts are only checked.

    Yields:
        The state of each part as soon as it is known, in the order of
        :data:`~facedet_mm.datasets.wider_parts.PARTS`.

    Raises:
        FaceDetError: A folder is missing, an archive is damaged or has unsafe names, or the disk is full.
    """
    root = Path(root)
    downloads = root if downloads is None else Path(downloads)
    for folder in (root, downloads):
        if not folder.is_dir():
            raise FaceDetError(f"{folder} is not a folder; make it and put the downloaded archives there")
    for part in PARTS:
        finding = check(part, root)
        archive = _find_archive(part, downloads)
        if unpack and archive and not finding.complete:
            unpack_part(part, archive, root)
            finding = check(part, root)
        yield finding


def check(part: Part, root: Path) -> Finding:
    """Returns whether a part is complete, and what is missing."""
    folder = root / part.folder
    if part.count:
        expected = _listed_images(part, root)
        wanted = len(expected) or part.count
        unit = "images"
    else:
        expected, wanted, unit = set(part.files), len(part.files), "files"
    present = _files(folder)
    whole = {name for name, size in present.items() if size}
    found = len(whole & expected) if expected else len(whole)
    events = len({name.split("/")[0] for name in whole}) if part.count else 0
    what = f"{found:,} {unit}" + (f" of {events} events" if events else "")
    if found >= wanted:
        return Finding(part, True, f"{what} in {folder}")
    if not present:
        return Finding(part, False, f"missing: get {part.source}")
    missing = sorted(expected - whole)
    names = f", first {missing[0]}" if missing else ""
    empty = f" ({len(present) - len(whole)} empty)" if len(whole) < len(present) else ""
    return Finding(part, False, f"only {what} of {wanted:,} in {folder}{empty}{names}: get {part.source}")


def _listed_images(part: Part, root: Path) -> set[str]:
    path = root / part.annotations
    return {annotation.name for annotation in read_annotations(path)} if path.is_file() else set()


def _files(folder: Path) -> dict[str, int]:
    """Returns the files below ``folder``, at most one folder deep, with their sizes in bytes."""
    files: dict[str, int] = {}
    for directory in (folder, *(path for path in folder.glob("*") if path.is_dir())):
        if directory.is_dir():
            for entry in os.scandir(directory):
                if entry.is_file():
                    files[Path(entry.path).relative_to(folder).as_posix()] = entry.stat().st_size
    return files


def _find_archive(part: Part, downloads: Path) -> Path | None:
    return next((path for pattern in part.archives for path in sorted(downloads.glob(pattern))), None)


def unpack_part(part: Part, archive: Path, root: Path) -> None:
    """Unpacks the wanted members of an archive; they appear only when all of them are unpacked and checked.

    Raises:
        FaceDetError: The archive is damaged, has unsafe names or no wanted members, or the disk is full.
    """
    temporary = root / f".unpacking-{part.folder.replace('/', '-')}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _wanted_members(part, archive, opened)
            _require_space(archive, root, sum(info.file_size for info, _ in members))
            for info, name in tqdm(members, desc=archive.name, unit="file", disable=None):
                target = temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
        _move_into(temporary, root / part.folder, [name for _, name in members])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FaceDetError(
            f"{archive} is not an intact ZIP archive ({error}); download it again from {part.source}"
        ) from error
    except OSError as error:
        raise FaceDetError(f"cannot unpack {archive} into {root / part.folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _wanted_members(part: Part, archive: Path, opened: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, str]]:
    wanted = []
    for info in opened.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts:
            raise FaceDetError(f"{archive} is unsafe: its member {info.filename!r} points outside of it")
        match = re.fullmatch(part.member, info.filename)
        if match and not info.is_dir() and "__MACOSX" not in path.parts:
            wanted.append((info, match[1]))
    if not wanted:
        raise FaceDetError(f"{archive} has none of the {part.title}; is it another archive with the same name?")
    return wanted


def _require_space(archive: Path, root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise FaceDetError(
            f"not enough space to unpack {archive}: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free in {root}"
        )


def _move_into(temporary: Path, folder: Path, names: Iterable[str]) -> None:
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(folder)
        return
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).replace(folder / name)
