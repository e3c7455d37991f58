"""Charts as inline SVG, colored by the page's style sheet, each with its figures as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from facedet_mm.report.parts import run_class, table

__all__ = ["Bars", "Series", "bar_chart", "line_chart", "thin", "ticks"]

POINTS = 500
"""Most points of a line; longer ones are averaged."""
_WIDTH, _HEIGHT = 400, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 10, 46
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_TABLE_ROWS = 12


@dataclass(frozen=True, eq=False)
class Series:
    """A line of a chart.

    Attributes:
        run: number of its run, from 0.
        name: name of its run.
        x: (n,) float64, ascending but for precision-recall curves.
        y: (n,) float64; NaN and infinite values are gaps.
        label: text beside the lines, lower left; none where it is empty.

    Example:
        >>> Series(0, "first", np.arange(3.0), np.arange(3.0)).name
        'first'
    """

    run: int
    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    label: str = ""


@dataclass(frozen=True)
class Bars:
    """The columns of one run: of each group the lower value and, drawn pale behind it, the upper one; NaN is none.

    Example:
        >>> Bars(0, "first", [0.5], [0.75]).upper
        [0.75]
    """

    run: int
    name: str
    lower: Sequence[float]
    upper: Sequence[float]


def line_chart(
    title: str,
    series: Sequence[Series],
    labels: tuple[str, str],
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    places: Sequence[float] = (),
    dots: bool = False,
) -> str:
    """A figure with lines.

    Args:
        title: plain text, as all text here.
        series: the lines; those without a finite point are left out.
        labels: of the x and the y axis.
        y_range: lowest and highest y; by default from 0 to just above all but the highest hundredth.
        x_range: lowest and highest x; by default from 0 to the highest of the lines.
        places: values of x for the table; by default some of those of the lines.
        dots: whether to mark each point.

    Example:
        >>> chart = line_chart("loss", [Series(0, "a<b", np.arange(3.0), np.arange(3.0))], ("epoch", "loss"))
        >>> chart.startswith("<figure>"), "a&lt;b" in chart
        (True, True)
    """
    lines = [line for line in series if np.isfinite(line.y).any()]
    if not lines:
        return f"<figure><h3>{escape(title)}</h3><p>No values.</p></figure>"
    xs = np.concatenate([line.x[np.isfinite(line.y)] for line in lines])
    ys = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    x_low, x_high = x_range or (0.0, float(xs.max()) or 1.0)
    y_low, y_high = y_range or (0.0, 1.05 * float(np.percentile(ys, 99)) or 1.0)
    place = _Scale(x_low, x_high, y_low, y_high)
    drawn = "".join(_line(line, place, dots) for line in lines)
    parts = [_axes(place, labels, ticks(x_low, x_high)), _window(drawn), _labels(lines)]
    return _figure(title, f"{labels[1]} over {labels[0]}", parts, _line_table(lines, labels, places))


def bar_chart(
    title: str, groups: Sequence[str], counts: Sequence[int], bars: Sequence[Bars], heads: tuple[str, str, str]
) -> str:
    """A figure with columns from 0 to 100 %, side by side for each group.

    Args:
        title: plain text.
        groups: names of the groups.
        counts: of each group, what 100 % is.
        bars: the runs.
        heads: what is counted, and what the lower and the upper value are; for the table.

    Example:
        >>> chart = bar_chart("pose", ["typical"], [8], [Bars(0, "a", [0.5], [0.75])], ("faces", "found", "ever"))
        >>> "<td>50.0</td><td>75.0</td>" in chart
        True
    """
    place = _Scale(0, len(groups), 0, 100)
    width = 0.8 / max(len(bars), 1)
    drawn = []
    for i, group in enumerate(groups):
        for j, bar in enumerate(bars):
            left = place.x(i + 0.1 + j * width)
            size = place.x(width) - place.x(0)
            text = f"{bar.name}, {group}: {_percent(bar.lower[i])} {heads[1]}, {_percent(bar.upper[i])} {heads[2]}"
            for kind, value in (("upper", bar.upper[i]), ("lower", bar.lower[i])):
                if math.isfinite(value):
                    top = place.y(100 * value)
                    drawn.append(
                        f'<rect class="{kind} {run_class(bar.run)}" x="{left:.2f}" y="{top:.2f}" width="{size:.2f}" '
                        f'height="{_TOP + _PLOT_HEIGHT - top:.2f}"><title>{escape(text)}</title></rect>'
                    )
    names = "".join(
        f'<text x="{place.x(i + 0.5):.1f}" y="{_HEIGHT - 29}" text-anchor="middle">{escape(group)}</text>'
        f'<text class="small" x="{place.x(i + 0.5):.1f}" y="{_HEIGHT - 13}" text-anchor="middle">{count:,}</text>'
        for i, (group, count) in enumerate(zip(groups, counts, strict=True))
    )
    rows = [
        [group, f"{count:,}", *(f"{100 * value:.1f}" if math.isfinite(value) else "–"
                                for bar in bars for value in (bar.lower[i], bar.upper[i]))]
        for i, (group, count) in enumerate(zip(groups, counts, strict=True))
    ]  # fmt: skip
    columns = [title, heads[0], *(f"{bar.name}: {head} (%)" for bar in bars for head in heads[1:])]
    parts = [_axes(place, ("", "recall (%)"), []), *drawn, names]
    return _figure(title, f"recall by {title}", parts, table(columns, rows))


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``.

    Example:
        >>> ticks(0, 60), ticks(0, 2.3)
        ([0.0, 20.0, 40.0, 60.0], [0.0, 0.5, 1.0, 1.5, 2.0])
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thin(series: Series) -> Series:
    """The same line with fewer than twice :data:`POINTS` points, each the mean of some neighbors.

    Example:
        >>> thin(Series(0, "first", np.arange(1500.0), np.arange(1500.0))).y[:3].tolist()
        [1.0, 4.0, 7.0]
    """
    group = len(series.x) // POINTS
    if group < 2:
        return series
    starts = np.arange(0, len(series.x), group)
    sizes = np.diff(starts, append=len(series.x))
    x, y = (np.add.reduceat(column, starts) / sizes for column in (series.x, series.y))
    return Series(series.run, series.name, x, y)


@dataclass(frozen=True)
class _Scale:
    """From values to units of the drawing."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return _LEFT + _PLOT_WIDTH * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (self.y_high - value) / (self.y_high - self.y_low)


