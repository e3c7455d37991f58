"""Draws the losses and the WIDER FACE AP of one or several runs.

Example:
    python tools/analysis/plot_run.py work_dirs/scrfd_0.5g/*/vis_data/scalars.json --out curves.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from facedet_mm.cli import guard
from facedet_mm.errors import AnnotationError
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
    for log in logs:
        train, val = read_log(log)
        label = f"{log.stem} " if len(logs) > 1 else ""
        for name in [key for key in (train[0] if train else {}) if key.startswith("loss")]:
            steps = [row["step"] * last_epoch(train) / train[-1]["step"] for row in train]
            losses.plot(steps, [row[name] for row in train], label=label + name)
        for name in SETTINGS:
            key = f"wider_face/{name}"
            rows = [row for row in val if key in row]
            accuracy.plot([row["step"] for row in rows], [100 * row[key] for row in rows], "o-", label=label + name)
    losses.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    accuracy.set(xlabel="epoch", ylabel="AP in percent", ylim=(0, None))
    for axes in (losses, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=100)
    return 0


def read_log(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of training and of validation.

    Raises:
        AnnotationError: the file is missing or no such log.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [row for row in rows if "loss" in row], [row for row in rows if "loss" not in row]
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise AnnotationError(f"{path}: no log of a run (vis_data/scalars.json): {error}") from error


def last_epoch(train: list[dict[str, Any]]) -> int:
    """The epoch of the last row."""
    return int(train[-1].get("epoch", train[-1]["step"]))


if __name__ == "__main__":
    sys.exit(main())
