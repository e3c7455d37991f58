"""Shows how training pipelines redistribute samples: face sizes after the pipeline, and positive anchors per stride.

Compares configs: by default SCRFD's crops of up to twice the short side with crops of at most the short side.

Example:
    python tools/analysis/sample_redistribution.py --json sizes.json --plot sizes.png
    python tools/analysis/sample_redistribution.py configs/scrfd_*.py --cfg-options data_root=data/wider
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from facedet_mm.cli import guard
from facedet_mm.cli.arguments import positive
from facedet_mm.cli.parsing import Parser
from facedet_mm.report.plots import check_plot
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.files import atomic_path, write_text

try:
    from mmengine.config import DictAction

    from facedet_mm.plugin.apis.build import load_config
    from facedet_mm.plugin.datasets.redistribution import sample_statistics
except ModuleNotFoundError as error:
    sys.exit(f"sample_redistribution: error: {missing_dependency('assigning anchors needs PyTorch', 'train', error)}")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def main() -> int:
    """Prints the tables and returns the exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "configs", nargs="*", type=Path, help="configs to compare",
        default=[CONFIGS / "ablation" / "crop_scales_1.0.py", CONFIGS / "scrfd_2.5g.py"],
    )  # fmt: skip
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE",
        help="change entries of all configs; data_root=DIR moves all data",
    )  # fmt: skip
    parser.add_argument(
        "--draws", type=positive, default=1, metavar="N", help="number of random crops per image (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the crops (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot the numbers as .png, .pdf or .svg")
    args = parser.parse_args()
    if args.plot:
        check_plot(args.plot)
    policies = {
        path.stem: sample_statistics(load_config(path, args.cfg_options), args.draws, args.seed)
        for path in args.configs
    }
    print("\n".join(tables(policies)))
    if args.json:
        write_text(args.json, json.dumps(policies, indent=2) + "\n")
    if args.plot:
        plot(policies, args.plot)
    return 0


def tables(policies: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yields the lines of two tables: one row per config, and one row per config and stride."""
    yield f"{'faces after the pipeline':26}{'per crop':>10}{'< 8 px':>9}{'< 16 px':>9}{'< 32 px':>9}"
    for name, row in policies.items():
        below = "".join(f"{100 * share:8.1f}%" for share in row["below"].values())
        yield f"{name:26}{row['faces'] / row['samples']:10.2f}{below}"
    yield f"\n{'positive anchors':26}{'stride':>8}{'share':>9}{'per crop':>10}{'per face':>10}{'faces with one':>16}"
    for name, row in policies.items():
        for stride, cell in row["strides"].items():
            yield (
                f"{name:26}{stride:8}{100 * cell['share']:8.1f}%{cell['per_sample']:10.2f}{cell['per_face']:10.2f}"
                f"{100 * cell['faces']:15.1f}%"
            )
        total = row["positives_per_face"]
        per_crop = total * row["faces"] / row["samples"]
        yield f"{name:26}{'all':>8}{'':9}{per_crop:10.2f}{total:10.2f}{100 * (1 - row['without']):15.1f}%"


def plot(policies: dict[str, dict[str, Any]], path: Path) -> None:
    """Plots the distribution of face sizes on the left, positives per crop at each stride on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    sizes, strides = figure.subplots(1, 2)
    width = 0.8 / len(policies)
    for i, (name, row) in enumerate(policies.items()):
        edges = [*row["size_edges"], "∞"]
        shares = [100 * count / row["faces"] for count in row["size_counts"]]
        sizes.bar([x + i * width for x in range(len(shares))], shares, width, label=name)
        heights = [stride["per_sample"] for stride in row["strides"].values()]
        strides.bar([x + i * width for x in range(len(heights))], heights, width, label=name)
    middle = 0.4 - width / 2
    names = [f"{low}–{high}" for low, high in pairwise(edges)]
    sizes.set_xticks([x + middle for x in range(len(names))], names, rotation=45)
    sizes.set(xlabel="face size √(w·h) in pixels of the input", ylabel="% of faces")
    strides.set_xticks([x + middle for x in range(len(heights))], [str(stride) for stride in row["strides"]])
    strides.set(xlabel="stride", ylabel="positive anchors per crop")
    sizes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


if __name__ == "__main__":
    sys.exit(guard(main, "sample_redistribution"))
