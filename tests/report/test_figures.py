"""The charts of the report: what they draw, and in which colors."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from report_samples import Page

from facedet_mm.report.charts import bar_chart, line_chart
from facedet_mm.report.figures import COLORS, DASHES, Bars, Series, bar_figure, line_figure, run_style, thin
from facedet_mm.report.svg import inline_svg


def test_long_lines_are_averaged_and_short_ones_are_not() -> None:
    x = np.arange(10007.0)
    thinned = thin(Series(0, "a", x, 3 * x))
    assert 500 <= len(thinned.x) < 1000
    np.testing.assert_allclose(thinned.y, 3 * thinned.x)
    assert thinned.x[0] == np.mean(x[:20])
    assert len(thin(Series(0, "a", x[:999], x[:999])).x) == 999


@pytest.mark.parametrize("span", [(0, 1), (0, 1e-7), (3, 47), (0, 123456.0), (0.2, 0.21)])
def test_ticks_are_few_round_and_inside(span: tuple[float, float]) -> None:
    axes = line_figure([Series(0, "a", np.array(span), np.array(span))], ("x", "y"), span, span).axes[0]
    values = axes.get_xticks()
    values = values[(values >= span[0]) & (values <= span[1])]
    assert 3 <= len(values) <= 7
    steps = np.diff(values)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert f"{steps[0]:.1e}"[:3] in ("1.0", "2.0", "5.0")
    assert len(axes.get_yticks()) == len(axes.get_xticks())


# Colors


def palette(root: Path, dark: bool) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB of the runs and of the backgrounds behind them."""
    css = (root / "facedet_mm/report/page.css").read_text()
    light, night = css.split("@media (prefers-color-scheme: dark)")
    colors = dict(re.findall(r"--(\w+): (#\w{6})", night if dark else light))

    def linear(names: list[str]) -> np.ndarray:
        values = np.array([[int(colors[name][i : i + 2], 16) for i in (1, 3, 5)] for name in names]) / 255
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)

    return linear([f"run{i}" for i in range(COLORS)]), linear(["bg", "panel"])


@pytest.mark.parametrize("dark", [False, True])
def test_runs_stand_out_from_the_background(root: Path, dark: bool) -> None:
    runs, backgrounds = (colors @ [0.2126, 0.7152, 0.0722] + 0.05 for colors in palette(root, dark))
    ratio = np.maximum(runs[:, None], backgrounds) / np.minimum(runs[:, None], backgrounds)
    assert ratio.min() >= 3  # WCAG 2.1, what is needed to understand a graphic


