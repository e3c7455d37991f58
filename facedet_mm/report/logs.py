"""Training logs: the file ``vis_data/scalars.json`` that MMEngine writes, one JSON object per line."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import AnnotationError
from facedet_mm.system.reading import MB, unique_names
from facedet_mm.system.text import FLOAT32_MAX

__all__ = ["SCALARS", "Row", "RunLog", "join_logs", "read_rows"]

Row = dict[str, float]

SCALARS = "vis_data/scalars.json"
"""Path of a log below the folder of its training session."""
_LONGEST_LINE = MB
_LARGEST_FILE = 512 * MB
"""A training of 640 epochs writes 10 MB in lines of 400 bytes."""
_LAST_STEP = 2**53
_METRICS = "wider_face/"


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

    Values that are not numbers are left out; NaN stays, and numbers beyond float32 are infinite. A last line that was
    cut off while it was written is left out, too: it is no JSON and has no line end.

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
    rows = []
    for number, line, last in _numbered_lines(path):
        if line.strip() and not (last and _is_cut_off(line)):
            rows.append(_parse_row(path, number, line))
    return rows


def join_logs(logs: Iterable[Sequence[Row]]) -> RunLog:
    """Joins the logs of a run that was resumed: where a later one begins, the earlier ones no longer count.

    The same holds within a log where the steps go back, so that they ascend in the result.

    Example:
        >>> join_logs([[{"step": 1, "loss": 3}, {"step": 2, "loss": 2}], [{"step": 2, "loss": 1}]]).train
        [{'step': 1, 'loss': 3}, {'step': 2, 'loss': 1}]
    """
    train: list[Row] = []
    val: list[Row] = []
    for rows in itertools.chain.from_iterable(map(_split_where_steps_go_back, logs)):
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
            metrics = {name: value for name, value in row.items() if name.startswith(_METRICS)}
            if "wider_face/hard" in metrics and row["step"] == epochs:
                return metrics
    return None


def _numbered_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes, bool]]:
    """Yields number and text of each line, and whether it is the last one and has no line end."""
    read = 0
    try:
        with open(path, "rb") as stream:
            for number in itertools.count(1):
                line = stream.readline(_LONGEST_LINE + 1)
                read += len(line)
                if len(line) > _LONGEST_LINE or read > _LARGEST_FILE:
                    what = f"line {number} has more than 1 MB" if read <= _LARGEST_FILE else "it is larger than 512 MB"
                    raise AnnotationError(f"{path} is not a log of a training run: {what}")
                if not line:
                    return
                yield number, line, not line.endswith(b"\n")
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f"{path}: cannot be read as a log: {getattr(error, 'strerror', None) or error}"
        ) from error


def _is_cut_off(line: bytes) -> bool:
    """Whether a last line is the beginning of a row."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line.lstrip().startswith(b"{")
    return False


def _parse_row(path: str | os.PathLike[str], number: int, line: bytes) -> Row:
    try:
        return _row(json.loads(line, object_pairs_hook=unique_names))
    except (ValueError, RecursionError) as error:
        text = line.decode("utf-8", "replace").strip()
        shown = f"{text[:77]}…" if len(text) > 78 else text
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise AnnotationError(
            f"{path}, line {number}: expected a JSON object with a number 'step', as in the {SCALARS} of a run, "
            f"found {shown!r} ({reason}); a line that a crash cut short can be deleted"
        ) from None


def _row(content: Any) -> Row:
    """Returns the numbers of a row; those beyond float32 are infinite, as they are for PyTorch.

    Raises:
        ValueError: It is no row of a log.
    """
    if not isinstance(content, dict) or "step" not in content:
        raise ValueError("it has no step")
    row = {name: _float32(value) for name, value in content.items() if type(value) in (int, float)}
    for name in ("step", "epoch", "loss"):
        if name in content and name not in row:
            raise ValueError(f"{name} is not a number")
    for name in ("step", "epoch"):
        if name in row and not (0 <= row[name] <= _LAST_STEP and row[name] == math.floor(row[name])):
            raise ValueError(f"{name} is not a whole number from 0")
    for name, value in row.items():
        if name.startswith(_METRICS) and not (0 <= value <= 1 or math.isnan(value)):
            raise ValueError(f"{name} is an AP, which is from 0 to 1")
    return row


def _float32(value: float) -> float:
    return value if not abs(value) > FLOAT32_MAX else math.inf if value > 0 else -math.inf


def _split_where_steps_go_back(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yields the parts of a log that several sessions wrote to."""
    part: list[Row] = []
    last = {True: -1.0, False: -1.0}
    for row in rows:
        trains = "loss" in row
        if row["step"] <= last[trains]:
            yield part
            part, last = [], {True: -1.0, False: -1.0}
        part.append(row)
        last[trains] = row["step"]
    yield part


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], np.float64)
