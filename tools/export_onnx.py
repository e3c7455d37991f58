"""Exports a checkpoint to ONNX and compares the file with PyTorch; the same as ``facedet export``.

Example:
    python tools/export_onnx.py configs/scrfd_0.5g_kps.py epoch_640.pth -o model.onnx --dynamic batch,height,width
"""

import argparse
import sys

from facedet_mm.cli import guard
from facedet_mm.cli.export import add_arguments, run


def main() -> int:
    """Runs the command; gives the exit status."""
    parser = argparse.ArgumentParser(description="Exports a checkpoint to ONNX; the same as facedet export.")
    add_arguments(parser)
    args = parser.parse_args()
    return guard(lambda: run(args), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
