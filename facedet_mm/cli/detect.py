"""``facedet detect``: finds faces in images and writes text, annotated images, crops and result files."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TextIO, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facedet_mm.cli.arguments import add_settings, non_negative, positive, settings_from
from facedet_mm.cli.console import summary_stream
from facedet_mm.cli.filtering import left_out_line
from facedet_mm.cli.inputs import Input, find_inputs, hint, with_pages
from facedet_mm.cli.losses import losses
from facedet_mm.cli.outputs import ImageOutputs, OutputOptions, is_hopeless
from facedet_mm.cli.result_files import result_files
from facedet_mm.detectors import Detector, DetectorOptions, open_detector
from facedet_mm.errors import FaceDetError, ImageError
from facedet_mm.imaging.anonymization import Method
from facedet_mm.imaging.attributes import ATTRIBUTE_NAMES, FaceAttributes
from facedet_mm.imaging.face_filter import FaceFilter
from facedet_mm.io.formats import ImageFaces
from facedet_mm.io.images import opencv_logging, read_image, read_pages
from facedet_mm.structures import Faces
from facedet_mm.system.concurrency import map_ahead, thread_pool
from facedet_mm.system.text import one_line

_EPILOG = """\
examples:
  facedet detect photo.jpg
  facedet detect holiday --recursive --out annotated --json faces.json
  facedet detect 'scans/*.tif' --crops faces --align 112
  find . -name '*.jpg' | facedet detect - --csv faces.csv --quiet
  facedet detect street.jpg --anonymize blur --out hidden
  facedet detect crowd.jpg --size auto --tiles 640
  facedet detect party --crops faces --min-size 80 --max-yaw 30 --min-sharpness 0.6
  facedet detect WIDER_val/images --recursive --wider predictions --score-thr 0.02 --iou-thr 0.45

An image that can't be read is reported on standard error and skipped; the exit status is then 1. The JSON is a list of
{"image", "width", "height", "faces": [{"box": [x1, y1, x2, y2], "score", "landmarks": [[x, y] * 5]}]} in pixels;
"landmarks" is missing when the model has none. With a name like FILE.jsonl, each image is one line. --attributes adds
"attributes" to each face and columns to the CSV: roll (clockwise), pitch (up) and yaw (to the right edge of the image)
in degrees, sharpness and brightness from 0 to 1, size in pixels, and whether the border cuts the face.

For each image, its number of faces and the five with the highest scores are printed.

