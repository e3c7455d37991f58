"""The results of the corruption benchmark as a heat map; needs matplotlib."""

from __future__ import annotations

import os

import numpy as np

from facedet_mm.benchmark.results import Results
from facedet_mm.benchmark.robustness import CLEAN, Cell
from facedet_mm.datasets.ground_truth import SETTINGS
from facedet_mm.report.plots import check_plot, new_figure, save_figure

_LEAST_SPAN = 10.0
"""Smallest loss of AP, in points, that has the darkest color, so that noise does not look like a loss."""


def plot_heat_map(results: Results, path: str | os.PathLike[str]) -> None:
    """Draws one table per setting, severities to the right: numbers are AP in percent, colors the loss of AP.

    Args:
        results: Results that include those on clean images.
        path: A .png, .pdf or .svg file; written atomically.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FaceDetError: The suffix is none of .png, .pdf, .svg, or the file can't be written.
    """
    check_plot(path)
    cells = [cell for cell in results.cells if cell.severity]
    rows = list(dict.fromkeys(cell.row for cell in cells))
    clean = results.ap[Cell(CLEAN)]
    severities = range(1, 1 + max((cell.severity for cell in cells), default=0))
    ap = np.full((len(SETTINGS), len(rows), len(severities)), np.nan)
    for cell in cells:
        ap[:, rows.index(cell.row), cell.severity - 1] = [100 * results.ap[cell][setting] for setting in SETTINGS]
    lost = 100 * np.array([clean[setting] for setting in SETTINGS])[:, None, None] - ap
    span = max(_LEAST_SPAN, np.nanmax(lost, initial=0.0))

    figure = new_figure(9, 1.4 + 0.4 * len(rows))
    panels = figure.subplots(1, len(SETTINGS), sharey=True)
    for axes, setting, values, colors in zip(panels, SETTINGS, ap, lost, strict=True):
        image = axes.imshow(colors, cmap="Reds", vmin=0, vmax=span, aspect="auto")
        axes.set_title(f"{setting}, clean {100 * clean[setting]:.1f}")
        axes.set_xticks(range(len(severities)), severities)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("severity")
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "white" if colors[y, x] > 0.6 * span else "black"
                axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=color)
    figure.colorbar(image, ax=panels, label="AP lost, points")
    save_figure(figure, path)
