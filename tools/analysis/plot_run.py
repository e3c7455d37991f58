"""Draws the losses and the WIDER FACE AP of training runs.

Example:
    python tools/analysis/plot_run.py work_dirs/scrfd_0.5g --out curves.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.datasets.ground_truth import SETTINGS
from facedet_mm.report.logs import RunLog
from facedet_mm.report.plots import check_plot, new_figure, save_figure
from facedet_mm.report.runs import find_runs


def main() -> int:
    """Runs the tool; returns the exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="work directory or log (scalars.json)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .png, .svg or .pdf file")
    args = parser.parse_args()
    return guard(lambda: plot(args.runs, args.out), parser.prog)


def plot(paths: list[Path], out: Path) -> int:
    """Draws the runs at ``paths`` into ``out``: losses on the left, AP on the right."""
    check_plot(out)
    figure = new_figure(10, 4)
    losses, accuracy = figure.subplots(1, 2)
    for run in find_runs(paths):
        prefix = f"{run.name} " if len(paths) > 1 else ""
        log = run.log or RunLog()
        for name in log.loss_names():
            losses.plot(*log.losses(name), label=prefix + name)
        for name in SETTINGS:
            accuracy.plot(*log.ap(name), "o-", label=prefix + name)
    losses.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    accuracy.set(xlabel="epoch", ylabel="AP (%)", ylim=(0, None))
    for axes in (losses, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
