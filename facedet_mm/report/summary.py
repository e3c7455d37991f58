"""The summary of the page: a column for each run, the best value of each row in bold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from facedet_mm.report.logs import RunLog
from facedet_mm.report.results import COUNTED, Report, Scored

__all__ = ["summarize"]


class Cell(NamedTuple):
    """A cell of the summary: its text and whether it is the best of its row."""

    text: str
    best: bool


@dataclass(frozen=True)
class Summary:
    """The main numbers, and what a reader must know about them.

    Attributes:
        rows: Name of each row → its cells, one per run.
        notes: Paragraphs that explain.
        warnings: Paragraphs that stand out.
    """

    rows: dict[str, list[Cell]]
    notes: Sequence[str]
    warnings: Sequence[str]


class _Number(NamedTuple):
    value: float
    text: str
    best: str = ""
    """``max`` or ``min``; empty when neither is better."""


def summarize(report: Report) -> Summary:
    """Returns the main numbers of each run.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> summarize(Report([], [], None, None, Options())).rows
        {}
    """
    columns = [
        {**_outcome(report, scored), **_training(run.log)}
        for run, scored in zip(report.runs, report.scored, strict=True)
    ]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = {name: list(_cells([column.get(name) for column in columns])) for name in names}
    return Summary(rows, list(_notes(report)), list(_warnings(report)))


def _outcome(report: Report, scored: Scored | None) -> dict[str, _Number]:
    if scored is None or report.faces is None:
        return {}
    at = f"at score {report.options.score_thr:g}"
    kind = "" if report.faces.official else ", by height"
    point = scored.point
    return {
        **{f"AP {name}{kind} (%)": _Number(100 * ap, "{:.2f}", "max") for name, ap in scored.wider.ap.items()},
        f"recall, {COUNTED} faces, {at} (%)": _Number(100 * point.recall, "{:.1f}", "max"),
        f"precision, {at} (%)": _Number(100 * point.precision, "{:.1f}", "max"),
        f"false alarms, {at}": _Number(point.false_alarms, "{:,.0f}", "min"),
        f"repeated detections of a face, {at}": _Number(point.duplicates, "{:,.0f}", "min"),
        "images with predictions": _Number(scored.images, "{:,.0f}"),
    }


def _training(log: RunLog | None) -> dict[str, _Number]:
    if log is None:
        return {}
    unit = "epoch" if log.counts_epochs else "iteration"
    numbers = {}
    for setting in ("easy", "medium", "hard"):
        when, ap = _best(log, setting)
        numbers[f"best AP {setting} during training (%)"] = _Number(ap, "{:.2f}", "max")
        numbers[f"{unit} of the best AP {setting}"] = _Number(when, "{:g}")
    if log.train:
        numbers["last loss"] = _Number(log.losses("loss")[1][-1], "{:.4g}")
        numbers["iterations"] = _Number(log.train[-1]["step"], "{:,.0f}")
    return numbers


def _best(log: RunLog, setting: str) -> tuple[float, float]:
    """Returns when a setting had its highest AP, and that AP in percent; NaN without any."""
    steps, values = log.ap(setting)
    if not np.isfinite(values).any():
        return math.nan, math.nan
    i = int(np.nanargmax(values))
    return float(steps[i]), float(values[i])


def _cells(numbers: Sequence[_Number | None]) -> Iterator[Cell]:
    values = [number.value for number in numbers if number is not None and math.isfinite(number.value)]
    for number in numbers:
        if number is None or not math.isfinite(number.value):
            yield Cell("–", best=False)
            continue
        best = {"max": max, "min": min}.get(number.best)
        is_best = best is not None and len(values) > 1 and number.value == best(values)
        yield Cell(number.text.format(number.value), is_best)


def _notes(report: Report) -> Iterator[str]:
    if report.faces is not None:
        truth = report.faces.ground_truth
        counts = ", ".join(f"{int(counted.sum()):,} {name}" for name, counted in truth.settings.items())
        yield f"The annotation has {len(truth):,} images; faces that count: {counts}."
    with_log = {i for i, _, _ in report.logs()}
    with_outcome = {i for i, _, _ in report.outcomes()}
    for having, text in (
        (with_log, "no training log, so there are no curves of loss and AP"),
        (with_outcome, "no predictions were scored, so there are no recall, misses and false alarms"),
    ):
        names = [run.name for i, run in enumerate(report.runs) if i not in having]
        if names:
            yield f"{', '.join(names)}: {text}."


def _warnings(report: Report) -> Iterator[str]:
    if report.faces is not None and not report.faces.official:
        yield (
            "The settings are made from the height of the faces (at least 50, 30 and 10 pixels), so these numbers are "
            "not the official ones of WIDER FACE."
        )
    for _, name, scored in report.outcomes():
        if scored.wider.missing:
            yield (
                f"{name}: {len(scored.wider.missing):,} images have no predictions; their faces count as missed, "
                "but are not shown among the misses."
            )
