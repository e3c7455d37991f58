"""Checks a WIDER FACE folder, unpacks its archives and says what is missing and where to get it.

Example:
    python tools/dataset/prepare_wider.py data/wider_face
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.datasets.prepare import prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when everything that training and evaluation need is there, else 1."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "root",
        type=Path,
        nargs="?",
        default=Path("data/wider_face"),
        help="folder of the data set (default: %(default)s)",
    )
    parser.add_argument("--downloads", type=Path, help="folder of the archives (default: the folder of the data set)")
    parser.add_argument("--check-only", action="store_true", help="check without unpacking")
    args = parser.parse_args(argv)
    return guard(lambda: run(args), "prepare_wider.py")


def run(args: argparse.Namespace) -> int:
    """Prints one line per part."""
    ready = True
    for finding in prepare(args.root, args.downloads, not args.check_only):
        state = "ok" if finding.complete else "optional" if finding.part.optional else "MISSING"
        print(f"{state:8}  {finding.part.title}: {finding.text}", flush=True)
        ready &= finding.complete or finding.part.optional
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
