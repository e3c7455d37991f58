"""Text from files, file names and servers: shown safely in one line, and read strictly as numbers."""

from __future__ import annotations

import math
import re

__all__ = ["FLOAT32_MAX", "are_plain_numbers", "has_control_characters", "one_line", "parse_number", "parse_whole"]

FLOAT32_MAX = 3.4028234663852886e38
"""Largest finite float32; a number beyond it is infinite in float32 arrays."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, marks that change the direction of writing, and bytes that are not UTF-8."""
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NUMBERS_AND_BLANKS = b"0123456789+-.eE \t\r\n\v\f"


def one_line(text: object) -> str:
    r"""Returns text for one line of a terminal: control characters and escapes become visible.

    Text of strangers (file names, server replies, values of a file) could otherwise move the cursor, rename the
    window, hide what was printed or add lines.

    Example:
        >>> print(one_line("a\nb \x1b[31mred.jpg"))
        a\nb \x1b[31mred.jpg
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def has_control_characters(text: str) -> bool:
    r"""Returns whether text contains a line break, an escape or another control character.

    Example:
        >>> has_control_characters("party/1.jpg"), has_control_characters("party/1\n.jpg")
        (False, True)
    """
    return _BREAKING.search(text) is not None


def parse_number(field: str) -> float:
    """Returns the value of a plain decimal number, with or without an exponent.

    Raises:
        ValueError: The field is something else that Python would take for a number (``1_000``, ``nan``, ``inf``,
            digits of other scripts), or is beyond the range of float32.

    Example:
        >>> parse_number("-1.5e2")
        -150.0
    """
    if not _NUMBER.fullmatch(field):
        raise ValueError(f"{field[:40]!r} is not a {_wanted(field)}")
    value = float(field)
    if abs(value) > FLOAT32_MAX:
        raise ValueError(f"{field[:40]!r} is not a finite number in float32")
    return value


def parse_whole(field: str, lowest: int, highest: int) -> int:
    """Returns the value of a whole number, which may be written like ``3``, ``3.0`` or ``3e0``.

    Args:
        field: Text of the number.
        lowest: Smallest allowed value.
        highest: Largest allowed value.

    Raises:
        ValueError: The field is not a plain decimal number, not whole, or outside the limits.

    Example:
        >>> parse_whole("12", 0, 99)
        12
    """
    value = int(field) if _WHOLE.fullmatch(field) else parse_number(field)
    if value != math.floor(value) or not lowest <= value <= highest:
        raise ValueError(f"{field[:40]!r} is not a whole number from {lowest:,} to {highest:,}")
    return int(value)


def are_plain_numbers(text: bytes) -> bool:
    """Returns whether text has only the characters of plain decimal numbers, blanks and line ends.

    Whatever ``float`` accepts among such text is a plain decimal number. This is the fast check of a whole file.

    Example:
        >>> are_plain_numbers(b"1.5 2e3"), are_plain_numbers(b"1_0 nan")
        (True, False)
    """
    return not text.translate(None, _NUMBERS_AND_BLANKS)


def _wanted(field: str) -> str:
    try:
        value = float(field)
    except ValueError:
        return "number"
    return "plain decimal number" if math.isfinite(value) else "finite number"
