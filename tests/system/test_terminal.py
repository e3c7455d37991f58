"""Text on its way to the terminal."""

from __future__ import annotations

import pytest

from facedet_mm.system.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x1b]0;title\x07.mp4", "a\\x1b[2J\\x1b]0;title\\x07.mp4"),
        ("a\rb\x9bc\x7f", "a\\rb\\x9bc\\x7f"),
        ("exe\u202e4pm.txt", "exe\\u202e4pm.txt"),
        ("Größe 人 \n\ttab", "Größe 人 \n\ttab"),
    ],
)
def test_nothing_controls_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
