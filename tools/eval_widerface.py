"""Average precision of a submission folder by the WIDER FACE protocol; the same as ``facedet eval``."""

import argparse
import sys

from facedet_mm.cli import guard
from facedet_mm.cli.eval import add_arguments, run


def main() -> int:
    """Runs the command; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    args = parser.parse_args()
    return guard(lambda: run(args), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