A file that is new grows with every image; whatever ends the command, it holds the images that were done. Standard
output is -, as in --csv -; what is printed for people then goes to standard error."""
_LISTED = 5
"""Largest number of faces of an image that are listed one by one."""


@dataclass(frozen=True)
class _Item:
    """An image between reading and writing."""

    number: int
    given: Input
    image: NDArray[np.uint8] | None = None
    faces: Faces | None = None
    attributes: FaceAttributes | None = None
    left_out: tuple[str, ...] = ()
    error: FaceDetError | None = None
    notes: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image files, folders, patterns, or - for a list of them on stdin"
    )
    parser.add_argument("--recursive", "-r", action="store_true", help="search subfolders too")
    parser.add_argument(
        "--pages", action="store_true", help="use all pages of TIFF files and all frames of animations, not the first"
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="refuse images of more pixels (default: $FACEDET_MAX_PIXELS, else 200 million)",
    )
    results = parser.add_argument_group("results")
    results.add_argument("--out", type=Path, metavar="DIR", help="write annotated images into this folder")
    results.add_argument("--json", type=Path, metavar="FILE", help="write all faces as JSON; - prints them")
    results.add_argument(
        "--csv", type=Path, metavar="FILE", help="write all faces as CSV, one line per face; - prints them"
    )
    results.add_argument("--coco", type=Path, metavar="FILE", help="write all faces as COCO annotations; - prints them")
    results.add_argument("--wider", type=Path, metavar="DIR", help="write WIDER FACE submission files, EVENT/NAME.txt")
    results.add_argument("--crops", type=Path, metavar="DIR", help="write an image of each face into this folder")
    results.add_argument(
        "--align",
        type=positive,
        metavar="SIDE",
        help="rotate and scale the crops so that eyes, nose and mouth are where ArcFace expects them (usually 112)",
    )
    results.add_argument(
        "--anonymize", choices=get_args(Method), help="make the faces in the images of --out unrecognizable"
    )
    results.add_argument(
        "--margin",
        type=non_negative,
        default=0.2,
        metavar="M",
        help="margin of --crops and --anonymize around a face, as a share of its size (default: %(default)s)",
    )
    results.add_argument(
        "--attributes",
        action="store_true",
        help="measure pose, sharpness, brightness and size of each face: printed, and in --json and --csv",
    )
    add_settings(parser.add_argument_group("faces to leave out"), FaceFilter)
    parser.add_argument("--quiet", "-q", action="store_true", help="print no lines about single images")
    add_settings(parser.add_argument_group("detector"), DetectorOptions)
    speed = parser.add_argument_group("speed")
    speed.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="images per run of the network, for GPUs (default: 1)"
    )
    speed.add_argument(
        "--workers",
        type=positive,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="threads that read and write images (default: one per core, at most 4)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns the exit status."""
    opencv_logging().setLogLevel(0)  # our own messages are clearer
    inputs = find_inputs(args.inputs, args.recursive)
    if args.pages:
        inputs = with_pages(inputs, args.max_pixels)
    options = OutputOptions(**{item.name: getattr(args, item.name) for item in fields(OutputOptions)})
    outputs = ImageOutputs(options, inputs, [args.model, args.weights])
    out = summary_stream(*options.result_files().values())
    face_filter = settings_from(args, FaceFilter)
    detector = open_detector(settings_from(args, DetectorOptions))
    ahead = args.workers + args.batch
    done = failed = found = 0
    lost: set[str] = set()
    left_out: Counter[str] = Counter()
    try:
        with (
            result_files(options.result_files(), ATTRIBUTE_NAMES if args.attributes else ()) as add,
            thread_pool(args.workers) as pool,
            _progress(len(inputs)) as bar,
        ):

            def write(item: _Item) -> _Item:
                try:
                    item = _measured(item, face_filter, args.attributes)
                    if item.image is not None and item.faces is not None:
                        outputs.write(item.number, item.given.path, item.image, item.faces)
                        lost.update(losses(item.given.path) if options.out else ())
                except FaceDetError as error:
                    if is_hopeless(error):
                        raise
                    return replace(item, error=error)
                return item

            def read(item: _Item) -> _Item:
                return item if item.image is not None or item.error else _read(item, args.max_pixels)

            items = map_ahead(pool, read, _items(inputs, args.max_pixels), ahead)
            for item in map_ahead(pool, write, _detect(detector, items, args.batch), ahead):
                bar.update()
                for note in item.notes:
                    bar.write(f"facedet detect: {one_line(note)}; --pages uses all", file=sys.stderr)
                if item.error:
                    failed += 1
                    bar.write(
                        f"facedet detect: error: {one_line(f'{item.error}{hint(item.given.path)}')}", file=sys.stderr
                    )
                if item.image is not None and item.faces is not None:
                    height, width = item.image.shape[:2]
                    found += len(item.faces)
                    left_out.update(item.left_out)
                    attributes = None if item.attributes is None else item.attributes.to_dict()
                    add(ImageFaces(item.given.label, width, height, item.faces, attributes))
                    if not args.quiet and not item.error:
                        bar.write(_summary(item, outputs.target(item.number)), file=out)
                done += 1
    except BaseException:
        if done and len(inputs) > 1 and options.result_files():
            files = ", ".join(map(str, options.result_files().values()))
            print(
                f"facedet detect: stopped after {done} of {len(inputs)} images, which are in {files}", file=sys.stderr
            )
        raise
    _conclude(len(inputs), failed, found, lost, out)
    if left_out:
        print(f"facedet detect: {left_out_line(left_out, bool(args.anonymize))}", file=sys.stderr)
    return 1 if failed else 0


