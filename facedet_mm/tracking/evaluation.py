"""Scores tracks by HOTA, MOTA and IDF1 with TrackEval (https://github.com/JonathonLuiten/TrackEval)."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet_mm.errors import AnnotationError
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.tracking.mot import find_files

__all__ = ["TrackScores", "score_tracks"]

_MOST_FRAMES = 10_000_000


@dataclass(frozen=True)
class TrackScores:
    """The scores of one video, or of several together.

    Attributes:
        hota: Higher order tracking accuracy, the mean over its thresholds, in [0, 1].
        mota: Multi-object tracking accuracy, at most 1.
        idf1: F1 score of the identities, in [0, 1].
        switches: Number of times that the track ID of a person changed.
        tracks: Number of track IDs in the results.

    Example:
        >>> TrackScores(0.6, 0.7, 0.8, switches=3, tracks=12).hota
        0.6
    """

    hota: float
    mota: float
    idf1: float
    switches: int
    tracks: int


def score_tracks(results: str | os.PathLike[str], ground_truth: str | os.PathLike[str]) -> dict[str, TrackScores]:
    """Scores MOTChallenge files against ground-truth files with the same names.

    Args:
        results: Text file with lines ``frame,id,left,top,width,height,score,…``, or a folder of such files.
        ground_truth: Text file with lines ``frame,id,left,top,width,height,mark,class,visibility``, or a folder of
            such files; as in MOTChallenge, lines with class 1 and mark 1 count.

    Returns:
        Name of the video → scores, and ``'all'`` → the scores of all videos together.

    Raises:
        AnnotationError: A file is missing or malformed.
        MissingDependencyError: TrackEval is not installed.

    Example:
        >>> score_tracks("no such folder", "gt")
        Traceback (most recent call last):
        facedet_mm.errors.AnnotationError: no such folder: no such file or folder
    """
    tracks, truths = _files(results), _files(ground_truth)
    if missing := sorted(truths.keys() - tracks.keys()):
        raise AnnotationError(f"{results}: no file for {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "results", "ours", "data")
        data.mkdir(parents=True)
        Path(scratch, "gt").mkdir()
        lengths = {}
        for name, path in truths.items():
            lengths[name] = max(_last_frame(path), _last_frame(tracks[name]))
            shutil.copyfile(path, Path(scratch, "gt", f"{name}.txt"))
            shutil.copyfile(tracks[name], data / f"{name}.txt")
        found = _trackeval(Path(scratch), lengths)
    return {"all" if name == "COMBINED_SEQ" else name: _scores(found[name]["pedestrian"]) for name in found}


def _files(place: str | os.PathLike[str]) -> dict[str, Path]:
    files = find_files(place)
    return {file.stem: file for file in files} if Path(place).is_dir() else {"video": files[0]}


def _last_frame(path: Path) -> int:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return max((_frame(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()), default=0)


def _frame(path: Path, number: int, line: str) -> int:
    try:
        values = [float(value) for value in line.split(",")]
        if len(values) < 7 or not all(map(math.isfinite, values)):
            raise ValueError("fewer than 7 values, or one that is not a number")
        if not 1 <= values[0] <= _MOST_FRAMES:
            raise ValueError(f"frames count from 1 to {_MOST_FRAMES}")
        return int(values[0])
    except ValueError as error:
        raise AnnotationError(
            f"{path}, line {number}: expected frame,id,left,top,width,height,score,…: {error}"
        ) from error


def _trackeval(folder: Path, lengths: dict[str, int]) -> dict[str, Any]:
    try:
        import trackeval
    except ImportError as error:
        raise missing_dependency("scoring tracks needs TrackEval", "track-eval", error) from error
    settings: dict[str, Any] = {"PRINT_RESULTS": False, "PRINT_CONFIG": False, "TIME_PROGRESS": False}
    settings |= {"PLOT_CURVES": False, "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False, "LOG_ON_ERROR": None}
    source = {
        "GT_FOLDER": str(folder / "gt"),
        "GT_LOC_FORMAT": "{gt_folder}/{seq}.txt",
        "TRACKERS_FOLDER": str(folder / "results"),
        "OUTPUT_FOLDER": str(folder),
        "SEQ_INFO": lengths,
        "SKIP_SPLIT_FOL": True,
        "PRINT_CONFIG": False,
    }
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(), trackeval.metrics.Identity()]
            dataset = trackeval.datasets.MotChallenge2DBox(source)
            found, _ = trackeval.Evaluator(settings).evaluate([dataset], metrics)
        except trackeval.utils.TrackEvalException as error:
            raise AnnotationError(f"TrackEval refuses the files: {error}") from error
    scores: dict[str, Any] = found["MotChallenge2DBox"]["ours"]
    return scores


def _scores(found: dict[str, Any]) -> TrackScores:
    return TrackScores(
        hota=float(found["HOTA"]["HOTA"].mean()),
        mota=float(found["CLEAR"]["MOTA"]),
        idf1=float(found["Identity"]["IDF1"]),
        switches=int(found["CLEAR"]["IDSW"]),
        tracks=int(found["Count"]["IDs"]),
    )
