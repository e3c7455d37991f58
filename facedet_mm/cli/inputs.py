"""Which images a command line means: files, folders, patterns, and a list on standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from facedet_mm.errors import ImageError

SUFFIXES = frozenset(
    f".{ending}"
    for ending in "avif bmp dib gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp".split()  # noqa: SIM905
)
"""What counts as an image in a folder; a file that is named is tried whatever its name."""


class Input(NamedTuple):
    """An image to work on.

    Attributes:
        path: the file; it may turn out not to exist.
        name: what its results are called: the path below the folder that was given, else the file's name.
    """

    path: Path
    name: Path


def find_inputs(words: Sequence[str], recursive: bool) -> list[Input]:
    """The images that ``words`` mean, in their order; those of a folder sorted.

    Args:
        words: files, folders, patterns (``*``, ``?``, ``[…]``, ``**``), or ``-``: lines of standard input.
        recursive: whether to look into the folders of a folder.

    Raises:
        ImageError: a folder without images, or a pattern that nothing fits.
    """
    return [found for word in words for found in _meant(word, recursive)]


def _meant(word: str, recursive: bool) -> Iterator[Input]:
    if word == "-":
        for line in _listed():
            yield from _meant(f"./{line}" if line == "-" else line, recursive)
        return
    if not word:
        raise ImageError("an input's name is empty")
    path = Path(word)
    # os.path's tests, unlike pathlib's, are false for what can't be looked at
    if os.path.isdir(word):
        yield from _in_folder(path, recursive)
    elif not os.path.lexists(word) and glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))
        if not matches:
            raise ImageError(f"{word}: no file fits this pattern")
        for match in map(Path, matches):
            yield from _in_folder(match, recursive) if match.is_dir() else [Input(match, Path(match.name))]
    else:
        yield Input(path, Path(path.name))


def _listed() -> list[str]:
    """The names on standard input, a line each, or ended by zeros as ``find -print0`` gives them."""
    if sys.stdin is None:
        raise ImageError("there is no standard input to read a list from")
    raw = getattr(sys.stdin, "buffer", None)
    text = sys.stdin.read() if raw is None else os.fsdecode(raw.read())
    return [line for line in (text.split("\0") if "\0" in text else text.splitlines()) if line]


def _in_folder(folder: Path, recursive: bool) -> Iterator[Input]:
    def complain(error: OSError) -> None:
        raise ImageError(f"{error.filename}: cannot be read: {error.strerror or error}") from error

    files = list[Path]()
    for place, folders, names in os.walk(folder, onerror=complain):
        files += [Path(place, name) for name in names]
        if not recursive:
            folders.clear()
    files.sort()
    images = [path for path in files if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not images:
        hint = "" if recursive else "; --recursive also looks into its folders"
        raise ImageError(f"{folder}: no images in this folder{hint}")
    yield from (Input(path, path.relative_to(folder)) for path in images)
