"""The page: one HTML file without scripts that loads nothing from anywhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

from facedet_mm import __version__
from facedet_mm.report import galleries, sections
from facedet_mm.report.parts import swatch
from facedet_mm.report.results import Report
from facedet_mm.report.summary import summary

__all__ = ["render"]

_STYLE = Path(__file__).with_name("page.css")


def render(report: Report, out: Path) -> str:
    """The page as HTML.

    Args:
        report: what it shows.
        out: where it will be, so that links to the images lead there.

    Example:
        >>> from facedet_mm.report.results import Options
        >>> from facedet_mm.report.logs import RunLog
        >>> from facedet_mm.report.runs import Run
        >>> run = Run("<b>", Path("b"), RunLog([{"step": 50, "epoch": 1, "loss": 2.0}]), None, [])
        >>> page = render(Report.of([run], None, None, Options()), Path("b.html"))
        >>> page[:15], "&lt;b&gt;" in page, "<b>" in page
        ('<!doctype html>', True, False)
    """
    title = "Report: " + ", ".join(run.name for run in report.runs)
    legend = "".join(f"<li>{swatch(i)}{escape(run.name)}</li>" for i, run in enumerate(report.runs))
    parts = [
        summary(report),
        sections.training(report),
        sections.curves(report),
        sections.recall(report),
        galleries.misses(report, out),
        galleries.alarms(report, out),
        sections.speed(report),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="note">Made by facedet-mm {escape(__version__)}.</p>
<ul class="legend" aria-label="runs and their colors">{legend}</ul>
<main>
{"".join(parts)}
</main>
</body>
</html>
"""
