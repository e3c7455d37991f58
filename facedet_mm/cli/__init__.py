"""The command line ``facedet``; each command is a module with ``add_arguments`` and ``run``. Imported by tools only."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from facedet_mm.cli.console import detector_log, patient_console
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import FaceDetError, MissingDependencyError
from facedet_mm.system.text import one_line
from facedet_mm.version import __version__

COMMANDS = {
    "detect": "find faces in images",
    "video": "find and track faces in videos, cameras and streams",
    "bench": "time a model on this machine",
    "eval": "score a folder of WIDER FACE predictions",
    "robustness": "score a model on corrupted WIDER FACE images",
    "report": "make one page about runs: curves, recall, misses, false alarms",
    "track-eval": "score tracks by HOTA, MOTA and IDF1",
    "export": "turn a checkpoint into an ONNX file",
    "quantize": "turn an ONNX file into an INT8 file",
    "data": "check, describe, convert, split and show annotated data sets",
    "models": "list, describe and download models",
    "doctor": "check the installation and show fixes",
    "completion": "print the completion script of a shell",
}
"""Command → one line of help; the command ``x`` is the module ``facedet_mm.cli.x``, imported only when needed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0, 1 (:class:`FaceDetError`), 2 (usage) or 130 (Ctrl-C)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    wanted = next((word for word in argv if not word.startswith("-")), "")

    def run() -> int:
        args = build_parser(wanted).parse_args(argv)
        return int(_module(args.command).run(args))

    return guard(run, f"facedet {wanted}".rstrip())


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """Returns the parser. Only the command ``wanted`` gets its arguments, which imports it; ``None`` means all."""
    parser = Parser(
        prog="facedet",
        description="Face detection with SCRFD and YuNet.",
        epilog="facedet COMMAND --help describes a command.",
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
    """Calls ``run`` and turns a user's mistake, Ctrl-C or a closed pipe into a line on stderr and an exit status.

    The signals that ask a process to end, sent by ``timeout``, Docker or a closed terminal, act like Ctrl-C. If
    standard output is closed or full, ``run`` goes on, so that its files are written, and the exit status is 1.
    """
    if threading.current_thread() is threading.main_thread():
        for ending in ("SIGTERM", "SIGHUP"):
            if (number := getattr(signal, ending, None)) and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
    with patient_console() as console, detector_log(name):
        stop = None
        try:
            status = _guarded(run, name)
        except SystemExit as error:  # argparse has printed the help or what is wrong with the words
            sys.stdout.flush()
            stop, status = error, int(bool(error.code))
        if failure := console.failure():
            _silence()
            print(f"{name}: error: standard output: {failure}", file=sys.stderr)
        if stop and (stop.code or not failure):
            raise stop
        return status or int(failure is not None or console.errors_lost())


def _guarded(run: Callable[[], int], name: str) -> int:
    try:
        status = run()
        sys.stdout.flush()
        return status
    except FaceDetError as error:
        print(f"{name}: error: {one_line(_module('arguments').command_line_words(str(error)))}", file=sys.stderr)
        if isinstance(error, MissingDependencyError) and "facedet doctor" not in str(error):
            print("facedet doctor says what is installed, what is missing and how to fix it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"{name}: error: not enough memory: {one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        _silence()
        if not isinstance(error, BrokenPipeError):
            place = f"{error.filename}: " if error.filename else ""
            print(f"{name}: error: {one_line(f'{place}{error.strerror or error}')}", file=sys.stderr)
        return 1


def _silence() -> None:
    """Discards the rest of standard output, which may be closed or full."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
