"""Converts weights of biubug6/Pytorch_Retinaface into a checkpoint for this project's configs.

Example:
    python tools/convert_retinaface.py configs/retinaface_mnet0.25.py mobilenet0.25_Final.pth retinaface_mnet0.25.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.system.dependencies import missing_dependency


def main() -> int:
    """Converts one file of weights."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config of the same model, configs/retinaface_*.py")
    parser.add_argument("src", type=Path, help="the authors' weights, .pth")
    parser.add_argument("dst", type=Path, help="checkpoint to write, .pth")
    args = parser.parse_args()
    try:
        from facedet_mm.plugin.apis.official_retinaface import convert_retinaface
    except ModuleNotFoundError as error:
        raise missing_dependency("reading checkpoints needs PyTorch and MMDetection", "train", error) from error

    state = convert_retinaface(args.config, args.src, args.dst)
    print(f"written: {args.dst} ({len(state)} tensors); loads with {args.config}")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, "convert_retinaface"))
