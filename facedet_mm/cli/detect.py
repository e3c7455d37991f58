"""``facedet detect``: faces in pictures, as text, annotated pictures and JSON."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.cli.arguments import add_detector_arguments, detector_from
from facedet_mm.errors import FaceDetError, ImageError
from facedet_mm.files import write_bytes, write_text
from facedet_mm.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.visualization import draw_faces

_EPILOG = """\
examples:
  facedet detect photo.jpg
  facedet detect *.jpg --out annotated --json faces.json
  facedet detect crowd.jpg --size original --score-thr 0.3
  facedet detect photo.jpg --model scrfd_2.5g.onnx --size auto

A picture that can't be read is reported on standard error and left out, the others are done; the exit status
is then 1. The JSON is a list of {"image", "width", "height", "faces": [{"box": [x1, y1, x2, y2], "score",
"landmarks": [[x, y] * 5]}]} in pixels; "landmarks" is missing when the model has none."""
_LISTED = 5
"""Up to so many faces of a picture are listed one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write annotated pictures into this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all faces as JSON")
    add_detector_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command; gives the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be valid text
    _silence_opencv()  # our own message says it better
    if args.json and args.json.is_dir():
        raise FaceDetError(f"--json {args.json} is a folder; give a file")
    targets = _targets(args.images, args.out) if args.out else [None] * len(args.images)
    detector = detector_from(args)
    records = []
    for path, target in zip(args.images, targets, strict=True):
        try:
            image = read_image(path)
            faces = detector.detect(image)
            if target:
                _write_picture(target, draw_faces(image, faces))
        except ImageError as error:
            print(f"facedet detect: error: {error}", file=sys.stderr)
            continue
        print(_summary(path, faces, target))
        records.append(_record(path, image, faces))
    if args.json:
        write_text(args.json, "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n")
    failed = len(args.images) - len(records)
    if failed:
        print(f"facedet detect: {failed} of {len(args.images)} pictures failed", file=sys.stderr)
    return 1 if failed else 0


def _silence_opencv() -> None:
    opencv: Any = cv2  # version 4 has the function here, 5 there
    set_level = getattr(opencv, "setLogLevel", None) or opencv.utils.logging.setLogLevel
    set_level(0)


def _targets(images: Sequence[Path], folder: Path) -> list[Path]:
    """Where each annotated picture goes: its own name, numbered where two pictures share one."""
    taken: set[str] = set()
    targets = []
    for image in images:
        suffix = image.suffix if _can_write(image.suffix) else ".png"
        name, number = image.stem + suffix, 1
        while name.lower() in taken:  # lower: some file systems don't tell cases apart
            number += 1
            name = f"{image.stem}_{number}{suffix}"
        taken.add(name.lower())
        targets.append(folder / name)
    originals = {image.resolve() for image in images}
    for target in targets:
        if target.resolve() in originals:
            raise FaceDetError(f"--out {folder} would overwrite {target}; choose another folder")
    return targets


def _can_write(suffix: str) -> bool:
    try:
        return bool(cv2.haveImageWriter(f"x{suffix}"))
    except cv2.error:  # a codec that is switched off, as EXR
        return False


def _write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    try:
        done, data = cv2.imencode(path.suffix, image)
    except cv2.error:
        done = False
    if not done:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise ImageError(f"{path}: OpenCV can't write a {size} picture as {path.suffix}")
    write_bytes(path, data.tobytes())


def _summary(path: Path, faces: Faces, target: Path | None) -> str:
    lines = [f"{path}: {len(faces)} face{'' if len(faces) == 1 else 's'}{f' -> {target}' if target else ''}"]
    if len(faces) <= _LISTED:
        for box, score in zip(faces.boxes, faces.scores, strict=True):
            x1, y1, x2, y2 = (f"{value:.0f}" for value in box)
            lines.append(f"  {score:.2f}  ({x1}, {y1}) to ({x2}, {y2})")
    return "\n".join(lines)


def _record(path: Path, image: NDArray[np.uint8], faces: Faces) -> dict[str, Any]:
    columns: dict[str, Any] = {"box": _rounded(faces.boxes, 2), "score": _rounded(faces.scores, 4)}
    if faces.landmarks is not None:
        columns["landmarks"] = _rounded(faces.landmarks, 2)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {"image": str(path), "width": image.shape[1], "height": image.shape[0], "faces": rows}


def _rounded(values: NDArray[np.float32], digits: int) -> list[Any]:
    rounded: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded
