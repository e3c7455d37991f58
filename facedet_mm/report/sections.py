"""The parts of the page with charts and times."""

from __future__ import annotations

import math

import numpy as np

from facedet_mm.report.charts import POINTS, Bars, Series, bar_chart, line_chart, thin
from facedet_mm.report.logs import RunLog
from facedet_mm.report.parts import grid, note, section, table
from facedet_mm.report.results import COUNTED, Report, Scored, groupings

__all__ = ["curves", "recall", "speed", "training"]

_PERCENTS = tuple(map(float, range(0, 101, 10)))


def training(report: Report) -> str:
    """Losses and AP over the epochs, or over the iterations if a run counts no epochs.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> training(Report([], [], None, None, Options()))
        ''
    """
    logs = report.logs()
    if not logs:
        return ""
    by_epoch = all(log.counts_epochs for _, _, log in logs if log.train)
    unit = "epoch" if by_epoch else "iteration"
    losses = [
        line_chart(name, [thin(Series(i, run, *log.losses(name, by_epoch))) for i, run, log in logs], (unit, name))
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
    remark = "The axis of a loss ends just above its 99th percentile"
    if any(len(log.train) >= 2 * POINTS for _, _, log in logs):
        remark += f"; logs of {2 * POINTS} lines and more are drawn as means of neighbors"
    return section("Training", note(f"{remark}."), grid(losses), "<br>", grid(aps))


def _total_first(name: str) -> tuple[bool, str]:
    return name != "loss", name


def curves(report: Report) -> str:
    """Precision over recall in each setting.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> curves(Report([], [], None, None, Options()))
        ''
    """
    outcomes = report.outcomes()
    if report.faces is None or not outcomes:
        return ""
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
    return section("Precision and recall", grid(charts))


def _curve(run: int, name: str, scored: Scored, setting: str) -> Series:
    """Without the thresholds above the best score, where there is no detection."""
    result = scored.wider.settings[setting]
    drawn = np.maximum.accumulate(result.precision) > 0
    recall, precision = (100 * column[drawn] for column in (result.recall, result.precision))
    return Series(run, name, recall, precision, label=f"AP {100 * result.ap:.2f}")


def recall(report: Report) -> str:
    """The share of faces that is found, by height and by attribute.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> recall(Report([], [], None, None, Options()))
        ''
    """
    outcomes = report.outcomes()
    if report.faces is None or not outcomes:
        return ""
    thr = report.options.score_thr
    heads = ("faces", f"at score {thr:g}", "at any score")
    charts = []
    for grouping in groupings(report.faces):
        recalls = [(i, run, grouping.recall(report.faces, scored, thr)) for i, run, scored in outcomes]
        bars = [Bars(i, run, found, ever) for i, run, (_, found, ever) in recalls]
        charts.append(bar_chart(grouping.title, grouping.labels, recalls[0][2][0], bars, heads))
    remark = (
        f"Of the faces that count in the {COUNTED} setting, the share found with a score of at least {thr:g} "
        "(full columns) and at any score (pale); below each group its number of faces."
    )
    if not report.faces.attributes:
        remark += " The annotation tells nothing of blur, occlusion and pose; --attributes takes a file that does."
    return section("Recall by kind of face", note(remark), grid(charts))


def speed(report: Report) -> str:
    """Times of training and of detection.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> "facedet bench" in speed(Report([], [], None, None, Options()))
        True
    """
    parts = []
    if logs := report.logs():
        heads = ["run", "s an iteration", "waiting for data (%)", "GPU memory (MB)", "s a validation batch"]
        parts += [table(heads, [_training_times(name, log) for _, name, log in logs]), "<br>"]
    measured = [
        [run.name, str(row["size"]), str(row["batch"]), "auto" if row["threads"] is None else str(row["threads"]),
         f"{row['median_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{1e3 / row['median_ms']:.1f}"]
        for run in report.runs
        for row in run.bench
    ]  # fmt: skip
    heads = ["run", "size", "batch", "threads", "median (ms an image)", "95th percentile", "images a second"]
    if measured:
        parts.append(table(heads, measured))
    else:
        parts.append(note("Times of detection are shown when facedet bench --json has written RUN/bench.json."))
    return section("Speed", *parts)


def _training_times(name: str, log: RunLog) -> list[str]:
    time = log.median("time", log.train)
    figures = (
        (time, "{:.3f}"),
        (100 * log.median("data_time", log.train) / time if time else math.nan, "{:.1f}"),
        (log.median("memory", log.train), "{:,.0f}"),
        (log.median("time", log.val), "{:.3f}"),
    )
    return [name, *(text.format(value) if math.isfinite(value) else "–" for value, text in figures)]
