"""Which pictures a command line means: files, folders, patterns, and a list on standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from facedet_mm.errors import ImageError

SUFFIXES = frozenset(
    f".{ending}"
    for ending in "avif bmp dib gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp".split()  # noqa: SIM905
)
"""What counts as a picture in a folder; a file that is named is tried whatever its name."""


class Input(NamedTuple):
    """A picture to work on.

    Attributes:
        path: the file; it may turn out not to exist.
        name: what its results are called: the path below the folder that was given, else the file's name.
    """

    path: Path
    name: Path


def find_inputs(words: Sequence[str], recursive: bool) -> list[Input]:
    """The pictures that ``words`` mean, in their order; those of a folder sorted.

    Args:
        words: files, folders, patterns (``*``, ``?``, ``[…]``, ``**``), or ``-``: lines of standard input.
        recursive: whether to look into the folders of a folder.

    Raises:
        ImageError: a folder without pictures, or a pattern that nothing fits.
    """
    return [found for word in words for found in _meant(word, recursive)]


def _meant(word: str, recursive: bool) -> Iterator[Input]:
    if word == "-":
        lines = (line.rstrip("\r\n") for line in sys.stdin)
        yield from (
            found for line in lines if line for found in _meant(f"./{line}" if line == "-" else line, recursive)
        )
    elif (path := Path(word)).is_dir():
        yield from _in_folder(path, recursive)
    elif not path.exists() and glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))
        if not matches:
            raise ImageError(f"{word}: no file fits this pattern")
        yield from (Input(Path(match), Path(Path(match).name)) for match in matches if not Path(match).is_dir())
    else:
        yield Input(path, Path(path.name))


def _in_folder(folder: Path, recursive: bool) -> Iterator[Input]:
    try:
        files = sorted(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read: {error.strerror or error}") from error
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not pictures:
        hint = "" if recursive else "; --recursive also looks into its folders"
        raise ImageError(f"{folder}: no pictures in this folder{hint}")
    yield from (Input(path, path.relative_to(folder)) for path in pictures)
