"""``facedet``: the command line. Each command is a module with ``add_arguments`` and ``run``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from facedet_mm import __version__
from facedet_mm.errors import FaceDetError, MissingDependencyError

COMMANDS = {
    "detect": "find faces in pictures",
    "video": "find and follow faces in videos, cameras and streams",
    "bench": "time a model on this machine",
    "eval": "score a folder of WIDER FACE predictions",
    "robustness": "score a model on blurred, dark, noisy and half hidden WIDER FACE pictures",
    "report": "show runs on one page: curves, recall, misses, false alarms",
    "track-eval": "score tracks by HOTA, MOTA and IDF1",
    "export": "turn a checkpoint into an ONNX file",
    "quantize": "make an INT8 file of an ONNX file",
    "models": "list, describe and fetch models",
    "doctor": "check the installation and say what mends it",
    "completion": "print a shell's completion script",
}
"""Command → one line of help; the command ``x`` lives in ``facedet_mm.cli.x``, imported only when asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status (0 fine, 1 a :class:`FaceDetError`, 2 usage, 130 Ctrl-C)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    wanted = next((word for word in argv if not word.startswith("-")), "")
    parser = build_parser(wanted)
    args = parser.parse_args(argv)
    module = _module(args.command)
    return guard(lambda: module.run(args), f"facedet {args.command}")


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser; only the command ``wanted`` has its arguments, which takes an import; ``None`` is all of them."""
    parser = argparse.ArgumentParser(
        prog="facedet", description="Face detection with SCRFD and YuNet.", epilog="facedet COMMAND --help says more."
    )
    parser.add_argument("--version", action="version", version=f"facedet-mm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if wanted in (None, name):
            _module(name).add_arguments(sub)
    return parser


def _module(command: str) -> Any:
    return importlib.import_module(f"facedet_mm.cli.{command.replace('-', '_')}")


def guard(run: Callable[[], int], name: str) -> int:
    """Runs ``run`` and turns a user's mistake, Ctrl-C or a closed pipe into a line on stderr and a status."""
    try:
        return run()
    except FaceDetError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        if isinstance(error, MissingDependencyError) and "facedet doctor" not in str(error):
            print("facedet doctor says what is installed, what is missing and what mends it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
