"""The format of MAT files, version 5 (MATLAB's ``save -v6`` and ``-v7``), as far as lists of numbers and texts need it.

"MAT-File Format", The MathWorks, chapter 1. Each element is a tag (type and size) and content; a variable is a matrix
element, which may be compressed, and a cell array is a matrix whose content is matrices. SciPy's reader crashes the
process on a file of 500 KB that nests cells 10,000 deep, and reserves whatever memory the dimensions ask for; this one
follows a few levels and reads nothing that is not there.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Container, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
_ORDERS: dict[bytes, Literal["<", ">"]] = {b"IM": "<", b"MI": ">"}
_DEEPEST = 6
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of an element with numbers → its NumPy type."""
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""Type of an element with text → its encoding."""
_CELL, _CHAR = 1, 4
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Class of a matrix of numbers → its NumPy type."""
_COMPLEX = 0x800

Array = NDArray[Any]
_EMPTY: Array = np.zeros((0, 0))


def read_variables(data: bytes, wanted: Container[str], most: int) -> dict[str, Array]:
    """Returns variables of a MAT file: arrays of numbers, object arrays for cells, and a ``str`` for each text.

    Args:
        data: Content of the file.
        wanted: Names of the variables.
        most: Largest number of bytes of the unpacked content.

    Raises:
        ValueError: The data are not a MAT file of version 5, are damaged, or have a variable of another kind.
    """
    order = _ORDERS.get(data[126:128])
    if order is None or 0 in data[:4]:
        raise ValueError("it is no MAT file of version 5 to 7 (MATLAB's save -v7)")
    reader = _Reader(order)
    found = {}
    for kind, content in reader.elements(memoryview(data)[_HEADER:], padded=False):
        if kind == _COMPRESSED:
            unpacked = _inflate(content, most)
            most -= len(unpacked)
            kind, content = next(reader.elements(memoryview(unpacked), padded=False), (0, content[:0]))
        if kind == _MATRIX:
            name, value = reader.matrix(content, wanted)
            if value is not None:
                found[name] = value
    return found


class _Reader:
    """Reads elements with the byte order of a file."""

    def __init__(self, order: Literal["<", ">"]) -> None:
        self._order = order
        self._tag = struct.Struct(f"{order}II")

    def elements(self, data: memoryview, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
        """Yields type and content of each element; small ones share the eight bytes of their tag."""
        at = 0
        while at < len(data):
            if at + 8 > len(data):
                raise ValueError("it is cut short")
            kind, size = self._tag.unpack_from(data, at)
            if kind >> 16:
                kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
                fits = size <= 4
            else:
                start, end = at + 8, at + 8 + size
                fits = end <= len(data)
            if not fits:
                raise ValueError("it is cut short")
            yield kind, data[start : start + size]
            at = end + (-end % 8 if padded else 0)

    def matrix(
        self, content: memoryview, wanted: Container[str] | None = None, depth: int = 0
    ) -> tuple[str, Array | None]:
        """Returns name and value of a matrix element; the value is ``None`` for a name that is not wanted."""
        if not content:
            return "", _EMPTY if wanted is None else None
        parts = self.elements(content)
        flags = self._numbers(next(parts, None), _UINT32)
        shape = self._numbers(next(parts, None), _INT32).tolist()
        name = bytes(_expect(next(parts, None), 1)).decode("ascii", "replace")
        if wanted is not None and name not in wanted:
            return name, None
        if len(flags) != 2 or not 2 <= len(shape) <= 8 or min(shape) < 0:
            raise ValueError("a variable has no proper size")
        kind, count = int(flags[0]) & 0xFF, math.prod(shape)
        if kind == _CELL:
            value = self._cell(parts, depth + 1)
        elif kind == _CHAR:
            return name, self._text(next(parts, None), shape)
        elif kind in _CLASSES and not flags[0] & _COMPLEX:
            value = self._numbers(next(parts, None)).astype(_CLASSES[kind])
        else:
            raise ValueError("it holds something else than cells, texts and real numbers")
        if len(value) != count:
            raise ValueError(f"a variable has {len(value)} values, not {count}")
        return name, value.reshape(shape, order="F")

    def _cell(self, parts: Iterator[tuple[int, memoryview]], depth: int) -> Array:
        if depth > _DEEPEST:
            raise ValueError(f"its cells are nested more than {_DEEPEST} deep")
        items = [self.matrix(_expect(part, _MATRIX), depth=depth)[1] for part in parts]
        value = np.empty(len(items), object)
        for i, item in enumerate(items):
            value[i] = item
        return value

    def _numbers(self, part: tuple[int, memoryview] | None, wanted: int | None = None) -> Array:
        kind, content = part if part is not None else (0, memoryview(b""))
        if kind not in _STORED or wanted not in (None, kind):
            raise ValueError("a variable is cut short or of another kind")
        return np.frombuffer(content, np.dtype(_STORED[kind]).newbyteorder(self._order))

    def _text(self, part: tuple[int, memoryview] | None, shape: list[int]) -> Array:
        kind, content = part if part is not None else (0, memoryview(b""))
        if kind not in _TEXTS or len(shape) != 2 or shape[0] > 1:
            raise ValueError("a text is cut short or has several lines")
        suffix = {"<": "-le", ">": "-be"}[self._order] if _TEXTS[kind] in ("utf-16", "utf-32") else ""
        return np.array(bytes(content).decode(_TEXTS[kind] + suffix), object)


def _expect(part: tuple[int, memoryview] | None, kind: int) -> memoryview:
    if part is None or part[0] != kind:
        raise ValueError("a variable is cut short or of another kind")
    return part[1]


def _inflate(packed: memoryview, most: int) -> bytes:
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(packed, max(most, 0) + 1)
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error
    if len(data) > most:
        raise ValueError("it unpacks to far more than any ground truth has")
    if not unpack.eof:
        raise ValueError("it is cut short")
    return data
