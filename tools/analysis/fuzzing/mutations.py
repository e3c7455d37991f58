"""Seeded mutations of bytes and of text."""

from __future__ import annotations

from numpy.random import Generator

NUMBERS = (
    "0", "-1", "1e400", "3.5e38", "-1e308", "nan", "inf", "-inf", "1_0", "99999999999999999999", "0x10", "", "1.9", "٣",
    "1e-400", "+5", "--5", "5.", ".5", "true", "null", "[1]",
)  # fmt: skip
"""What a number in a text is replaced by."""


def mutate_bytes(data: bytes, rng: Generator) -> bytes:
    """Returns ``data`` with one to four random changes: flips, cuts, gaps, repeats, zeros."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not changed:
            break
        start = int(rng.integers(len(changed)))
        length = int(min(len(changed) - start, rng.integers(1, 64)))
        match int(rng.integers(7)):
            case 0:
                changed[start] ^= 1 << int(rng.integers(8))
            case 1:
                changed[start : start + length] = rng.integers(0, 256, length, "uint8").tobytes()
            case 2:
                del changed[start : start + length]
            case 3:
                changed[start:start] = changed[start : start + length]
            case 4:
                changed[start : start + length] = bytes(length)
            case 5:
                changed[start : start + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01"])
            case 6:
                del changed[max(1, start) :]
    return bytes(changed)


def mutate_text(text: str, rng: Generator) -> bytes:
    """Returns ``text`` with one to three changes of tokens or lines, or of bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(text.encode(), rng)
    lines = [line.split(" ") for line in text.splitlines()]
    for _ in range(int(rng.integers(1, 4))):
        lines = [line or [""] for line in lines] or [[""]]
        row = int(rng.integers(len(lines)))
        column = int(rng.integers(len(lines[row])))
        match int(rng.integers(6)):
            case 0 | 1:
                lines[row][column] = str(rng.choice(NUMBERS))
            case 2:
                del lines[row][column:]
            case 3:
                lines[row].append(str(rng.choice(NUMBERS)))
            case 4:
                lines.insert(row, lines[int(rng.integers(len(lines)))])
            case 5:
                del lines[row]
    return "\n".join(" ".join(line) for line in lines).encode() + (b"\n" if rng.random() < 0.8 else b"")
