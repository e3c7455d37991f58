"""The charts of the page as matplotlib figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

__all__ = ["COLORS", "DASHES", "INK", "STYLE", "Bars", "Series", "bar_figure", "line_figure", "run_style", "thin"]

COLORS = 6
"""Number of runs with a color of their own in the style sheet."""
DASHES = ((), (7, 4), (2, 3), (9, 3, 2, 3))
"""Dash patterns in pixels, as ``.dash0`` to ``.dash3`` in the style sheet."""
MARKERS = "osD^vP*X"
POINTS = 500
"""Lines with at least twice as many points are averaged, see :func:`thin`."""

_SIZE = (400, 260)
INK = {
    name: f"#0000{i:02x}"
    for i, name in enumerate(("text", "muted", "line", *(f"run{i}" for i in range(COLORS))), start=1)
}
"""Variable of the style sheet → the color that stands for it in a figure, as the page may be light or dark."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK["text"],
    "axes.edgecolor": INK["muted"],
    "axes.labelcolor": INK["text"],
    "xtick.color": INK["muted"],
    "ytick.color": INK["muted"],
    "xtick.labelcolor": INK["text"],
    "ytick.labelcolor": INK["text"],
    "grid.color": INK["line"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.5,
    "lines.scale_dashes": False,
    "legend.frameon": False,
    "path.simplify": False,
}


@dataclass(frozen=True, eq=False)
class Series:
    """A line of a chart.

    Attributes:
        run: Number of its run, from 0.
        name: Name of its run.
        x: (n,) float64, ascending except for precision-recall curves.
        y: (n,) float64; NaN and infinite values are gaps.
        label: Text for the chart's legend; empty for none.

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
    """The bars of one run.

    Attributes:
        run: Number of the run, from 0.
        name: Name of the run.
        lower: Fraction of each group that is drawn in full color; NaN for no bar.
        upper: Fraction of each group that is drawn pale behind it; NaN for no bar.

    Example:
        >>> Bars(0, "first", [0.5], [0.75]).upper
        [0.75]
    """

    run: int
    name: str
    lower: Sequence[float]
    upper: Sequence[float]


def run_style(run: int) -> tuple[int, int]:
    """Returns the numbers of a run's color and dash pattern: two runs never share both, neighbors share neither.

    Example:
        >>> run_style(1), run_style(7)
        ((1, 1), (1, 0))
    """
    return run % COLORS, (run + run // COLORS) % len(DASHES)


def line_figure(
    series: Sequence[Series],
    labels: tuple[str, str],
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    dots: bool = False,
) -> Figure:
    """Draws lines.

    Args:
        series: The lines; at least one has a finite point.
        labels: Labels of the x and y axes.
        y_range: Lowest and highest y. By default from 0 to just above the highest value or, without ``dots``, the
            99th percentile.
        x_range: Lowest and highest x; by default from 0 to the highest value.
        dots: Whether to mark each point.

    Example:
        >>> figure = line_figure([Series(0, "first", np.arange(3.0), np.arange(3.0))], ("epoch", "loss"))
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [0.0, 1.0, 2.0]
    """
    finite = [np.isfinite(line.y) for line in series]
    xs, ys = (
        np.concatenate([column[mask] for column, mask in zip(columns, finite, strict=True)])
        for columns in ([line.x for line in series], [line.y for line in series])
    )
    top = 1.05 * float(np.percentile(ys, 100 if dots else 99))
    with mpl.rc_context(STYLE):
        figure, axes = _new_figure(labels)
        axes.set(xlim=x_range or (0, float(xs.max()) or 1), ylim=y_range or (0, top if top > 0 else 1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        for line in series:
            color, dash = run_style(line.run)
            (drawn,) = axes.plot(
                line.x,
                np.where(np.isfinite(line.y), line.y, np.nan),
                color=INK[f"run{color}"],
                dashes=DASHES[dash],
                marker=MARKERS[line.run % len(MARKERS)] if dots else "",
                clip_on=not dots,
            )
            drawn.set_gid(f"line run{line.run}")
            drawn.set_label(line.name)
        shown = [(drawn, line.label) for drawn, line in zip(axes.lines, series, strict=True) if line.label]
        if shown:
            axes.legend(*zip(*shown, strict=True), loc="lower left", handlelength=3)
    return figure


def bar_figure(groups: Sequence[str], counts: Sequence[int], bars: Sequence[Bars], words: tuple[str, str]) -> Figure:
    """Draws bars from 0 to 100 %, side by side for each group.

    Args:
        groups: Names of the groups.
        counts: Number in each group, which is 100 %.
        bars: The bars of each run.
        words: What the lower and the upper value are, for the text that appears over a bar.

    Example:
        >>> figure = bar_figure(["typical"], [8], [Bars(0, "first", [0.5], [0.75])], ("found", "ever found"))
        >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
        [75.0, 50.0]
    """
    width = 0.8 / max(len(bars), 1)
    with mpl.rc_context(STYLE):
        figure, axes = _new_figure(("", "recall (%)"))
        axes.set(xlim=(0, len(groups)), ylim=(0, 100))
        axes.grid(visible=False, axis="x")
        axes.set_xticks(
            np.arange(len(groups)) + 0.5, [f"{name}\n{count:,}" for name, count in zip(groups, counts, strict=True)]
        )
        axes.tick_params(axis="x", length=0, labelsize=11)
        for place, bar in enumerate(bars):
            color = INK[f"run{run_style(bar.run)[0]}"]
            for kind, values, opacity in (("upper", bar.upper, 0.3), ("lower", bar.lower, 1.0)):
                for group in np.flatnonzero(np.isfinite(values)).tolist():
                    (drawn,) = axes.bar(
                        group + 0.1 + place * width,
                        100 * values[group],
                        width,
                        align="edge",
                        facecolor=to_rgba(color, opacity),
                        edgecolor=color,
                        linewidth=0.7,
                    )
                    drawn.set_gid(f"{kind} run{bar.run} group{group}")
                    drawn.set_label(
                        f"{bar.name}, {groups[group]}: {100 * bar.lower[group]:.1f} % {words[0]}, "
                        f"{100 * bar.upper[group]:.1f} % {words[1]}"
                    )
    return figure


def thin(series: Series) -> Series:
    """Returns a line with fewer than twice :data:`POINTS` points, each the mean of neighbors.

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


def _new_figure(labels: tuple[str, str]) -> tuple[Figure, Any]:
    width, height = _SIZE
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.subplots_adjust(left=58 / width, right=1 - 16 / width, bottom=50 / height, top=1 - 10 / height)
    figure.patch.set_visible(False)
    axes = figure.add_subplot(xlabel=labels[0], ylabel=labels[1])
    axes.patch.set_visible(False)
    return figure, axes