def _line(series: Series, place: _Scale, dots: bool) -> str:
    path: list[str] = []
    pen = "M"
    for x, y in zip(series.x.tolist(), series.y.tolist(), strict=True):
        if math.isfinite(y):
            point = f"{pen}{place.x(x):.2f} {place.y(y):.2f}"
            if not path or point[1:] != path[-1][1:]:
                path.append(point)
            pen = "L"
        else:
            pen = "M"
    classes = run_class(series.run)
    drawn = f'<path class="line {classes}" d="{"".join(path)}"><title>{escape(series.name)}</title></path>'
    if dots:
        drawn += "".join(
            f'<circle class="dot {classes}" cx="{place.x(x):.1f}" cy="{place.y(y):.1f}" r="3">'
            f"<title>{escape(series.name)}: {_short(x)}, {_short(y)}</title></circle>"
            for x, y in zip(series.x.tolist(), series.y.tolist(), strict=True)
            if math.isfinite(y)
        )
    return drawn


def _window(drawn: str) -> str:
    """Hides what lies outside of the axes, but for half of a dot."""
    box = f"{_LEFT - 4} {_TOP - 4} {_PLOT_WIDTH + 8} {_PLOT_HEIGHT + 8}"
    x, y, width, height = box.split()
    return f'<svg x="{x}" y="{y}" width="{width}" height="{height}" viewBox="{box}">{drawn}</svg>'


def _labels(lines: Sequence[Series]) -> str:
    shown = [line for line in lines if line.label]
    parts = []
    for i, line in enumerate(shown):
        y = _TOP + _PLOT_HEIGHT - 12 - 16 * (len(shown) - 1 - i)
        parts.append(f'<path class="line {run_class(line.run)}" d="M{_LEFT + 10} {y - 4}h28"/>')
        parts.append(f'<text x="{_LEFT + 46}" y="{y}">{escape(line.label)}</text>')
    return "".join(parts)


def _axes(place: _Scale, labels: tuple[str, str], x_ticks: Sequence[float]) -> str:
    right, bottom = _LEFT + _PLOT_WIDTH, _TOP + _PLOT_HEIGHT
    parts = []
    for value in ticks(place.y_low, place.y_high):
        y = place.y(value)
        parts.append(f'<path class="grid-line" d="M{_LEFT} {y:.2f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in x_ticks:
        x = place.x(value)
        parts.append(f'<path class="grid-line" d="M{x:.2f} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_short(value)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    parts.append(
        f'<text x="{_LEFT + _PLOT_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(labels[0])}</text>'
    )
    middle = _TOP + _PLOT_HEIGHT / 2
    parts.append(
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(labels[1])}</text>'
    )
    return "".join(parts)


def _figure(title: str, description: str, parts: Sequence[str], figures: str) -> str:
    alt = escape(f"{title}: {description}; the figures are in the table below")
    return (
        f'<figure><h3>{escape(title)}</h3><svg class="chart" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'aria-label="{alt}">{"".join(parts)}</svg>'
        f"<details><summary>Figures</summary>{figures}</details></figure>"
    )


def _line_table(lines: Sequence[Series], labels: tuple[str, str], places: Sequence[float]) -> str:
    """Each line at some places of x: its last value up to there."""
    at = np.array(places) if places else np.unique(np.concatenate([line.x for line in lines]))
    if len(at) > _TABLE_ROWS:
        at = at[np.linspace(0, len(at) - 1, _TABLE_ROWS).round().astype(int)]
    columns = [_values_at(line, at) for line in lines]
    rows = [[_short(x), *map(_short, values)] for x, *values in zip(at.tolist(), *columns, strict=True)]
    return table([labels[0], *(f"{line.name}: {labels[1]}" for line in lines)], rows)


def _values_at(line: Series, places: NDArray[np.float64]) -> list[float]:
    index = np.searchsorted(line.x, places, side="right") - 1
    inside = (index >= 0) & (places <= line.x[-1])
    values: list[float] = np.where(inside, line.y[index], np.nan).tolist()
    return values


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"
