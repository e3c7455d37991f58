"""The images of a command line: files, folders, patterns, and a list on standard input."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from facedet_mm.errors import ImageError
from facedet_mm.io.images import count_pages, is_image_file

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv")
)


class Input(NamedTuple):
    """An image to process.

    Attributes:
        path: Path of the file, which may not exist.
        name: Name of its results: the path below the given folder, or else the file name.
        page: Page of a file with several pages, from 1; ``None`` for the first page only.
    """

    path: Path
    name: Path
    page: int | None = None

    @property
    def label(self) -> str:
        """Path of the image, with the page if all pages are used."""
        return str(self.path) if self.page is None else f"{self.path}#page={self.page}"


def find_inputs(words: Sequence[str], recursive: bool) -> list[Input]:
    """Returns the images that ``words`` stand for, in their order; those of a folder are sorted.

    A folder contributes the files for which :func:`~facedet_mm.io.images.is_image_file` is true; a file that is named
    is tried whatever its name and kind.

    Args:
        words: Files, folders, patterns (``*``, ``?``, ``[…]``, ``**``), or ``-`` for the lines of standard input.
        recursive: Whether to search subfolders.

    Raises:
        ImageError: A folder has no images, or a pattern matches no file.
    """
    return [found for word in words for found in _expand(word, recursive)]


def with_pages(inputs: Sequence[Input], max_pixels: int | None) -> list[Input]:
    """Returns one input per page for files with several pages, with the page in the name of its results."""
    found: list[Input] = []
    for given in inputs:
        try:
            count = count_pages(given.path, max_pixels=max_pixels)
        except ImageError:  # raised again when the image is read
            count = 1
        if count == 1:
            found.append(given)
        for page in range(1, count + 1) if count > 1 else ():
            found.append(Input(given.path, given.name.with_name(f"{given.name.stem}_p{page}{given.name.suffix}"), page))
    return found


def hint(path: Path) -> str:
    """Returns what to add to an error about an image that looks like an input of ``facedet video``, or nothing."""
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        return f"; for a video: facedet video {path}"
    if str(path).isdecimal() and not path.exists():
        return f"; for a camera: facedet video {path}"
    return ""


def _expand(word: str, recursive: bool) -> Iterator[Input]:
    if word == "-":
        for line in _listed():
            yield from _expand(f"./{line}" if line == "-" else line, recursive)
        return
    if not word:
        raise ImageError("the name of an input is empty")
    if address := _ADDRESS.match(word):  # not printed whole: it may hold a password
        raise ImageError(
            f"{address[1]}://… is an address, and images are files: download it first; "
            "facedet video finds faces in videos and streams"
        )
    path = Path(word)
    # os.path's tests, unlike pathlib's, are false for files that can't be accessed
    if os.path.isdir(word):
        yield from _in_folder(path, recursive)
    elif not os.path.lexists(word) and glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))
        if not matches:
            raise ImageError(f"{word}: no file matches this pattern")
        for match in map(Path, matches):
            yield from _in_folder(match, recursive) if match.is_dir() else [Input(match, Path(match.name))]
    else:
        yield Input(path, Path(path.name))


def _listed() -> list[str]:
    """Returns the names on standard input: one per line, or separated by zero bytes as by ``find -print0``."""
    if sys.stdin is None:
        raise ImageError("there is no standard input to read a list from")
    raw = getattr(sys.stdin, "buffer", None)
    text = sys.stdin.read() if raw is None else os.fsdecode(raw.read())
    return [line for line in (text.split("\0") if "\0" in text else text.splitlines()) if line]


def _in_folder(folder: Path, recursive: bool) -> Iterator[Input]:
    def complain(error: OSError) -> None:
        raise ImageError(f"{error.filename}: cannot be read: {error.strerror or error}") from error

    files, root, seen = list[Path](), Path(os.path.realpath(folder)), set[Path]()
    for place, folders, names in os.walk(folder, onerror=complain, followlinks=True):
        files += [Path(place, name) for name in names]
        folders[:] = [name for name in folders if recursive and _is_new(os.path.join(place, name), root, seen)]
    files.sort()
    images = [path for path in files if is_image_file(path)]
    if not images:
        hint = "" if recursive else "; --recursive also searches its subfolders"
        raise ImageError(f"{folder}: no images in this folder{hint}")
    yield from (Input(path, path.relative_to(folder)) for path in images)


def _is_new(folder: str, root: Path, seen: set[Path]) -> bool:
    """Returns whether a subfolder is not searched under another name, which ends circles of links."""
    real = Path(os.path.realpath(folder))
    known = real in seen or (os.path.islink(folder) and (real.is_relative_to(root) or root.is_relative_to(real)))
    if not known:
        seen.add(real)
    return not known
