"""The files for the faces of all images: complete after every image, whatever ends the command."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from facedet_mm.cli.console import write_result
from facedet_mm.errors import FaceDetError
from facedet_mm.io.formats import CSV_COLUMNS, ImageFaces, coco_document, csv_rows, csv_text, json_record
from facedet_mm.system.files import atomic_path
from facedet_mm.system.streams import is_regular, stream_number
from facedet_mm.system.targets import goes_to_stdout

Add: TypeAlias = Callable[[ImageFaces], None]
JSON_LINES = (".jsonl", ".ndjson")
"""Suffixes of JSON files with one image per line."""


@contextmanager
def result_files(files: Mapping[str, Path], attributes: Sequence[str] = ()) -> Iterator[Add]:
    """Opens the files for the faces of all images and yields a function that adds an image to each of them.

    A new file grows with every image and is a valid file at any moment, also after Ctrl-C, a signal or a full disk. A
    file that exists already is replaced when the block ends; if the block ends before the first image, it stays as it
    was. COCO files are written at the end. Pipes, devices and standard output (``-``) get the images one by one.

    Args:
        files: ``json``, ``csv`` or ``coco`` → path.
        attributes: Names of the further columns of CSV files.

    Raises:
        FaceDetError: A file can't be written.
    """
    with ExitStack() as stack:
        adds = [stack.enter_context(_opened(kind, path, attributes)) for kind, path in files.items()]

        def add(image: ImageFaces) -> None:
            for add_to_file in adds:
                add_to_file(image)

        yield add


def _opened(kind: str, path: Path, attributes: Sequence[str]) -> AbstractContextManager[Add]:
    if kind == "coco":
        return _coco_file(path)
    if kind == "csv":
        return _growing_file(path, csv_text([(*CSV_COLUMNS, *attributes)]), "", "", partial(_csv_lines, attributes))
    if path.suffix.lower() in JSON_LINES:
        return _growing_file(path, "", "", "", lambda image: json.dumps(json_record(image)) + "\n")
    return _growing_file(path, "[", ",", "\n]\n", lambda image: "\n" + json.dumps(json_record(image)))


def _csv_lines(attributes: Sequence[str], image: ImageFaces) -> str:
    columns, empty = image.attributes or {}, [""] * len(image.faces)
    return csv_text(csv_rows(image.name, image.faces, [columns.get(name, empty) for name in attributes]))


class _Growing:
    """A file that is valid after every record: the end is written behind each record, and the next one over it.

    Args:
        file: Unbuffered file to write.
        path: Its name in error messages.
        start: Text before the first record.
        separator: Text between two records.
        end: Text behind the last record.
        seekable: Whether what was written can be written over.
    """

    def __init__(self, file: io.RawIOBase, path: Path, start: str, separator: str, end: str, seekable: bool) -> None:
        self._file, self._path, self._seekable = file, path, seekable
        self._separator, self._end = separator.encode(), end.encode()
        self._complete = 0
        self.records = 0
        self._append(start.encode())

    def add(self, record: str) -> None:
        """Adds a record completely or not at all."""
        separator = self._separator if self.records else b""
        self._append(separator + record.encode("utf-8", "backslashreplace"))
        self.records += 1

    def finish(self) -> None:
        """Removes a half-written record, or writes the end that a pipe has not got yet."""
        try:
            if not self._seekable:
                self._write(self._end)
            else:
                self._file.seek(self._complete)
                self._write(self._end)
                self._file.truncate()
        except OSError as error:
            raise self._failure(error) from error

    def _append(self, data: bytes) -> None:
        try:
            if self._seekable:
                self._file.seek(self._complete)
                self._write(data + self._end)
            else:
                self._write(data)
        except OSError as error:
            raise self._failure(error) from error
        self._complete += len(data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) or 0 :]
        self._file.flush()

    def _failure(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        return FaceDetError(f"cannot write {self._path}: {error.strerror or error}")


@contextmanager
def _growing_file(
    path: Path, start: str, separator: str, end: str, to_text: Callable[[ImageFaces], str]
) -> Iterator[Add]:
    with ExitStack() as stack:
        file, seekable, keep = _open(path, stack)
        growing = _Growing(file, path, start, separator, end, seekable)
        try:
            yield lambda image: growing.add(to_text(image))
        except BaseException:
            if growing.records or not seekable:
                with suppress(FaceDetError, OSError):  # the first error is the one to tell
                    growing.finish()
                keep()
            raise
        growing.finish()
        keep()


def _open(path: Path, stack: ExitStack) -> tuple[io.RawIOBase, bool, Callable[[], object]]:
    """Opens a result file.

    Returns:
        The file, whether it can be written over, and a function that keeps it at the end: otherwise it is removed.
    """
    try:
        if goes_to_stdout(path):
            return _Printed(), False, bool
        if (number := stream_number(path)) is not None:
            return stack.enter_context(os.fdopen(os.dup(number), "wb", buffering=0)), False, bool
        if not is_regular(path):
            return stack.enter_context(path.open("wb", buffering=0)), False, bool
        if os.path.lexists(path):
            return _replacement(path, stack)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(path.open("xb", buffering=0))
    except OSError as error:
        raise FaceDetError(f"cannot write {path}: {error.strerror or error}") from error
    removal = stack.enter_context(ExitStack())
    removal.callback(path.unlink, missing_ok=True)
    removal.callback(file.close)
    return file, True, removal.pop_all


def _replacement(path: Path, stack: ExitStack) -> tuple[io.RawIOBase, bool, Callable[[], object]]:
    """Opens a temporary file that takes the place of an existing one when it is kept."""
    replacing = ExitStack()
    file = replacing.enter_context(atomic_path(path)).open("wb", buffering=0)
    discard = FaceDetError("discarded")
    stack.callback(lambda: replacing.__exit__(FaceDetError, discard, None))
    stack.callback(file.close)

    def keep() -> None:
        file.close()
        replacing.close()

    return file, True, keep


class _Printed(io.RawIOBase):
    """Standard output as a file of bytes; it stays open."""

    def write(self, data: Any) -> int:
        """Prints UTF-8, whatever the encoding of the terminal."""
        buffer = getattr(sys.stdout, "buffer", None)
        sys.stdout.flush()
        if buffer is None:
            sys.stdout.write(bytes(data).decode("utf-8"))
        else:
            buffer.write(data)
            buffer.flush()
        return len(data)


@contextmanager
def _coco_file(path: Path) -> Iterator[Add]:
    images: list[ImageFaces] = []
    try:
        yield images.append
    except BaseException:
        if images:
            with suppress(FaceDetError, OSError):  # the first error is the one to tell
                write_result(path, json.dumps(coco_document(images)) + "\n")
        raise
    write_result(path, json.dumps(coco_document(images)) + "\n")
