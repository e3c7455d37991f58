"""Plots as image files: precision over recall, and AP over time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.ground_truth import SETTINGS
from facedet_mm.errors import FaceDetError
from facedet_mm.evaluation.wider_face import WiderFaceResult
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEVICES_WITHOUT_NUMBER = ("cpu", "openvino")
"""Devices that the name of the backend already tells."""
_SUFFIXES = (".png", ".pdf", ".svg")


def check_plot(path: str | os.PathLike[str]) -> None:
    """Checks before any work that a plot can be drawn to ``path``.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: The suffix is none of .png, .pdf, .svg.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing_dependency("plots need matplotlib", "plot", error) from error
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise FaceDetError(f"cannot draw to {os.fspath(path)}: its name must end in {', '.join(_SUFFIXES)}")


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure atomically.

    Raises:
        FaceDetError: The file can't be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def plot_curves(result: WiderFaceResult, path: str | os.PathLike[str]) -> None:
    """Draws the precision-recall curve of each setting with its AP in percent.

    Args:
        result: Outcome of an evaluation.
        path: A .png, .pdf or .svg file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: The suffix is none of .png, .pdf, .svg, or the file can't be written.
    """
    check_plot(path)
    figure = new_figure(6, 4.5)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    axes.grid(alpha=0.3)
    for name, setting in result.settings.items():
        axes.plot(setting.recall, setting.precision, label=f"{name}  AP {100 * setting.ap:.2f}")
    axes.legend(loc="lower left")
    save_figure(figure, path)


def plot_face_sizes(sizes: Mapping[str, NDArray[np.float64]], path: str | os.PathLike[str]) -> None:
    """Draws a histogram of face sizes with a logarithmic axis, one outline per entry.

    Args:
        sizes: Label → sizes in pixels.
        path: A .png, .pdf or .svg file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: The suffix is none of .png, .pdf, .svg, or the file can't be written.
    """
    check_plot(path)
    figure = new_figure(6, 4)
    axes = figure.add_subplot(xlabel="face size √(width × height) in pixels", ylabel="faces", xscale="log")
    everything = np.concatenate([np.zeros(0), *sizes.values()])
    everything = everything[everything > 0]
    low, high = (everything.min(), everything.max()) if len(everything) else (1, 1000)
    edges = 2.0 ** (np.arange(np.floor(2 * np.log2(low)), np.ceil(2 * np.log2(high)) + 2) / 2)
    for label, values in sizes.items():
        axes.hist(values, bins=edges.tolist(), histtype="step", linewidth=1.5, label=label)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend()
    save_figure(figure, path)


def plot_speed(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws AP over the time per call, one panel per setting and one line through the sizes of each model.

    Args:
        rows: Rows of the table with ``model``, ``backend``, ``device``, ``precision``, ``size``, ``mean_ms``, and
            ``ap`` in percent by setting.
        path: A .png, .pdf or .svg file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: The suffix is none of .png, .pdf, .svg, or the file can't be written.
    """
    check_plot(path)
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        named = row["device"] in _DEVICES_WITHOUT_NUMBER or row["device"] == row["backend"].lower()
        device = "" if named else f" on {row['device']}"
        lines.setdefault("{model}, {backend} {precision}".format(**row) + device, []).append(row)
    figure = new_figure(13, 5 + 0.2 * len(lines))
    panels = figure.subplots(1, len(SETTINGS))
    for axes, setting in zip(panels, SETTINGS, strict=True):
        axes.set(xscale="log", title=setting, xlabel="milliseconds per call", ylabel="AP (%)")
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
    save_figure(figure, path)
