"""Reads files of strangers, whose size is not known, into a bounded amount of memory."""

from __future__ import annotations

import os
from typing import Any

from facedet_mm.errors import AnnotationError

__all__ = ["MB", "read_whole_file"]

MB = 1 << 20
_PIECE = 1 << 16


def read_whole_file(path: str | os.PathLike[str], most: int, kind: str) -> bytes:
    """Returns the content of a file that is not larger than expected of its kind.

    Args:
        path: File, device or pipe; a device without an end is not read any further than ``most``.
        most: Largest number of bytes.
        kind: What the file should be, used in error messages.

    Raises:
        AnnotationError: The file can't be read or is larger.

    Example:
        >>> read_whole_file(os.devnull, 9, "log")
        b''
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(min(_PIECE, most + 1))
            if len(data) == _PIECE:  # asking for all at once would reserve as much for the smallest file
                data += stream.read(most + 1 - _PIECE)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise AnnotationError(f"cannot read {os.fspath(path)} as {kind}: {reason}") from error
    if len(data) > most:
        raise AnnotationError(f"{os.fspath(path)} is larger than {most / MB:,.0f} MB, so it is not {kind}")
    return data


def read_text_file(path: str | os.PathLike[str], most: int, kind: str) -> str:
    """Returns the UTF-8 text of a file, without a byte order mark and with line ends as they are.

    Raises:
        AnnotationError: The file can't be read, is larger than ``most`` bytes, or is not UTF-8.
    """
    data = read_whole_file(path, most, kind)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AnnotationError(
            f"{os.fspath(path)} is not a text file in UTF-8 (line {line}), so it is not {kind}"
        ) from error


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object from its entries, as the ``object_pairs_hook`` of :func:`json.loads`.

    Raises:
        ValueError: A name comes twice; ``json`` itself would keep the last one without a word.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name comes twice")
    return content
