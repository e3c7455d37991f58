"""Damaged copies of a valid file, the same for the same seed: bytes and words are changed, doubled, moved and cut."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

NUMBERS = "nan inf -inf NaN Infinity 1e400 -1e400 3.5e38 1.8e308 1e-400 1_0 0x1p3 -1 -0 0 1 2 1.9 5. .5 +7"
TEXTS = "１ ２ 1\u00a02 é \u2028 \x1b[31m \x00 \x85 ../x /x.jpg a/b.jpg # true null [] {} [[[]]] \"\" 'x' ,"
WORDS = (
    *(word.encode() for text in (NUMBERS, TEXTS) for word in text.split(" ")),
    *(b"9" * 20, b"9" * 400, b"9" * 5000, b"1" + b"0" * 400, b"[" * 3000, b"x" * 3000),
    *(b"", b" ", b"\n", b"\r", b"\xff\xfe"),
)
"""What takes the place of a word."""


def damaged(valid: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yields ``count`` files that differ from a valid one in one to three places."""
    rng = random.Random(seed)
    for _ in range(count):
        data = valid
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = _change(rng, data)
        yield data


def _change(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 8, 64)))
    kind = rng.choice(("word", "word", "word", "byte", "cut", "remove", "double", "line"))
    if kind == "word":
        words = list(re.finditer(rb"[^\s,:{}\[\]\"]+", data))
        if words:
            word = rng.choice(words)
            return data[: word.start()] + rng.choice(WORDS) + data[word.end() :]
    if kind == "byte":
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "remove":
        return data[:at] + data[end:]
    if kind == "double":
        return data[:end] + data[at:end] + data[end:]
    lines = data.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a] + lines[b] if rng.random() < 0.3 else lines[a]
    return b"\n".join(lines)
