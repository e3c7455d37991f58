"""The parts of the page with crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from facedet_mm.report.crops import Box, Crop, link
from facedet_mm.report.parts import grid, note, section, swatch, warning
from facedet_mm.report.results import Report
from facedet_mm.report.shots import Shot

__all__ = ["alarms", "misses"]


def misses(report: Report, out: Path) -> str:
    """The worst misses of each run; ``out`` is where the page will be.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> misses(Report([], [], None, None, Options()), Path("report.html"))
        ''
    """
    shots = [(i, name, scored.misses) for i, name, scored in report.outcomes()]
    legend = (
        f"Faces that no detection finds with a score of at least {report.options.score_thr:g}: those that count as "
        'easy first, then the tallest. <span class="key"></span> the missed face, <span class="key around"></span> '
        "detections around it."
    )
    return _galleries("Worst misses", legend, shots, report, out)


def alarms(report: Report, out: Path) -> str:
    """The most confident false alarms of each run; ``out`` is where the page will be.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> alarms(Report([], [], None, None, Options()), Path("report.html"))
        ''
    """
    shots = [(i, name, scored.alarms) for i, name, scored in report.outcomes()]
    legend = (
        "Detections that overlap no annotated face enough; some are faces that nobody annotated. "
        '<span class="key"></span> the false alarm, <span class="key around"></span> annotated faces.'
    )
    return _galleries("Most confident false alarms", legend, shots, report, out)


def _galleries(title: str, legend: str, galleries: list[tuple[int, str, list[Shot]]], report: Report, out: Path) -> str:
    if not galleries:
        return ""
    drawn = [
        f'<div><h3>{swatch(run)}{escape(name)}</h3><div class="shots">'
        f"{''.join(_figure(run, shot, report, out) for shot in shots) or note('None.')}</div></div>"
        for run, name, shots in galleries
    ]
    remark = _remark(report, [shot for _, _, shots in galleries for shot in shots])
    return section(title, f'<p class="note">{legend}</p>', remark, grid(drawn))


def _remark(report: Report, shots: Sequence[Shot]) -> str:
    if report.images is None:
        return warning("Without --images there are no crops.")
    lacking = sorted({shot.key for shot in shots if shot.crop is None})
    if not lacking:
        return ""
    return warning(
        f"{len(lacking)} images are missing or damaged in {report.images.folder} (first {lacking[0]}), so their "
        "crops are left out."
    )


def _figure(run: int, shot: Shot, report: Report, out: Path) -> str:
    image = '<span class="none">no image</span>' if shot.crop is None else _image(shot, shot.crop)
    name = f'<span title="{escape(shot.key)}">{escape(shot.key.rpartition("/")[2])}</span>'
    path = None if report.images is None or shot.crop is None else report.images.path(shot.key)
    if path is not None:
        address = escape(link(path, out))
        image, name = f'<a href="{address}">{image}</a>', f'<a href="{address}">{name}</a>'
    text = ". ".join(filter(None, [shot.text, _finders(run, shot, report)]))
    return f"<figure>{image}<figcaption>{escape(text)}.<br>{name}</figcaption></figure>"


def _finders(run: int, shot: Shot, report: Report) -> str:
    """With which score the run, and the others, find a missed face after all."""
    if shot.face is None:
        return ""
    scores = {i: float(scored.found_scores[shot.face]) for i, _, scored in report.outcomes()}
    own = scores.pop(run)
    parts = [f"Found at {own:.3f}" if math.isfinite(own) else "Not found at any score"]
    for i, score in scores.items():
        parts.append(f"{report.runs[i].name}: {score:.3f}" if math.isfinite(score) else f"{report.runs[i].name}: not")
    return "; ".join(parts)


def _image(shot: Shot, crop: Crop) -> str:
    x1, y1, x2, y2 = crop.window
    place = f'x="{x1:g}" y="{y1:g}" width="{x2 - x1:g}" height="{y2 - y1:g}"'
    boxes = "".join(
        f"<g><title>{escape(mark.text)}</title>{_rect('shade', mark.box)}{_rect(f'box {mark.kind}', mark.box)}</g>"
        for mark in (*shot.around, shot.mark)
    )
    return (
        f'<svg class="image" role="img" viewBox="{x1:g} {y1:g} {x2 - x1:g} {y2 - y1:g}" '
        f'aria-label="{escape(f"{shot.mark.text} in {shot.key}")}"><image {place} href="{crop.uri}"/>{boxes}</svg>'
    )


def _rect(classes: str, box: Box) -> str:
    x1, y1, x2, y2 = box
    width, height = max(x2 - x1, 0), max(y2 - y1, 0)
    return f'<rect class="{classes}" x="{x1:.1f}" y="{y1:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
