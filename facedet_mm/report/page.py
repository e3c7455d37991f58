"""The page: one HTML file without scripts that loads nothing from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.version import __version__

if TYPE_CHECKING:
    from facedet_mm.report.results import Report

__all__ = ["render"]


def check_packages() -> None:
    """Checks before any work that the packages that make the page are installed.

    Raises:
        MissingDependencyError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing_dependency("the report needs jinja2 and matplotlib", "plot", error) from error


def render(report: Report, out: Path) -> str:
    """Returns the page as HTML.

    Args:
        report: The runs and their outcomes.
        out: Path of the page, from which links lead to the images.

    Raises:
        MissingDependencyError: jinja2 or matplotlib is not installed.

    Example:
        >>> from facedet_mm.report.logs import RunLog
        >>> from facedet_mm.report.results import Options, Report
        >>> from facedet_mm.report.runs import Run
        >>> run = Run("<b>", Path("b"), RunLog([{"step": 50, "epoch": 1, "loss": 2.0}]), None, [])
        >>> page = render(Report.of([run], None, None, Options()), Path("b.html"))
        >>> page[:15], "&lt;b&gt;" in page, "<b>" in page
        ('<!doctype html>', True, False)
    """
    check_packages()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from facedet_mm.report import sections
    from facedet_mm.report.figures import run_style
    from facedet_mm.report.galleries import galleries
    from facedet_mm.report.summary import summarize

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts = (sections.training(report), sections.precision_recall(report), sections.recall(report))
    page = environment.get_template("page.html").render(
        version=__version__,
        css=(folder / "page.css").read_text(encoding="utf-8"),
        score_thr=report.options.score_thr,
        runs=[run.name for run in report.runs],
        run_style=run_style,
        summary=summarize(report),
        charts=[section for section in charts if section],
        galleries=galleries(report, out),
        speed=sections.speed(report),
    )
    return page.encode("utf-8", "replace").decode()  # a file name may hold bytes that are not text
