"""Draws the losses and the WIDER FACE AP of one or several runs.

Example:
    python tools/analysis/plot_run.py work_dirs/scrfd_0.5g/*/vis_data/scalars.json --out curves.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.report.logs import RunLog
from facedet_mm.report.runs import find_runs
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.files import atomic_path

SETTINGS = ("easy", "medium", "hard")


def main() -> int:
    """Runs the tool; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="scalars.json of a run")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .png, .svg or .pdf file")
    args = parser.parse_args()
    return guard(lambda: plot(args.logs, args.out), parser.prog)


def plot(logs: list[Path], out: Path) -> int:
    """Draws ``logs`` into ``out``: losses on the left, AP on the right."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_dependency("drawing needs matplotlib", "plot", error) from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    for run in find_runs(logs):
        label = f"{run.name} " if len(logs) > 1 else ""
        log = run.log or RunLog()
        for name in log.loss_names():
            losses.plot(*log.losses(name), label=label + name)
        for name in SETTINGS:
            accuracy.plot(*log.ap(name), "o-", label=label + name)
    losses.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    accuracy.set(xlabel="epoch", ylabel="AP in percent", ylim=(0, None))
    for axes in (losses, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=100)
    return 0


if __name__ == "__main__":
    sys.exit(main())
