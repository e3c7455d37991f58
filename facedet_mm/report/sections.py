"""The parts of the page with charts and times, as values for the template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedet_mm.report.charts import Chart, bar_chart, line_chart
from facedet_mm.report.figures import POINTS, Bars, Series, thin
from facedet_mm.report.logs import RunLog
from facedet_mm.report.results import COUNTED, Report, Scored, groupings

__all__ = ["precision_recall", "recall", "speed", "training"]

_PERCENTS = tuple(map(float, range(0, 101, 10)))


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        heads: Column heads.
        rows: Rows; the first cell of each is its head.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        title: Heading.
        notes: Paragraphs that explain.
        charts: Rows of charts.
        tables: Tables.
    """

    title: str
    notes: Sequence[str] = ()
    charts: Sequence[Sequence[Chart]] = ()
    tables: Sequence[Table] = ()


def training(report: Report) -> Section | None:
    """Returns the losses and AP over the epochs, or over the iterations if a run counts no epochs.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> training(Report([], [], None, None, Options()))
    """
    logs = report.logs()
    if not logs:
        return None
    by_epoch = all(log.counts_epochs for _, _, log in logs if log.train)
    unit = "epoch" if by_epoch else "iteration"
    losses = [
        line_chart(name, [thin(Series(i, run, *log.losses(name, by_epoch))) for i, run, log in logs], (unit, "loss"))
        for name in sorted({name for _, _, log in logs for name in log.loss_names()}, key=_total_first)
    ]
    aps = [
        line_chart(
            f"AP {setting}",
            [Series(i, run, *log.ap(setting, by_epoch)) for i, run, log in logs],
            (unit, "AP (%)"),
            dots=True,
        )
        for setting in ("easy", "medium", "hard")
    ]
    note = "The axis of a loss ends just above its 99th percentile"
    if any(len(log.train) >= 2 * POINTS for _, _, log in logs):
        note += f"; logs with {2 * POINTS} rows or more are drawn as means of neighboring rows"
    return Section("Training", [f"{note}."], [losses, aps])


def _total_first(name: str) -> tuple[bool, str]:
    return name != "loss", name


def precision_recall(report: Report) -> Section | None:
    """Returns the precision over recall in each setting.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> precision_recall(Report([], [], None, None, Options()))
    """
    outcomes = report.outcomes()
    if report.faces is None or not outcomes:
        return None
    charts = [
        line_chart(
            setting,
            [_curve(i, run, scored, setting) for i, run, scored in outcomes],
            ("recall (%)", "precision (%)"),
            (0, 100),
            (0, 100),
            _PERCENTS,
        )
        for setting in report.faces.ground_truth.settings
    ]
    return Section("Precision and recall", charts=[charts])


def _curve(run: int, name: str, scored: Scored, setting: str) -> Series:
    """Returns the curve without its start, where nothing is detected yet."""
    result = scored.wider.settings[setting]
    drawn = np.maximum.accumulate(result.precision) > 0
    recall, precision = (100 * column[drawn] for column in (result.recall, result.precision))
    return Series(run, name, recall, precision, label=f"AP {100 * result.ap:.2f}")


def recall(report: Report) -> Section | None:
    """Returns the share of faces that is found, by height and by attribute.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> recall(Report([], [], None, None, Options()))
    """
    outcomes = report.outcomes()
    if report.faces is None or not outcomes:
        return None
    score_thr = report.options.score_thr
    words = ("faces", f"at score {score_thr:g}", "at any score")
    charts = []
    for grouping in groupings(report.faces):
        recalls = [(i, run, grouping.recall(report.faces, scored, score_thr)) for i, run, scored in outcomes]
        bars = [Bars(i, run, found, ever) for i, run, (_, found, ever) in recalls]
        charts.append(bar_chart(grouping.title, grouping.labels, recalls[0][2][0], bars, words))
    note = (
        f"The share of the faces of the {COUNTED} setting that is found with a score of at least {score_thr:g} (full "
        "bars) and at any score (pale bars). The number of faces is below each group."
    )
    if not report.faces.attributes:
        note += " The annotation has no blur, occlusion and pose; --attributes takes a file that does."
    return Section("Recall by kind of face", [note], [charts])


def speed(report: Report) -> Section:
    """Returns the times of training and of detection.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> "facedet bench" in speed(Report([], [], None, None, Options())).notes[0]
        True
    """
    tables = []
    if logs := report.logs():
        heads = ["run", "s per iteration", "waiting for data (%)", "GPU memory (MB)", "s per validation batch"]
        tables.append(Table(heads, [_training_times(name, log) for _, name, log in logs]))
    measured = [
        [run.name, str(row["size"]), str(row["batch"]), "auto" if row["threads"] is None else str(row["threads"]),
         f"{row['median_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{1e3 / row['median_ms']:.1f}"]
        for run in report.runs
        for row in run.bench
    ]  # fmt: skip
    if measured:
        heads = ["run", "size", "batch", "threads", "median (ms per image)", "95th percentile", "images per second"]
        tables.append(Table(heads, measured))
        return Section("Speed", tables=tables)
    note = "Detection times are shown when facedet bench --json has written RUN/bench.json."
    return Section("Speed", [note], tables=tables)


def _training_times(name: str, log: RunLog) -> list[str]:
    time = log.median("time", log.train)
    numbers = (
        (time, "{:.3f}"),
        (100 * log.median("data_time", log.train) / time if time else math.nan, "{:.1f}"),
        (log.median("memory", log.train), "{:,.0f}"),
        (log.median("time", log.val), "{:.3f}"),
    )
    return [name, *(text.format(value) if math.isfinite(value) else "–" for value, text in numbers)]
