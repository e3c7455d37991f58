"""What ``facedet detect`` writes: images, crops, and files of all results."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.cli.inputs import Input
from facedet_mm.datasets.submission import write_prediction_file
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.anonymization import anonymize
from facedet_mm.imaging.drawing import draw_faces
from facedet_mm.io.formats import CSV_COLUMNS, ImageFaces, coco_document, csv_rows, csv_text, json_record
from facedet_mm.io.images import write_image
from facedet_mm.structures import Faces
from facedet_mm.system.files import atomic_path, write_text

Add: TypeAlias = Callable[[ImageFaces], None]


class ImageOutputs:
    """The files that each image gets of its own.

    Args:
        args: ``out``, ``anonymize``, ``crops``, ``align``, ``margin`` and ``wider`` of the command line.
        inputs: all images, so that no two are given one name.

    Raises:
        FaceDetError: an image would be overwritten, or options that need another one.
    """

    def __init__(self, args: argparse.Namespace, inputs: Sequence[Input]) -> None:
        if args.anonymize and not args.out:
            raise FaceDetError("--anonymize needs --out DIR, where the images go")
        if args.align and not args.crops:
            raise FaceDetError("--align needs --crops DIR, where the faces go")
        self._args = args
        self._names = _unique_names([given.name for given in inputs])
        self._originals = {_real(given.path) for given in inputs}
        for name in self._names if args.out else ():
            self._spare("--out", args.out / name)
        for option in _WRITERS:
            if path := getattr(args, option):
                self._spare(f"--{option}", path)
        self._wider = [_wider_file(args.wider, given.path) for given in inputs] if args.wider else []
        for file, images in Counter(self._wider).items():
            if images > 1:
                raise FaceDetError(f"--wider: two images would get {file}; give them other names or folders")

    def _spare(self, option: str, path: Path) -> None:
        """Raises :class:`FaceDetError` if ``path`` is one of the images that are read."""
        if _real(path) in self._originals:
            raise FaceDetError(f"{option} would overwrite {path}, which is read; choose another place")

    def target(self, number: int) -> Path | None:
        """Where the image of input ``number`` goes, ``None`` without ``--out``."""
        return self._args.out / self._names[number] if self._args.out else None

    def write(self, number: int, path: Path, image: NDArray[np.uint8], faces: Faces) -> None:
        """Writes all that was asked for; may be called from several threads.

        Raises:
            ImageError: the image can't be written in its format.
            FaceDetError: a file can't be written.
        """
        args = self._args
        if target := self.target(number):
            shown = anonymize(image, faces, args.anonymize, margin=args.margin) if args.anonymize else None
            write_image(target, draw_faces(image, faces) if shown is None else shown)
        if args.crops:
            crops = faces.align(image, args.align) if args.align else faces.crop(image, args.margin)
            name = self._names[number]
            for face, crop in enumerate(crops, start=1):
                if crop.size:
                    file = args.crops / name.with_name(f"{name.stem}_{face}{name.suffix}")
                    self._spare("--crops", file)
                    write_image(file, crop)
        if args.wider:
            write_prediction_file(self._wider[number], path.name, faces.boxes, faces.scores)


@contextmanager
def result_files(args: argparse.Namespace) -> Iterator[Add]:
    """Opens ``json``, ``csv`` and ``coco`` of the command line; gives what adds an image to all of them.

    The files appear, whole, when the block ends without an error.
    """
    wanted = {name: path for name in _WRITERS if (path := getattr(args, name))}
    if len({_real(path) for path in wanted.values()}) < len(wanted):
        raise FaceDetError(f"--{' and --'.join(wanted)} would share a file; give each its own")
    for name, path in wanted.items():
        if path.is_dir():
            raise FaceDetError(f"--{name} {path} is a folder; give a file")
    with ExitStack() as stack:
        adds = [stack.enter_context(_WRITERS[name](path)) for name, path in wanted.items()]

        def add(image: ImageFaces) -> None:
            for one in adds:
                one(image)

        yield add


@contextmanager
def _json_file(path: Path) -> Iterator[Add]:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "[\n"

        def add(image: ImageFaces) -> None:
            nonlocal separator
            file.write(separator + json.dumps(json_record(image)))
            separator = ",\n"

        yield add
        file.write("\n]\n" if separator == ",\n" else "[]\n")


@contextmanager
def _csv_file(path: Path) -> Iterator[Add]:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:

        def add(image: ImageFaces) -> None:
            file.write(csv_text(csv_rows(image.name, image.faces)))

        file.write(csv_text([CSV_COLUMNS]))
        yield add


@contextmanager
def _coco_file(path: Path) -> Iterator[Add]:
    images: list[ImageFaces] = []
    yield images.append
    write_text(path, json.dumps(coco_document(images)) + "\n")


_WRITERS = {"json": _json_file, "csv": _csv_file, "coco": _coco_file}
"""Options that name one file for all images, and what writes it."""


def _real(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # no name of a file: reading it will say so
        return str(path)


def _wider_file(folder: Path, image: Path) -> Path:
    """``EVENT/NAME.txt``, where the event is the folder that the image lies in."""
    return folder / Path(_real(image)).parent.name / f"{image.stem}.txt"


def _unique_names(names: Sequence[Path]) -> list[Path]:
    """The names, numbered where two share one, with an ending that can be written."""
    taken: set[str] = set()
    unique = []
    for wanted in names:
        suffix = wanted.suffix if _can_write(wanted.suffix) else ".png"
        name, number = wanted.with_name(wanted.stem + suffix), 1
        while str(name).lower() in taken:  # lower: some file systems don't tell cases apart
            number += 1
            name = wanted.with_name(f"{wanted.stem}_{number}{suffix}")
        taken.add(str(name).lower())
        unique.append(name)
    return unique


def _can_write(suffix: str) -> bool:
    try:
        return bool(cv2.haveImageWriter(f"x{suffix}"))
    except cv2.error:  # a codec that is switched off, as EXR
        return False
