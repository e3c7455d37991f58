"""Training logs: the file ``vis_data/scalars.json`` that MMEngine writes, one JSON object per line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import AnnotationError

__all__ = ["SCALARS", "Row", "RunLog", "final_metrics", "find_logs", "join_logs", "read_rows"]

Row = dict[str, float]

SCALARS = "vis_data/scalars.json"
"""Path of a log below the folder of its training session."""


@dataclass(frozen=True)
class RunLog:
    """The scalars of a training run, in the order of time.

    Attributes:
        train: Rows with ``step`` (the iteration) and losses.
        val: Rows with ``step`` (the epoch, or the iteration where training does not count epochs) and metrics.

    Example:
        >>> log = RunLog([{"step": 50, "epoch": 1, "loss": 2.0}, {"step": 100, "epoch": 2, "loss": 1.5}],
        ...              [{"step": 2, "wider_face/hard": 0.25}])
        >>> [column.tolist() for column in log.losses("loss")], [column.tolist() for column in log.ap("hard")]
        ([[1.0, 2.0], [2.0, 1.5]], [[2.0], [25.0]])
    """

    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)

    @property
    def counts_epochs(self) -> bool:
        """Whether the training counts epochs; otherwise it counts only iterations."""
        return any("epoch" in row for row in self.train)

    @property
    def epoch_length(self) -> float:
        """Iterations per epoch, as far as the log shows."""
        return max((row["step"] / row["epoch"] for row in self.train if row.get("epoch")), default=1.0)

    def loss_names(self) -> list[str]:
        """Returns the names of the losses, ``loss`` first, then its parts."""
        names = dict.fromkeys(name for row in self.train for name in row if "loss" in name)
        return sorted(names, key=lambda name: (name != "loss", name))

    def losses(self, name: str, by_epoch: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the epochs (or iterations) and the values of a loss."""
        rows = [row for row in self.train if name in row]
        scale = self.epoch_length if by_epoch else 1.0
        return _column(rows, "step") / scale, _column(rows, name)

    def ap(self, setting: str, by_epoch: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the epochs (or iterations) and the AP in percent of a setting, whatever the metric's prefix."""
        rows = [(row["step"], row[key]) for row in self.val for key in row if key.rpartition("/")[2] == setting]
        steps, values = np.array(rows, np.float64).reshape(-1, 2).T
        return steps * (self.epoch_length if self.counts_epochs and not by_epoch else 1.0), 100 * values

    def median(self, name: str, rows: Sequence[Row]) -> float:
        """Returns the median of a column; NaN when no row has it."""
        values = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
        return float(np.median(values)) if values else math.nan


def find_logs(path: str | os.PathLike[str]) -> list[Path]:
    """Returns the logs of a run, oldest first.

    Args:
        path: A log, the folder of a training session, or a work directory, which holds one such folder per session.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    own = path / SCALARS
    return [own] if own.is_file() else sorted(path.glob(f"*/{SCALARS}"))


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Reads the rows of a log.

    Values that are not numbers are left out; NaN and infinity stay. A last line that was cut off while it was written
    is left out, too: it is no JSON and has no line end.

    Raises:
        AnnotationError: The file can't be read or a line is not a row of a log; the message names file and line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder, "scalars.json")
        ...     _ = log.write_text('{"loss": 2.5, "step": 50}\\n{"loss": 2.')
        ...     read_rows(log)
        [{'loss': 2.5, 'step': 50}]
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read as a log: {error.strerror or error}") from error
    if _cut_off(lines[-1]):
        lines.pop()
    return [_parse_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def join_logs(logs: Iterable[Sequence[Row]]) -> RunLog:
    """Joins the logs of a run that was resumed: where a later one begins, the earlier ones no longer count.

    Example:
        >>> join_logs([[{"step": 1, "loss": 3}, {"step": 2, "loss": 2}], [{"step": 2, "loss": 1}]]).train
        [{'step': 1, 'loss': 3}, {'step': 2, 'loss': 1}]
    """
    train: list[Row] = []
    val: list[Row] = []
    for rows in logs:
        new_train = [row for row in rows if "loss" in row]
        new_val = [row for row in rows if "loss" not in row]
        if new_train:
            train = [row for row in train if row["step"] < new_train[0]["step"]]
        if rows:
            first = (new_train or new_val)[0]
            val = [row for row in val if row["step"] < first.get("epoch", first["step"])]
        train += new_train
        val += new_val
    return RunLog(train, val)


def final_metrics(work_dir: str | os.PathLike[str], epochs: int) -> Row | None:
    """Returns the WIDER FACE metrics after the last epoch of a run, or ``None`` if it has not come that far.

    Args:
        work_dir: Work directory of the run; its newest log that has the metrics counts.
        epochs: Number of epochs of the complete training.

    Returns:
        Names such as ``wider_face/hard`` → AP as a fraction.

    Raises:
        AnnotationError: A log is broken.
    """
    for log in reversed(find_logs(work_dir)):
        for row in reversed(read_rows(log)):
            metrics = {name: value for name, value in row.items() if name.startswith("wider_face/")}
            if "wider_face/hard" in metrics and row["step"] == epochs:
                return metrics
    return None


def _cut_off(line: bytes) -> bool:
    """Whether a last line is the beginning of a row."""
    return line.lstrip().startswith(b"{") and _parse(line) is None


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parse_row(path: str | os.PathLike[str], number: int, line: bytes) -> Row:
    row = _parse(line)
    if not isinstance(row, dict) or not _is_number(row.get("step")) or not math.isfinite(row["step"]):
        text = line.decode("utf-8", "replace")
        shown = f"{text[:77]}…" if len(text) > 78 else text
        raise AnnotationError(
            f"{path}, line {number}: expected a JSON object with a number 'step', as in the {SCALARS} of a run, "
            f"found {shown!r}; a line that a crash cut short can be deleted"
        )
    return {name: value for name, value in row.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], np.float64)
