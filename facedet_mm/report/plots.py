"""Precision over recall, and AP over time, as images; needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facedet_mm.datasets.ground_truth import SETTINGS
from facedet_mm.errors import FaceDetError
from facedet_mm.evaluation.wider_face import WiderFaceResult
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.files import atomic_path

_ITS_ONLY_ONE = ("cpu", "openvino", "trt")
"""Devices that go without saying."""
_FORMATS = (".png", ".pdf", ".svg")


def check_plot(path: str | os.PathLike[str]) -> None:
    """Says before any work whether a plot can be drawn to ``path``.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: the suffix is none of .png, .pdf, .svg.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing_dependency("plots need matplotlib", "plot", error) from error
    if Path(path).suffix.lower() not in _FORMATS:
        raise FaceDetError(f"cannot draw to {os.fspath(path)}: its name must end in {', '.join(_FORMATS)}")


def plot_curves(result: WiderFaceResult, path: str | os.PathLike[str]) -> None:
    """Draws the precision–recall curve of each setting with its AP in percent, and writes it atomically.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: the suffix is none of .png, .pdf, .svg, or the file can't be written.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    axes.grid(alpha=0.3)
    for name, setting in result.settings.items():
        axes.plot(setting.recall, setting.precision, label=f"{name}  AP {100 * setting.ap:.2f}")
    axes.legend(loc="lower left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def plot_speed(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws AP over the time of a call, a panel for each setting and a line through the sizes of each model.

    Args:
        rows: of the table: ``model``, ``backend``, ``device``, ``precision``, ``size``, ``mean_ms``, and ``ap`` in
            percent by setting.
        path: a .png, .pdf or .svg file; written atomically.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: the suffix is none of .png, .pdf, .svg, or the file can't be written.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        device = "" if row["device"] in _ITS_ONLY_ONE else f" on {row['device']}"
        lines.setdefault("{model}, {backend} {precision}".format(**row) + device, []).append(row)
    figure = Figure(figsize=(13, 5 + 0.2 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(SETTINGS))
    for axes, setting in zip(panels, SETTINGS, strict=True):
        axes.set(xscale="log", title=setting, xlabel="milliseconds a call", ylabel="AP (%)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        for number, (label, points) in enumerate(lines.items()):
            points = sorted(points, key=lambda row: row["size"])
            times, aps = [row["mean_ms"] for row in points], [row["ap"][setting] for row in points]
            axes.plot(times, aps, marker="osD^vP*X"[number // 10 % 8], label=label)
        for row in next(iter(lines.values())):
            axes.annotate(row["size"], (row["mean_ms"], row["ap"][setting]), (4, 4), textcoords="offset points")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