def _conclude(images: int, failed: int, found: int, lost: set[str], out: TextIO) -> None:
    """Prints the totals."""
    if images > 1:
        print(f"{images - failed} images, {found} faces", file=out)
    if lost:
        kept = ", ".join(sorted(lost))
        print(
            f"facedet detect: note: the images in --out are 8-bit color without metadata; lost: {kept}", file=sys.stderr
        )
    if failed:
        print(f"facedet detect: {failed} of {images} images failed", file=sys.stderr)


def _items(inputs: Sequence[Input], max_pixels: int | None) -> Iterator[_Item]:
    """Yields the images to read; pages come with their pixels, because they are decoded one after another."""
    pages: Iterator[NDArray[np.uint8]] = iter(())
    for number, given in enumerate(inputs):
        item = _Item(number, given)
        if given.page is not None:
            if given.page == 1:
                pages = read_pages(given.path, max_pixels=max_pixels)
            try:
                item = replace(item, image=next(pages))
            except ImageError as error:
                item = replace(item, error=error)
            except StopIteration:
                item = replace(item, error=ImageError(f"{given.label}: not read, because a page before it is damaged"))
        yield item


def _read(item: _Item, max_pixels: int | None) -> _Item:
    notes: list[str] = []
    try:
        image = read_image(item.given.path, max_pixels=max_pixels, notify=notes.append)
    except ImageError as error:
        return replace(item, error=error)
    return replace(item, image=image, notes=tuple(notes))


def _detect(detector: Detector, items: Iterable[_Item], batch: int) -> Iterator[_Item]:
    """Adds the faces, ``batch`` images at a time; images that could not be read keep their place."""
    waiting: list[_Item] = []
    for item in items:
        waiting.append(item)
        if sum(item.image is not None for item in waiting) == batch:
            yield from _with_faces(detector, waiting)
            waiting = []
    yield from _with_faces(detector, waiting)


def _with_faces(detector: Detector, items: list[_Item]) -> list[_Item]:
    found = iter(detector.detect_batch([item.image for item in items if item.image is not None]))
    return [item if item.image is None else replace(item, faces=next(found)) for item in items]


def _progress(total: int) -> tqdm[Any]:
    return tqdm(total=total, unit="img", disable=total < 2 or not sys.stderr.isatty(), dynamic_ncols=True)


def _measured(item: _Item, face_filter: FaceFilter, wanted: bool) -> _Item:
    """Adds the attributes, if they are wanted, and leaves out faces."""
    if item.image is None or item.faces is None or not (wanted or face_filter.filters):
        return item
    attributes = item.faces.attributes(item.image)
    reasons = face_filter.reasons(attributes)
    kept = np.array([not reason for reason in reasons], bool)
    return replace(
        item,
        faces=item.faces[kept],
        attributes=attributes[kept] if wanted else None,
        left_out=tuple(filter(None, reasons)),
    )


def _summary(item: _Item, target: Path | None) -> str:
    faces = Faces.empty() if item.faces is None else item.faces
    where = f" -> {target}" if target else ""
    lines = [one_line(f"{item.given.label}: {len(faces)} face{'' if len(faces) == 1 else 's'}{where}")]
    for i in np.argsort(-faces.scores, kind="stable")[:_LISTED].tolist():
        x1, y1, x2, y2 = (f"{value:.0f}" for value in faces.boxes[i])
        more = "" if item.attributes is None else _described(item.attributes[[i]])
        lines.append(f"  {faces.scores[i]:.2f}  ({x1}, {y1}) to ({x2}, {y2}){more}")
    if len(faces) > _LISTED:
        lines.append(f"  and {len(faces) - _LISTED} more")
    return "\n".join(lines)


def _described(attributes: FaceAttributes) -> str:
    """Returns the attributes of one face for people."""
    values = {name: value for name, (value,) in attributes.to_dict().items()}
    cut = "  cut by the border" if values.pop("cut") else ""
    return "".join(f"  {name} {_rounded(name, value)}" for name, value in values.items()) + cut


def _rounded(name: str, value: float | None) -> str:
    digits = 2 if name in ("sharpness", "brightness") else 0
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # not -0
