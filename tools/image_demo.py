"""Finds faces in images; the same as ``facedet detect``.

Example:
    python tools/image_demo.py photo.jpg --out outputs
"""

import argparse
import sys

from facedet_mm.cli import guard
from facedet_mm.cli.detect import add_arguments, run


def main() -> int:
    """Runs the command; gives the exit status."""
    parser = argparse.ArgumentParser(description="Finds faces in images; the same as facedet detect.")
    add_arguments(parser)
    args = parser.parse_args()
    return guard(lambda: run(args), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
