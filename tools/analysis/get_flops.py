"""Parameters and FLOPs (multiply-adds) of models, counted by mmengine.

Example:
    python tools/analysis/get_flops.py configs/scrfd_34g.py
    python tools/analysis/get_flops.py configs/scrfd_*.py --shape 640 480
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser


def main() -> int:
    """Prints one line per config."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path, help="config files")
    parser.add_argument(
        "--shape", nargs=2, type=int, default=(640, 480), metavar=("W", "H"),
        help="input size in pixels (default: 640 480)",
    )  # fmt: skip
    args = parser.parse_args()

    from facedet_mm.plugin.apis.complexity import complexity

    print(f"{'model':18} {'params (M)':>10} {'GFLOPs':>8}   at {args.shape[0]}x{args.shape[1]}")
    for config in args.configs:
        params, flops = complexity(config, *args.shape)
        print(f"{config.stem:18} {params / 1e6:10.2f} {flops / 1e9:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, "get_flops"))
