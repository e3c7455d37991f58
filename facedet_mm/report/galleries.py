"""The parts of the page with crops, as values for the template."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from facedet_mm.report.results import Report
from facedet_mm.report.shots import Shot

__all__ = ["galleries", "link"]


@dataclass(frozen=True)
class Figure:
    """A miss or a false alarm with its text.

    Attributes:
        shot: The box and what lies around it.
        text: What is known about it, in words.
        address: Link from the page to the image; empty without one.
    """

    shot: Shot
    text: str
    address: str


@dataclass(frozen=True)
class Gallery:
    """The misses or the false alarms of all runs.

    Attributes:
        kind: ``misses`` or ``alarms``.
        runs: Number, name and figures of each run with predictions.
        warning: What the reader must know; empty for nothing.
    """

    kind: str
    runs: Sequence[tuple[int, str, Sequence[Figure]]]
    warning: str


def galleries(report: Report, out: Path) -> list[Gallery]:
    """Returns the worst misses and the most confident false alarms.

    Args:
        report: The runs and their outcomes.
        out: Path of the page, from which links lead to the images.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> galleries(Report([], [], None, None, Options()), Path("report.html"))
        []
    """
    outcomes = report.outcomes()
    if not outcomes:
        return []
    return [
        _gallery("misses", [(run, name, scored.misses) for run, name, scored in outcomes], report, out),
        _gallery("alarms", [(run, name, scored.alarms) for run, name, scored in outcomes], report, out),
    ]


def link(path: Path, page: Path) -> str:
    """Returns the percent-encoded link from a page to a file.

    Example:
        >>> link(Path("/data/a b.jpg"), Path("/out/report.html"))
        '../data/a%20b.jpg'
    """
    try:
        relative = os.path.relpath(path.resolve(), page.resolve().parent)
    except ValueError:  # another drive
        return path.resolve().as_uri()
    return quote(Path(relative).as_posix())


def _gallery(kind: str, runs: Sequence[tuple[int, str, Sequence[Shot]]], report: Report, out: Path) -> Gallery:
    figures = [(run, name, [_figure(run, shot, report, out) for shot in shots]) for run, name, shots in runs]
    return Gallery(kind, figures, _warning(report, [shot for _, _, shots in runs for shot in shots]))


def _warning(report: Report, shots: Sequence[Shot]) -> str:
    if report.images is None:
        return "Without --images there are no crops."
    lacking = sorted({shot.key for shot in shots if shot.crop is None})
    if not lacking:
        return ""
    return (
        f"{len(lacking)} images are missing or damaged in {report.images.folder} (the first is {lacking[0]}), so their "
        "crops are left out."
    )


def _figure(run: int, shot: Shot, report: Report, out: Path) -> Figure:
    path = None if report.images is None or shot.crop is None else report.images.path(shot.key)
    text = ". ".join(filter(None, [shot.text, _finders(run, shot, report)]))
    return Figure(shot, f"{text}.", "" if path is None else link(path, out))


def _finders(run: int, shot: Shot, report: Report) -> str:
    """Returns the scores with which the run and the others find a missed face at a lower threshold."""
    if shot.face is None:
        return ""
    scores = {i: float(scored.found_scores[shot.face]) for i, _, scored in report.outcomes()}
    own = scores.pop(run)
    parts = [f"Found at {own:.3f}" if math.isfinite(own) else "Not found at any score"]
    for i, score in scores.items():
        parts.append(f"{report.runs[i].name}: {score:.3f}" if math.isfinite(score) else f"{report.runs[i].name}: not")
    return "; ".join(parts)
