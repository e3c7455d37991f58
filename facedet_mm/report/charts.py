"""Charts with the numbers behind them as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedet_mm.report.figures import Bars, Series, bar_figure, line_figure
from facedet_mm.report.svg import inline_svg

__all__ = ["Chart", "bar_chart", "line_chart"]

_TABLE_ROWS = 12


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: Heading.
        svg: The drawing as an SVG element; empty when there are no values.
        heads: Column heads of the table.
        rows: Rows of the table.

    Example:
        >>> Chart("loss").svg
        ''
    """

    title: str
    svg: str = ""
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def line_chart(
    title: str,
    series: Sequence[Series],
    labels: tuple[str, str],
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    places: Sequence[float] = (),
    dots: bool = False,
) -> Chart:
    """Makes a chart of lines; those without a finite point are left out.

    Args:
        title: Heading.
        series: The lines.
        labels, y_range, x_range, dots: As for :func:`~facedet_mm.report.figures.line_figure`.
        places: Values of x in the table; by default some of those of the lines.

    Example:
        >>> line_chart("loss", [Series(0, "a", np.arange(3.0), np.arange(3.0))], ("epoch", "loss")).rows[1]
        ['1', '1']
    """
    lines = [line for line in series if np.isfinite(line.y).any()]
    if not lines:
        return Chart(title)
    figure = line_figure(lines, labels, y_range, x_range, dots)
    at = np.array(places) if places else np.unique(np.concatenate([line.x for line in lines]))
    if len(at) > _TABLE_ROWS:
        at = at[np.linspace(0, len(at) - 1, _TABLE_ROWS).round().astype(int)]
    columns = [_values_at(line, at) for line in lines]
    rows = [[_short(x), *map(_short, values)] for x, *values in zip(at.tolist(), *columns, strict=True)]
    heads = [labels[0], *(f"{line.name}: {labels[1]}" for line in lines)]
    return Chart(title, inline_svg(figure, _describe(title, f"{labels[1]} over {labels[0]}")), heads, rows)


def bar_chart(
    title: str, groups: Sequence[str], counts: Sequence[int], bars: Sequence[Bars], words: tuple[str, str, str]
) -> Chart:
    """Makes a chart of bars from 0 to 100 %, side by side for each group.

    Args:
        title: Heading.
        groups: Names of the groups.
        counts: Number in each group, which is 100 %.
        bars: The bars of each run.
        words: What is counted, and what the lower and the upper value are.

    Example:
        >>> bar_chart("pose", ["typical"], [8], [Bars(0, "a", [0.5], [0.75])], ("faces", "found", "ever")).rows
        [['typical', '8', '50.0', '75.0']]
    """
    rows = [
        [group, f"{count:,}", *(_percent(value) for bar in bars for value in (bar.lower[i], bar.upper[i]))]
        for i, (group, count) in enumerate(zip(groups, counts, strict=True))
    ]
    heads = [title, words[0], *(f"{bar.name}: {word} (%)" for bar in bars for word in words[1:])]
    svg = inline_svg(bar_figure(groups, counts, bars, words[1:]), _describe(title, f"recall by {title}"))
    return Chart(title, svg, heads, rows)


def _values_at(line: Series, places: NDArray[np.float64]) -> list[float]:
    """Returns the line's last value up to each place; NaN outside of the line."""
    index = np.searchsorted(line.x, places, side="right") - 1
    inside = (index >= 0) & (places <= line.x[-1])
    values: list[float] = np.where(inside, line.y[index], np.nan).tolist()
    return values


def _describe(title: str, axes: str) -> str:
    return f"{title}: {axes}; the numbers are in the table below"


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "–"
