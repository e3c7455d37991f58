"""Feeds damaged and odd files to every reader and reports tracebacks, crashes, hangs and silent differences.

The files are made from small valid ones by seeded mutations, so that every run with the same seed reads the same
files. A reader passes if it accepts a file or refuses it with an error of this package. Where another decoder reads
the same file (Pillow for images, plain PyAV for videos, plain ONNX Runtime for models), both must agree.

The files are read in a process of their own: a file that crashes it, or takes longer than the limit, is reported and
the next process goes on behind it.

Example:
    python tools/analysis/fuzz.py
    python tools/analysis/fuzz.py --kinds image onnx --count 500 --seed 7 --keep outputs/fuzz
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import FaceDetError

KINDS = ("image", "onnx", "checkpoint", "annotation", "video")
START_LIMIT = 120.0
"""Seconds that a new process may take for its imports."""


class Outcome(NamedTuple):
    """What became of one file.

    Attributes:
        kind: One of :data:`KINDS`.
        number: Number of the file in its kind, which with the seed makes the file.
        verdict: ``"read"``, ``"refused"``, or a failure: ``"traceback"``, ``"difference"``, ``"crash"``, ``"hang"``.
        detail: The error or what differs.
        seconds: Time that the reader took.
    """

    kind: str
    number: int
    verdict: str
    detail: str
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether the reader must be fixed."""
        return self.verdict not in ("read", "refused")


def main() -> int:
    """Runs all files; the exit status is 1 if a reader failed."""
    args = parse_args()
    if args.worker:
        return serve(args.worker)
    counts: dict[str, collections.Counter[str]] = {kind: collections.Counter() for kind in args.kinds}
    slowest = dict.fromkeys(args.kinds, 0.0)
    failures = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(kind, n) for n in range(-(-args.count // len(args.kinds))) for kind in args.kinds][: args.count]
        bar = tqdm(jobs, unit="file", disable=not sys.stderr.isatty(), leave=False)
        with Worker(Path(folder), args.limit) as worker:
            for kind, number in bar:
                outcome = worker.try_file(kind, number, args.seed)
                counts[kind][outcome.verdict] += 1
                slowest[kind] = max(slowest[kind], outcome.seconds)
                if outcome.failed:
                    failures.append(outcome)
                    tqdm.write(f"{kind} {number}: {outcome.verdict}: {outcome.detail}")
                    if args.keep:
                        keep(Path(folder), args.keep / f"{kind}_{args.seed}_{number}")
    print(table(counts, slowest))
    print(f"{len(jobs)} files in {time.monotonic() - start:.0f} s, seed {args.seed}: {len(failures)} failures")
    return int(bool(failures))


def parse_args() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of files (default: all)")
    parser.add_argument("--count", type=int, default=2000, help="number of files of all kinds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per file (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy the files that fail into this folder")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.count < 1 or args.limit <= 0:
        raise FaceDetError("--count must be at least 1 and --limit above 0")
    return args


def keep(folder: Path, target: Path) -> None:
    """Copies the files that a reader failed on."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "files", target)


def table(counts: dict[str, collections.Counter[str]], slowest: dict[str, float]) -> str:
    """Returns a table of the verdicts with one row per kind."""
    verdicts = ("read", "refused", "traceback", "difference", "crash", "hang")
    lines = [f"{'':<12}" + "".join(f"{verdict:>12}" for verdict in verdicts) + f"{'slowest (s)':>14}"]
    for kind, counter in counts.items():
        lines.append(f"{kind:<12}" + "".join(f"{counter[v]:>12}" for v in verdicts) + f"{slowest[kind]:>14.2f}")
    return "\n".join(lines)


class Worker:
    """A process that reads files, started again when a file ends it.

    Args:
        folder: Folder for the files.
        limit: Seconds that one file may take.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self._folder = folder
        self._limit = limit
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def try_file(self, kind: str, number: int, seed: int) -> Outcome:
        """Makes and reads one file."""
        process = self._process or self._start()
        assert process.stdin is not None
        start = time.monotonic()
        try:
            process.stdin.write(json.dumps([kind, number, seed]) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=self._limit)
        except (queue.Empty, BrokenPipeError):
            line = ""
        seconds = time.monotonic() - start
        if line:
            verdict, detail, spent = json.loads(line)
            return Outcome(kind, number, verdict, detail, spent)
        status = process.poll()
        self._stop()
        if status is None and seconds >= self._limit:
            return Outcome(kind, number, "hang", f"no answer in {self._limit:g} s", seconds)
        return Outcome(kind, number, "crash", f"the process ended with status {process.returncode}", seconds)

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--worker", str(self._folder)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        self._process, self._lines = process, lines
        if lines.get(timeout=START_LIMIT) != "ready\n":
            raise FaceDetError(f"the process that reads files does not start: {' '.join(command)}")
        return process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def serve(folder: Path) -> int:
    """Makes and reads the files that standard input names, and prints one verdict per file."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not an answer
    from fuzzing.kinds import READERS

    files = folder / "files"
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, number, seed = json.loads(line)
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir(parents=True)
        rng = np.random.default_rng([seed, number, KINDS.index(kind)])
        start = time.monotonic()
        verdict, detail = verdict_of(READERS[kind], files, rng)
        print(json.dumps([verdict, detail, time.monotonic() - start]), file=answers, flush=True)
    return 0


def verdict_of(reader: Any, files: Path, rng: np.random.Generator) -> tuple[str, str]:
    """Returns what a reader does with the file that it makes."""
    try:
        difference = reader(files, rng)
    except FaceDetError as error:
        text = str(error)
        if "\n" in text.strip() and len(text) > 4000:
            return "traceback", f"an error of {len(text)} characters"
        return "refused", text
    except Exception as error:  # anything else is what this program looks for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    return ("difference", difference) if difference else ("read", "")


if __name__ == "__main__":
    sys.exit(guard(main, "fuzz"))
