"""Coordinates as text: the shortest decimals that give the same float32 back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def short(value: Any) -> int | float:
    """Returns a float32 as the shortest decimal, a whole number where it is one.

    Example:
        >>> short(np.float32(0.1)), short(np.float32(12))
        (0.1, 12)
    """
    number = float(str(np.float32(value)))
    return int(number) if number.is_integer() else number


def widths(box: NDArray[np.float32]) -> tuple[int | float, int | float]:
    """Returns width and height of a box x1 y1 x2 y2 such that corner plus width is the other corner in float32.

    Example:
        >>> widths(np.array([0.1, 2, 0.4, 5], np.float32))
        (0.3, 3)
    """
    x1, y1, x2, y2 = map(short, box)
    return _difference(x2, x1), _difference(y2, y1)


def _difference(end: float, start: float) -> int | float:
    size = round(end - start, 9)
    return int(size) if float(size).is_integer() else size


def text(value: int | float) -> str:
    """Returns a number without an exponent where it is short, as in ``12`` and ``0.5``.

    Example:
        >>> text(12), text(0.00001)
        ('12', '0.00001')
    """
    return str(value) if isinstance(value, int) else np.format_float_positional(value, trim="-")
