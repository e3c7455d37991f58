"""``facedet``: the command line. Each command is a module with ``add_arguments`` and ``run``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from facedet_mm import __version__
from facedet_mm.errors import FaceDetError, MissingDependencyError

COMMANDS = {
    "detect": "find faces in images",
    "video": "find and follow faces in videos, cameras and streams",
    "bench": "time a model on this machine",
    "eval": "score a folder of WIDER FACE predictions",
    "robustness": "score a model on blurred, dark, noisy and half hidden WIDER FACE images",
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

    def run() -> int:
        args = build_parser(wanted).parse_args(argv)
        return int(_module(args.command).run(args))

    return guard(run, f"facedet {wanted}".rstrip())


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
    """Runs ``run`` and turns a user's mistake, Ctrl-C or a closed pipe into a line on stderr and a status.

    The signals that ask a process to end, as ``timeout``, Docker and a closed terminal send them, act as Ctrl-C does.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks
    if threading.current_thread() is threading.main_thread():
        for ending in ("SIGTERM", "SIGHUP"):
            if (number := getattr(signal, ending, None)) and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
    try:
        status = run()
        sys.stdout.flush()
        return status
    except FaceDetError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        if isinstance(error, MissingDependencyError) and "facedet doctor" not in str(error):
            print("facedet doctor says what is installed, what is missing and how to fix it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"{name}: error: not enough memory: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        _silence()
        if not isinstance(error, BrokenPipeError):
            place = f"{error.filename}: " if error.filename else ""
            print(f"{name}: error: {place}{error.strerror or error}", file=sys.stderr)
        return 1


def _silence() -> None:
    """Sends what is left for standard output, which may be closed or full, to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
