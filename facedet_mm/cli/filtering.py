"""What is printed about faces that were left out by ``--min-size`` and the like."""

from __future__ import annotations

from collections.abc import Mapping


def left_out_line(left_out: Mapping[str, int], anonymized: bool = False) -> str:
    """Returns how many faces each option left out.

    Args:
        left_out: Name of the setting → number of faces.
        anonymized: Whether the other faces are made unrecognizable.

    Example:
        >>> left_out_line({"min_size": 3, "max_yaw": 1})
        '3 faces left out by --min-size, 1 by --max-yaw'
    """
    counts = [(number, f"by --{name.replace('_', '-')}") for name, number in left_out.items()]
    (number, first), *others = counts
    line = ", ".join(
        [f"{number} face{'' if number == 1 else 's'} left out {first}", *(f"{n} {by}" for n, by in others)]
    )
    return f"{line}; they are not made unrecognizable" if anonymized else line