@pytest.mark.parametrize("dark", [False, True])
def test_runs_are_told_apart_also_by_the_color_blind(root: Path, dark: bool) -> None:
    seen_by = {  # Machado, Oliveira and Fernandes, 2009: severity 1
        "all": np.eye(3),
        "protan": np.array(
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
        ),
        "deutan": np.array(
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
        ),
        "tritan": np.array(
            [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
        ),
    }
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for eyes, matrix in seen_by.items():
        xyz = np.clip(palette(root, dark)[0] @ matrix.T, 0, 1) @ to_xyz.T / to_xyz.sum(1)
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        distances = np.linalg.norm(lab[:, None] - lab, axis=-1) + 999 * np.eye(COLORS)
        assert distances.min() > 15, eyes


def test_runs_are_told_apart_without_colors_too() -> None:
    styles = [run_style(i) for i in range(len(DASHES) * COLORS)]
    assert len(set(styles)) == len(styles)
    for (color, dash), (next_color, next_dash) in itertools.pairwise(styles):
        assert color != next_color
        assert dash != next_dash
    figure = line_figure([Series(i, "a", np.arange(3.0), np.arange(3.0)) for i in range(4)], ("x", "y"), dots=True)
    page = Page(inline_svg(figure, "d"))
    drawn = [e for e in page.all("path") if (e.parents[-1].attrs.get("class") or "").startswith("line ")]
    assert len({re.sub(r"stroke: var\(--run\d\)", "", e.attrs["style"]) for e in drawn}) == 4
    assert len({line.get_marker() for line in figure.axes[0].lines}) == 4


def test_the_dashes_of_the_legend_are_those_of_the_charts(root: Path) -> None:
    css = (root / "facedet_mm/report/page.css").read_text()
    patterns = re.findall(r"\.dash(\d) { stroke-dasharray: ([\d ]+); }", css)
    assert [(0, ()), *((int(n), tuple(map(int, text.split()))) for n, text in patterns)] == [*enumerate(DASHES)]


# Drawings


def test_lines_have_their_values_and_gaps() -> None:
    x = np.arange(6.0)
    y = np.array([3.0, np.nan, 1.0, np.inf, -np.inf, 2.0])
    figure = line_figure([Series(2, "a", x, y)], ("epoch", "loss"))
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == x.tolist()
    np.testing.assert_array_equal(line.get_ydata(), np.where(np.isfinite(y), y, np.nan))
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("epoch", "loss")


def test_an_outlier_of_a_loss_is_cut_off_and_a_dot_never_is() -> None:
    y = np.ones(300)
    y[7] = 1000
    line = Series(0, "a", np.arange(300.0), y)
    loss, dots = (line_figure([line], ("x", "y"), dots=dots).axes[0] for dots in (False, True))
    assert loss.get_ylim() == (0, pytest.approx(1.05))
    assert loss.lines[0].get_clip_on()
    assert dots.get_ylim() == (0, pytest.approx(1050))
    assert not dots.lines[0].get_clip_on()
    assert loss.get_xlim() == dots.get_xlim() == (0, 299)


@pytest.mark.parametrize("y", [0.0, -1.0])
def test_a_chart_of_one_point_is_drawn(y: float) -> None:
    chart = line_chart("t", [Series(0, "a", np.zeros(1), np.full(1, y))], ("x", "y"), dots=True)
    page = Page(chart.svg)
    assert len([e for e in page.all("use") if any(p.attrs.get("class") == "line run0" for p in e.parents)]) == 1
    assert chart.rows == [["0", f"{y:g}"]]


def test_bars_have_their_heights_and_stand_side_by_side() -> None:
    bars = [Bars(0, "a", [0.5, np.nan], [0.75, np.nan]), Bars(3, "b", [0.25, 0.0], [0.5, 1.0])]
    figure = bar_figure(["x", "y"], [1200, 3], bars, ("found", "ever"))
    drawn = {bar.get_gid(): bar for bar in figure.axes[0].patches}
    assert {gid: bar.get_height() for gid, bar in drawn.items()} == {
        "upper run0 group0": 75, "lower run0 group0": 50, "upper run3 group0": 50, "lower run3 group0": 25,
        "upper run3 group1": 100, "lower run3 group1": 0,
    }  # fmt: skip
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["x\n1,200", "y\n3"]
    left = drawn["upper run0 group0"]
    assert left.get_x() + left.get_width() == pytest.approx(drawn["upper run3 group0"].get_x())
    for gid, bar in drawn.items():
        group = int(gid[-1])
        assert group < bar.get_x() < bar.get_x() + bar.get_width() < group + 1
    assert drawn["lower run3 group0"].get_label() == "b, x: 25.0 % found, 50.0 % ever"
    pale, full = (drawn[f"{kind} run0 group0"].get_facecolor()[3] for kind in ("upper", "lower"))
    assert (pale, full) == (0.3, 1)
    assert drawn["upper run0 group0"].get_zorder() <= drawn["lower run0 group0"].get_zorder()


def test_a_drawing_has_no_color_of_its_own_and_refers_to_nothing_outside() -> None:
    lines = [Series(i, f"run{i}", np.arange(3.0), np.arange(3.0), label=f"AP {i}") for i in range(2)]
    drawings = [line_chart(title, lines, ("x", "y"), dots=True).svg for title in ("easy", "hard")]
    drawings.append(bar_chart("pose", ["p", "q"], [1, 2], [Bars(0, "a", [0.5, 1], [0.75, 1])], ("n", "f", "e")).svg)
    page = Page("".join(drawings))
    ids = [e.attrs["id"] for e in page.elements if "id" in e.attrs]
    assert len(set(ids)) == len(ids) > 3
    assert not page.all("style")
    assert not page.all("metadata")
    for svg in drawings:
        assert not re.search(r"#[0-9a-f]{6}\b|rgb|http|xlink|xmlns", svg)
        assert set(re.findall(r'href="#(\w+)"|url\(#(\w+)\)', svg)) <= {(i, "") for i in ids} | {("", i) for i in ids}
        assert not re.search(r"url\([^#]", svg)
        assert {"var(--text)", "var(--muted)", "var(--line)", "var(--run0)"} <= set(re.findall(r"var\(--\w+\)", svg))
    labels = [e.attrs["aria-label"] for e in page.all("svg", role="img")]
    assert labels == [
        "easy: y over x; the numbers are in the table below",
        "hard: y over x; the numbers are in the table below",
        "pose: recall by pose; the numbers are in the table below",
    ]


@pytest.mark.parametrize(
    "name", ["a<b>&\"'</title><script>alert(1)<", r"$\frac{$", "_hidden", "\x01\ud800", "臉", "#000004"]
)
def test_any_name_can_be_drawn(name: str) -> None:
    line = Series(0, name, np.arange(2.0), np.arange(2.0))
    chart = line_chart(name, [line], ("epoch", "loss"))
    page = Page(chart.svg)
    assert [e.text for e in page.all("title")] == [name]
    assert page.all("svg")[0].attrs["aria-label"] == f"{name}: loss over epoch; the numbers are in the table below"
    assert not page.all("script")
    bars = bar_chart(name, ["p"], [1], [Bars(0, name, [0.5], [0.75])], ("n", "found", "ever"))
    assert {e.text for e in Page(bars.svg).all("title")} == {f"{name}, p: 50.0 % found, 75.0 % ever"}
