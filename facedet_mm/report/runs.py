"""Finds the training log, the predictions and the times in the folders of runs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet_mm.errors import AnnotationError
from facedet_mm.report.logs import SCALARS, RunLog, find_logs, join_logs, read_rows
from facedet_mm.system.reading import MB, read_text_file

__all__ = ["Run", "find_runs"]

PREDICTIONS = "predictions"
"""Subfolder of a run with its predictions."""
BENCH = "bench.json"
"""File of a run with the times that ``facedet bench --json`` writes."""
_TIMES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("median_ms", "p95_ms"), (int, float)),
    "size": (int, str),
    "batch": (int,),
    "threads": (int, type(None)),
}


@dataclass(frozen=True)
class Run:
    """A run and what its folder has.

    Attributes:
        name: Shortest end of the path that no other run has.
        path: Path that the user gave.
        log: Training log; ``None`` without one.
        predictions: Submission folder; ``None`` without one.
        bench: Rows of ``facedet bench --json``.

    Example:
        >>> Run("first", Path("work_dirs/first"), RunLog(), None, []).name
        'first'
    """

    name: str
    path: Path
    log: RunLog | None
    predictions: Path | None
    bench: list[dict[str, Any]]


def find_runs(paths: Sequence[str | os.PathLike[str]], predictions: Sequence[str | os.PathLike[str]] = ()) -> list[Run]:
    """Finds the logs, predictions and times of runs.

    Args:
        paths: Work directory of each run (its logs ``*/vis_data/scalars.json`` are joined), the folder of one of its
            logs, a log file, or a submission folder.
        predictions: Submission folder of each run, in the same order; ``-`` for a run without. By default, the
            subfolder ``predictions`` of a run, or the run itself if it is a submission folder.

    Raises:
        AnnotationError: A folder does not exist or holds neither a log nor predictions, a log is broken, or the numbers
            of runs and of submission folders differ.

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
    logs = find_logs(path)
    if not logs and predictions is None:
        raise AnnotationError(
            f"{path} holds neither a log (*/{SCALARS}) nor predictions (<event>/<image>.txt, or those in a folder "
            f"{PREDICTIONS}); give the work directory of a run or a submission folder"
        )
    log = join_logs(read_rows(file) for file in logs) if logs else None
    return Run(name, path, log, predictions, _read_bench(path / BENCH) if path.is_dir() else [])


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the last parts of each path that tell it from the others; equal paths get numbers."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = next(n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others))
        names.append("/".join(own[-length:]))
    return [f"{name} ({names[:i].count(name) + 1})" if name in names[:i] else name for i, name in enumerate(names)]


def _is_submission(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("*/*.txt"), None) is not None


def _read_bench(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        rows = json.loads(read_text_file(path, MB, "a file that facedet bench --json writes"))
        if not isinstance(rows, list):
            raise ValueError("it is no list")
        return [_checked_times(row) for row in rows]
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise AnnotationError(f"{path}: not a file that facedet bench --json writes ({reason})") from error


def _checked_times(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError("it has something else than rows")
    for name, kinds in _TIMES.items():
        if name not in row or type(row[name]) not in kinds:
            raise ValueError(f"{name} is missing or of another kind")
    for name in ("median_ms", "p95_ms"):
        if not 1e-9 < row[name] < 1e15:
            raise ValueError(f"{name} is no time in milliseconds")
    return row
