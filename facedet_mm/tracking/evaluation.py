"""Scores tracks by HOTA, MOTA and IDF1 with TrackEval (https://github.com/JonathonLuiten/TrackEval)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet_mm.errors import AnnotationError
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.files import write_text
from facedet_mm.tracking.mot import find_files, read_rows

__all__ = ["TrackScores", "score_tracks"]


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
        names = {f"video{i}": name for i, name in enumerate(truths, 1)}  # TrackEval makes paths of them
        lengths = {
            plain: write_numbered_anew(
                truths[name], tracks[name], Path(scratch, "gt", f"{plain}.txt"), data / f"{plain}.txt"
            )
            for plain, name in names.items()
        }
        found = _trackeval(Path(scratch), lengths)
    return {names.get(name, "all"): _scores(found[name]["pedestrian"]) for name in found}


def _files(place: str | os.PathLike[str]) -> dict[str, Path]:
    files = find_files(place)
    return {file.stem: file for file in files} if Path(place).is_dir() else {"video": files[0]}


def write_numbered_anew(truth: Path, tracks: Path, truth_out: Path, tracks_out: Path) -> int:
    """Writes both files of a video for TrackEval: frames without lines left out, IDs numbered from 1.

    TrackEval's memory and time grow with the largest frame number and ID, whatever a file names; its scores depend on
    neither the numbers nor the empty frames.

    Returns:
        Number of frames.

    Raises:
        AnnotationError: A file is malformed, or a line has no track ID.
    """
    files = [(path, list(read_rows(path))) for path in (truth, tracks)]
    frames = {frame: i for i, frame in enumerate(sorted({row.frame for _, rows in files for row in rows}), 1)}
    for (path, rows), target in zip(files, (truth_out, tracks_out), strict=True):
        for row in rows:
            if row.track_id < 0:
                raise AnnotationError(f"{path}, line {row.line}: expected a track ID from 0, not {row.track_id}")
        ids = {track: i for i, track in enumerate(sorted({row.track_id for row in rows}), 1)}
        lines = (",".join(map(repr, (frames[r.frame], ids[r.track_id], *r.box, *r.others))) for r in rows)
        write_text(target, "".join(f"{line}\n" for line in lines))
    return len(frames)


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
