"""The outputs of ``facedet detect``: annotated images, crops, and files of all faces."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.cli.inputs import Input
from facedet_mm.datasets.submission import write_prediction_file
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.anonymization import Method, anonymize
from facedet_mm.imaging.drawing import draw_faces
from facedet_mm.io.images import write_image
from facedet_mm.structures import Faces
from facedet_mm.system.targets import Targets

_HOPELESS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR, errno.EIO))
"""Errors after which the files of the other images can't be written either."""


@dataclass(frozen=True)
class OutputOptions:
    """Files and folders that ``facedet detect`` writes.

    Attributes:
        out: Folder of the annotated images.
        anonymize: Method that makes the faces in ``out`` unrecognizable; ``None`` draws boxes.
        crops: Folder of the face crops.
        align: Side in pixels of aligned crops; ``None`` leaves the crops upright.
        margin: Margin around a face for crops and anonymization, as a share of its size.
        wider: Folder of the WIDER FACE submission files.
        json: JSON file with all faces.
        csv: CSV file with all faces.
        coco: COCO file with all faces.

    Raises:
        FaceDetError: An option needs another one.
    """

    out: Path | None = None
    anonymize: Method | None = None
    crops: Path | None = None
    align: int | None = None
    margin: float = 0.2
    wider: Path | None = None
    json: Path | None = None
    csv: Path | None = None
    coco: Path | None = None

    def __post_init__(self) -> None:
        if self.anonymize and not self.out:
            raise FaceDetError("--anonymize needs --out DIR, the folder for the images")
        if self.align and not self.crops:
            raise FaceDetError("--align needs --crops DIR, the folder for the faces")

    def result_files(self) -> dict[str, Path]:
        """Returns the files for the faces of all images, by option."""
        files = {"json": self.json, "csv": self.csv, "coco": self.coco}
        return {name: path for name, path in files.items() if path}


class ImageOutputs:
    """Writes the files that each image gets.

    Args:
        options: Files and folders to write.
        inputs: All images, so that no two get the same name.
        models: Files of the model.

    Raises:
        FaceDetError: An input would be overwritten, or two results would get the same file.
    """

    def __init__(
        self, options: OutputOptions, inputs: Sequence[Input], models: Iterable[str | os.PathLike[str] | None] = ()
    ) -> None:
        self._options = options
        self._names = _unique_names([given.name for given in inputs])
        self._wider = [_wider_file(options.wider, given) for given in inputs] if options.wider else []
        for file, images in Counter(self._wider).items():
            if images > 1:
                raise FaceDetError(f"--wider: two images would get {file}; give them other names or folders")
        targets = Targets([*(given.path for given in inputs), *models])
        for option, path in options.result_files().items():
            targets.add(f"--{option}", path, may_print=True)
        for name in self._names:
            if options.out:
                targets.add("--out", options.out / name)
            if options.crops:
                targets.add_series("--crops", options.crops / name)
        for file in self._wider:
            targets.add("--wider", file)
        targets.check_series()

    def target(self, number: int) -> Path | None:
        """Returns the path of the annotated image of input ``number``; ``None`` without ``--out``."""
        return self._options.out / self._names[number] if self._options.out else None

    def write(self, number: int, path: Path, image: NDArray[np.uint8], faces: Faces) -> None:
        """Writes all files of one image; may be called from several threads.

        Raises:
            FaceDetError: A file can't be written, see :func:`is_hopeless`, or not in its format.
        """
        options = self._options
        if target := self.target(number):
            if options.anonymize:
                write_image(target, anonymize(image, faces, options.anonymize, margin=options.margin))
            else:
                write_image(target, draw_faces(image, faces))
        if options.crops:
            crops = faces.align(image, options.align) if options.align else faces.crop(image, options.margin)
            name = self._names[number]
            for face, crop in enumerate(crops, start=1):
                if crop.size:
                    file = options.crops / name.with_name(f"{name.stem}_{face}{name.suffix}")
                    write_image(file, crop)
        if options.wider:
            write_prediction_file(self._wider[number], path.name, faces.boxes, faces.scores)


def is_hopeless(error: FaceDetError) -> bool:
    """Returns whether the files of other images can't be written either, because the disk is full, for example."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _HOPELESS


def _wider_file(folder: Path, given: Input) -> Path:
    """Returns ``EVENT/NAME.txt``; the event is the folder of the image as given, not the one that a link points to."""
    try:
        event = Path(os.path.abspath(given.path)).parent.name
    except (OSError, ValueError):  # not a file name: reading it raises the error
        event = given.path.parent.name
    return folder / event / f"{given.name.stem}.txt"


def _unique_names(names: Sequence[Path]) -> list[Path]:
    """Returns the names, numbered where two are the same, with a suffix that OpenCV can write."""
    taken: set[str] = set()
    unique = []
    for wanted in names:
        suffix = wanted.suffix if _can_write(wanted.suffix) else ".png"
        name, number = wanted.with_name(wanted.stem + suffix), 1
        while str(name).lower() in taken:  # some file systems ignore case
            number += 1
            name = wanted.with_name(f"{wanted.stem}_{number}{suffix}")
        taken.add(str(name).lower())
        unique.append(name)
    return unique


def _can_write(suffix: str) -> bool:
    try:
        return bool(cv2.haveImageWriter(f"x{suffix}"))
    except cv2.error:  # a codec that is switched off, such as EXR
        return False
