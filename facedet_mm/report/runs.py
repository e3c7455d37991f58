"""What a run has left in its folder: the log of the training, predictions, times."""

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

__all__ = ["Run", "RunLog", "find_runs"]

Row = dict[str, Any]

PREDICTIONS = "predictions"
"""Folder of a run in which predictions are looked for."""
BENCH = "bench.json"
"""File of a run in which the times of ``facedet bench --json`` are looked for."""
_SCALARS = "vis_data/scalars.json"


@dataclass(frozen=True)
class RunLog:
    """The scalars of a training, in the order of time.

    Attributes:
        train: rows with ``step`` (the iteration) and losses.
        val: rows with ``step`` (the epoch, or the iteration where training doesn't count epochs) and the metrics.

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
        """Whether the training counts epochs; otherwise only iterations."""
        return any("epoch" in row for row in self.train)

    @property
    def epoch_length(self) -> float:
        """Iterations of an epoch, as far as the log tells."""
        return max((row["step"] / row["epoch"] for row in self.train if row.get("epoch")), default=1.0)

    def loss_names(self) -> list[str]:
        """``loss`` first, then its parts."""
        names = dict.fromkeys(name for row in self.train for name in row if "loss" in name)
        return sorted(names, key=lambda name: (name != "loss", name))

    def losses(self, name: str, by_epoch: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Epochs (or iterations) and values of a loss."""
        rows = [row for row in self.train if name in row]
        scale = self.epoch_length if by_epoch else 1.0
        return _column(rows, "step") / scale, _column(rows, name)

    def ap(self, setting: str, by_epoch: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Epochs (or iterations) and AP in percent of a setting, whatever the metric's prefix."""
        rows = [(row["step"], row[key]) for row in self.val for key in row if key.rpartition("/")[2] == setting]
        steps, values = np.array(rows, np.float64).reshape(-1, 2).T
        return steps * (self.epoch_length if self.counts_epochs and not by_epoch else 1.0), 100 * values

    def median(self, name: str, rows: Sequence[Row]) -> float:
        """The median of a column; NaN where no row has it."""
        values = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
        return float(np.median(values)) if values else math.nan


@dataclass(frozen=True)
class Run:
    """A run as it was found.

    Attributes:
        name: shortest end of the path that no other run has.
        path: what the user gave.
        log: its scalars; ``None`` without any.
        predictions: its submission folder; ``None`` without one.
        bench: rows of ``facedet bench --json``.

    Example:
        >>> Run("first", Path("work_dirs/first"), RunLog(), None, []).name
        'first'
    """

    name: str
    path: Path
    log: RunLog | None
    predictions: Path | None
    bench: list[Row]


def find_runs(paths: Sequence[str | os.PathLike[str]], predictions: Sequence[str | os.PathLike[str]] = ()) -> list[Run]:
    """Looks into the folders of runs.

    Args:
        paths: of each run its work directory (whose logs ``*/vis_data/scalars.json`` are joined), the folder of one
            of its logs, a log file, or a submission folder.
        predictions: submission folders of the runs, in their order; ``-`` for a run without. By default the folder
            ``predictions`` of a run or the run itself, if it is a submission folder.

    Raises:
        AnnotationError: no such folder, nothing in it, a broken log, or not a folder of predictions for each run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "1/vis_data").mkdir(parents=True)
        ...     _ = Path(folder, "1/vis_data/scalars.json").write_text('{"loss": 2.5, "epoch": 1, "step": 50}\\n')
        ...     find_runs([folder])[0].log.train
        [{'loss': 2.5, 'epoch': 1, 'step': 50}]
    """
    if predictions and len(predictions) != len(paths):
        raise AnnotationError(
            f"{len(predictions)} folders of predictions for {len(paths)} runs; give one for each run, '-' for none"
        )
    given = [Path(path) for path in paths]
    folders = [None if str(folder) == "-" else Path(folder) for folder in predictions]
    return [
        _find_run(name, path, folder)
        for name, path, folder in zip(_short_names(given), given, folders or [None] * len(given), strict=True)
    ]


def _find_run(name: str, path: Path, predictions: Path | None) -> Run:
    if not path.exists():
        raise AnnotationError(f"{path}: no such run; give its work directory, a scalars.json or a submission folder")
    if predictions is None:
        predictions = next((folder for folder in (path / PREDICTIONS, path) if _is_submission(folder)), None)
    logs = _log_files(path)
    if not logs and predictions is None:
        raise AnnotationError(
            f"{path} holds neither a log (*/{_SCALARS}) nor predictions (<event>/<image>.txt, or those in a folder "
            f"{PREDICTIONS}); give the work directory of a run or a submission folder"
        )
    log = _join(read_rows(file) for file in logs) if logs else None
    return Run(name, path, log, predictions, _read_bench(path / BENCH) if path.is_dir() else [])


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many as tell it from the others; equal paths get numbers."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = next(n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others))
        names.append("/".join(own[-length:]))
    return [f"{name} ({names[:i].count(name) + 1})" if name in names[:i] else name for i, name in enumerate(names)]


def _is_submission(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("*/*.txt"), None) is not None


def _log_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    own = path / _SCALARS
    return [own] if own.is_file() else sorted(path.glob(f"*/{_SCALARS}"))


def read_rows(path: Path) -> list[Row]:
    """The rows of a log, one JSON object a line.

    Raises:
        AnnotationError: the file can't be read or a line is no row of a log; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(
            f"{path}: cannot be read as a log: {getattr(error, 'strerror', None) or error}"
        ) from error
    return [_parse_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _parse_row(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not _is_number(row.get("step")):
        shown = f"{line[:77]}…" if len(line) > 78 else line
        raise AnnotationError(
            f"{path}, line {number}: expected a JSON object with a number 'step', as {_SCALARS} of a run has, "
            f"found {shown!r}; a line that a crash cut short can be deleted"
        )
    return {name: value for name, value in row.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _join(logs: Iterable[list[Row]]) -> RunLog:
    """Logs of a run that was resumed: from where a later one sets in, the earlier ones no longer count."""
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


def _read_bench(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            float(row["median_ms"]), float(row["p95_ms"]), row["size"], row["batch"], row["threads"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AnnotationError(f"{path}: not what facedet bench --json writes ({error!r})") from error
    return list(rows)


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], np.float64)
