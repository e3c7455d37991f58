"""Precision over recall as a picture; needs matplotlib."""

from __future__ import annotations

import os
from pathlib import Path

from facedet_mm.errors import FaceDetError
from facedet_mm.evaluation.wider_face import WiderFaceResult
from facedet_mm.features import missing_dependency
from facedet_mm.files import atomic_path

_FORMATS = (".png", ".pdf", ".svg")


def check_plot(path: str | os.PathLike[str]) -> None:
    """Says before any work whether :func:`plot_curves` can draw to ``path``.

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
