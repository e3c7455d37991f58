"""Standard output and error that may be closed or full: the command goes on, and its exit status tells."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from facedet_mm.system.files import write_text
from facedet_mm.system.targets import goes_to_stdout
from facedet_mm.system.text import one_line

_NUMBERS = {"stdout": 1, "stderr": 2}


class _PatientFile(io.FileIO):
    """A stream whose first error is kept instead of raised, except that of a reader that went away.

    Args:
        number: Number of the open stream.
        closed: Whether the stream was closed when the process began, and ``number`` is a stand-in for it.
    """

    def __init__(self, number: int, closed: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self.was_closed = closed
        self.error: str | None = None

    def write(self, data: Any) -> int:
        """Writes data, or discards them after an error."""
        size = memoryview(data).nbytes
        if self.was_closed and size:
            self.error = "closed"
        if self.error is None:
            try:
                return super().write(data) or 0
            except BrokenPipeError:
                raise
            except OSError as error:
                self.error = error.strerror or str(error)
        return size


class Console:
    """The state of standard output and error during a command."""

    def __init__(self) -> None:
        self._files: dict[str, _PatientFile] = {}
        closed = [name for name, number in _NUMBERS.items() if not _is_open(number)]
        for number in range(3):  # or the next file that is opened becomes standard output
            if not _is_open(number) and os.open(os.devnull, os.O_RDWR if number else os.O_RDONLY) > number:
                break
        for name, number in _NUMBERS.items():
            if _is_real(name, number, name in closed):
                self._files[name] = _PatientFile(number, name in closed)

    def install(self) -> dict[str, Any]:
        """Replaces ``sys.stdout`` and ``sys.stderr``, as far as they are those of the process; returns the old ones."""
        before = {name: getattr(sys, name) for name in self._files}
        for name, file in self._files.items():
            old = before[name]
            if old is not None:
                with suppress(OSError, ValueError):
                    old.flush()
            new = io.TextIOWrapper(
                io.BufferedWriter(file),
                encoding=old.encoding if old is not None else "utf-8",
                errors="backslashreplace",  # file names may have characters that the terminal lacks
                line_buffering=name == "stderr" or file.isatty(),
            )
            setattr(sys, name, new)
        return before

    def failure(self) -> str | None:
        """Returns why standard output did not take all lines, or ``None``."""
        return self._files["stdout"].error if "stdout" in self._files else None

    def errors_lost(self) -> bool:
        """Returns whether messages did not reach a standard error that was open."""
        file = self._files.get("stderr")
        return file is not None and file.error is not None and not file.was_closed


@contextmanager
def patient_console() -> Iterator[Console]:
    """Lets the block print to closed or full streams without an error; see :class:`Console`."""
    console = Console()
    before = console.install()
    try:
        yield console
    finally:
        for name, stream in before.items():
            with suppress(OSError, ValueError):
                getattr(sys, name).flush()
            if stream is not None:
                setattr(sys, name, stream)


@contextmanager
def detector_log(name: str) -> Iterator[None]:
    """Prints what detectors log during the block, such as the device that ``auto`` chose, on standard error.

    Args:
        name: What the lines begin with: the command.
    """
    log, handler = logging.getLogger("facedet_mm.detectors"), _Lines(name)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Lines(logging.Handler):
    """Prints each record as one line on the standard error of that moment."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._command = name

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        print(f"{self._command}: {one_line(record.getMessage())}", file=sys.stderr)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _is_real(name: str, number: int, closed: bool) -> bool:
    """Returns whether ``sys.stdout`` or ``sys.stderr`` is the process's own, and no stand-in of a test or notebook."""
    stream = getattr(sys, name)
    if stream is None:
        return closed
    try:
        return stream is getattr(sys, f"__{name}__") and stream.fileno() == number
    except (OSError, ValueError):
        return False


def summary_stream(*results: Path | None) -> Any:
    """Returns the stream for what a command prints for people: standard error if a result goes to standard output."""
    return sys.stderr if any(map(goes_to_stdout, results)) else sys.stdout


def write_result(path: Path, text: str) -> None:
    """Writes a result file, atomically, or prints it if its name is ``-``."""
    if goes_to_stdout(path):
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_text(path, text)
