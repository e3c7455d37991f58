"""Small pieces of HTML. All texts that they take are plain; only what is called ``html`` is put in as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["grid", "note", "run_class", "section", "swatch", "table", "warning"]

COLORS = 6
"""Runs that have a color of their own in the style sheet; the next ones have another dash pattern."""
_DASHES = 4


def run_class(run: int) -> str:
    """The classes that give a run its color and dash pattern, the same everywhere.

    Example:
        >>> run_class(1), run_class(7)
        ('run1 dash0', 'run1 dash1')
    """
    return f"run{run % COLORS} dash{run // COLORS % _DASHES}"


def swatch(run: int) -> str:
    """A short line in the color of a run.

    Example:
        >>> swatch(1)[:20]
        '<svg class="swatch" '
    """
    line = f'<path class="line {run_class(run)}" d="M0 5H34"/>'
    return f'<svg class="swatch" viewBox="0 0 34 10" aria-hidden="true">{line}</svg>'


def section(title: str, *html: str) -> str:
    """A part of the page with a heading.

    Example:
        >>> section("Speed", note("none"))
        '<section><h2>Speed</h2><p class="note">none</p></section>\\n'
    """
    return f"<section><h2>{escape(title)}</h2>{''.join(html)}</section>\n"


def note(text: str) -> str:
    """A paragraph that explains.

    Example:
        >>> note("a < b")
        '<p class="note">a &lt; b</p>'
    """
    return f'<p class="note">{escape(text)}</p>'


def warning(text: str) -> str:
    """A paragraph that stands out.

    Example:
        >>> warning("a < b")
        '<p class="warning">a &lt; b</p>'
    """
    return f'<p class="warning">{escape(text)}</p>'


def grid(html: Iterable[str]) -> str:
    """Things side by side, as many as there is room for.

    Example:
        >>> grid(["a", "b"])
        '<div class="grid">ab</div>'
    """
    return f'<div class="grid">{"".join(html)}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first cell of a row is its head.

    Example:
        >>> "<td>&lt;2</td>" in table(["a", "b"], [["1", "<2"]])
        True
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
