"""The first part of the page: each run a column, the best of each row in bold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import numpy as np

from facedet_mm.report.logs import RunLog
from facedet_mm.report.parts import note, section, swatch, warning
from facedet_mm.report.results import COUNTED, Report, Scored

__all__ = ["summary"]


class _Figure(NamedTuple):
    value: float
    text: str
    best: str = ""
    """``max`` or ``min``; neither is better where it is empty."""


def summary(report: Report) -> str:
    """The section with the main figures, and what must be known to read them.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> "<h2>Summary</h2>" in summary(Report([], [], None, None, Options()))
        True
    """
    columns = [
        {**_outcome(report, scored), **_training(run.log)}
        for run, scored in zip(report.runs, report.scored, strict=True)
    ]
    names = dict.fromkeys(name for column in columns for name in column)
    heads = "".join(f'<th scope="col">{swatch(i)}{escape(run.name)}</th>' for i, run in enumerate(report.runs))
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_cells([column.get(name) for column in columns]))}</tr>'
        for name in names
    )
    figures = f'<div class="scroll"><table><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    return section("Summary", figures, *_remarks(report))


def _outcome(report: Report, scored: Scored | None) -> dict[str, _Figure]:
    if scored is None or report.faces is None:
        return {}
    at = f"at score {report.options.score_thr:g}"
    kind = "" if report.faces.official else ", by height"
    point = scored.point
    return {
        **{f"AP {name}{kind} (%)": _Figure(100 * ap, "{:.2f}", "max") for name, ap in scored.wider.ap.items()},
        f"recall, {COUNTED} faces, {at} (%)": _Figure(100 * point.recall, "{:.1f}", "max"),
        f"precision, {at} (%)": _Figure(100 * point.precision, "{:.1f}", "max"),
        f"false alarms, {at}": _Figure(point.false_alarms, "{:,.0f}", "min"),
        f"second detections of a face, {at}": _Figure(point.duplicates, "{:,.0f}", "min"),
        "images predicted": _Figure(scored.images, "{:,.0f}"),
    }


def _training(log: RunLog | None) -> dict[str, _Figure]:
    if log is None:
        return {}
    unit = "epoch" if log.counts_epochs else "iteration"
    figures = {}
    for setting in ("easy", "medium", "hard"):
        when, ap = _best(log, setting)
        figures[f"best AP {setting} while training (%)"] = _Figure(ap, "{:.2f}", "max")
        figures[f"{unit} of that, {setting}"] = _Figure(when, "{:g}")
    if log.train:
        figures["last loss"] = _Figure(log.losses("loss")[1][-1], "{:.4g}")
        figures["iterations"] = _Figure(log.train[-1]["step"], "{:,.0f}")
    return figures


def _best(log: RunLog, setting: str) -> tuple[float, float]:
    steps, values = log.ap(setting)
    if not np.isfinite(values).any():
        return math.nan, math.nan
    i = int(np.nanargmax(values))
    return float(steps[i]), float(values[i])


def _cells(figures: list[_Figure | None]) -> Iterator[str]:
    values = [figure.value for figure in figures if figure is not None and math.isfinite(figure.value)]
    for figure in figures:
        if figure is None or not math.isfinite(figure.value):
            yield "<td>–</td>"
            continue
        best = {"max": max, "min": min}.get(figure.best)
        mark = ' class="best"' if best and len(values) > 1 and figure.value == best(values) else ""
        yield f"<td{mark}>{figure.text.format(figure.value)}</td>"


def _remarks(report: Report) -> Iterator[str]:
    if report.faces is not None:
        truth = report.faces.ground_truth
        counts = ", ".join(f"{int(counted.sum()):,} {name}" for name, counted in truth.settings.items())
        yield note(f"The annotation has {len(truth):,} images; faces that count: {counts}.")
    if report.faces is not None and not report.faces.official:
        yield warning(
            "The settings are made from the height of the faces (at least 50, 30 and 10 pixels): these are not the "
            "official figures of WIDER FACE."
        )
    for _, name, scored in report.outcomes():
        if scored.wider.missing:
            yield warning(
                f"{name}: {len(scored.wider.missing):,} images have no predictions; their faces count as missed, "
                "but are not shown among the misses."
            )
    with_log = {i for i, _, _ in report.logs()}
    with_outcome = {i for i, _, _ in report.outcomes()}
    for lacking, what in ((with_log, "no training log, so no curves of loss and AP"),
                          (with_outcome, "no predictions scored, so no recall, misses and false alarms")):  # fmt: skip
        names = [run.name for i, run in enumerate(report.runs) if i not in lacking]
        if names:
            yield note(f"{', '.join(names)}: {what}.")
