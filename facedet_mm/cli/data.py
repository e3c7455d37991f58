"""``facedet data``: checks, describes, converts, splits and shows an annotated data set."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facedet_mm.cli.arguments import positive
from facedet_mm.cli.console import summary_stream, write_result
from facedet_mm.datasets.annotations import KINDS, read_dataset
from facedet_mm.datasets.checking import KINDS_OF_FAULTS, MISSING, find_faults
from facedet_mm.datasets.conversion import SUFFIXES, TARGETS, convert
from facedet_mm.datasets.images import find_image_folder, image_path
from facedet_mm.datasets.records import FaceData
from facedet_mm.datasets.splitting import split
from facedet_mm.datasets.statistics import INPUT_SIDE, measure
from facedet_mm.errors import AnnotationError, FaceDetError
from facedet_mm.io.dimensions import image_dimensions
from facedet_mm.io.images import IMAGE_SUFFIXES, write_image
from facedet_mm.report.contact_sheet import contact_sheet
from facedet_mm.report.plots import check_plot, plot_face_sizes
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line

_EPILOG = """\
examples:
  facedet data check data/mine/faces.json
  facedet data stats data/mine --plot sizes.png
  facedet data convert data/mine/faces.json data/yolo --to yolo --copy-images
  facedet data convert data/mine/val.json data/mine/ground_truth --to wider-eval
  facedet data split data/mine/faces.json data/mine/split --val 0.2 --by folder
  facedet data browse data/mine/faces.json --out sheet.jpg

PATH is a file of WIDER FACE, RetinaFace, SCRFD or COCO, or a folder of YOLO (or its data.yaml), Pascal VOC or
labelme; the content tells which. docs/datasets.md describes the formats."""
_READ_SUFFIXES = (".json", ".txt", ".xml", ".yaml", ".yml", *IMAGE_SUFFIXES)
_LARGEST_SHEET = 200_000_000
"""Pixels of a contact sheet."""
_SUMMARIES = {
    "check": "tell what is there and what is wrong; the exit status is 1 if something is",
    "stats": "count faces and tell how large they are",
    "convert": "write the data set in another format",
    "split": "write a part for training and one for validation",
    "browse": "draw a sheet of images with boxes and landmarks",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    parts = {name: actions.add_parser(name, help=summary, description=summary) for name, summary in _SUMMARIES.items()}
    for part in parts.values():
        part.add_argument("path", type=Path, metavar="PATH", help="annotation file or folder")
        part.add_argument("--images", type=Path, metavar="DIR", help="folder that the names of images are relative to")
        part.add_argument("--category", metavar="NAME", help="category that means faces, if there are several")
        part.add_argument("--no-landmarks", action="store_true", help="read boxes only")
    parts["check"].add_argument("--decode", action="store_true", help="decode all images, which finds truncated ones")
    parts["check"].add_argument(
        "--most", type=positive, default=20, metavar="N", help="lines per kind of fault (default: %(default)s)"
    )
    parts["stats"].add_argument("--plot", type=Path, metavar="FILE", help="draw the sizes (.png, .pdf or .svg)")
    parts["stats"].add_argument("--json", type=Path, metavar="FILE", help="write the numbers; - prints them")
    parts["convert"].add_argument("out", type=Path, metavar="OUT", help="file or folder to write; must not exist")
    parts["split"].add_argument("out", type=Path, metavar="OUT", help="folder to write train and val to")
    for name, wanted in (("convert", "format to write"), ("split", "format to write (default: that of PATH)")):
        parts[name].add_argument("--to", choices=TARGETS, required=name == "convert", help=wanted)
        parts[name].add_argument("--copy-images", action="store_true", help="copy the images beside the annotations")
    parts["split"].add_argument(
        "--val", type=_share, default=0.2, metavar="SHARE", help="share of images for val (default: %(default)s)"
    )
    parts["split"].add_argument(
        "--by", default="image", metavar="GROUP",
        help="what stays together: image, folder, or a regular expression whose first group in the name is the group "
        "(default: %(default)s)",
    )  # fmt: skip
    parts["split"].add_argument("--seed", type=int, default=0, metavar="N", help="another split (default: %(default)s)")
    parts["browse"].add_argument("--out", type=Path, default=Path("sheet.jpg"), metavar="FILE", help="the image")
    for option, value, what in (("--count", 24, "images"), ("--columns", 6, "images beside each other")):
        parts["browse"].add_argument(
            option, type=positive, default=value, metavar="N", help=f"{what} (default: %(default)s)"
        )
    parts["browse"].add_argument(
        "--side", type=positive, default=320, metavar="PX", help="side of each image in pixels (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "check": _check, "stats": _stats, "convert": _convert, "split": _split, "browse": _browse
    }  # fmt: skip
    return actions[args.action](args)


def _read(args: argparse.Namespace) -> FaceData:
    data = read_dataset(args.path, args.category, not args.no_landmarks, args.images)
    for note in data.notes:
        print(f"facedet data: note: {one_line(note)}", file=sys.stderr)
    if args.action != "check":
        for problem in data.problems:
            print(f"facedet data: warning: {one_line(problem)}", file=sys.stderr)
    return data


def _check(args: argparse.Namespace) -> int:
    data = _read(args)
    try:
        folder = find_image_folder(data, args.path, args.images)
    except AnnotationError as error:
        print(f"facedet data check: {one_line(error)}")
        return 1
    print(f"{KINDS[data.kind]}: {_summary(data)}; images in {one_line(folder)}")
    faults: dict[str, list[str]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for kind, line in find_faults(data, folder, args.decode):
        counts[kind] += 1
        if len(faults[kind]) < args.most:
            faults[kind].append(line)
    for kind, lines in faults.items():
        remedy = f"; {KINDS_OF_FAULTS[kind]}" if KINDS_OF_FAULTS[kind] else ""
        print(f"\n{kind}: {counts[kind]:,}{remedy}" if kind != MISSING or counts[kind] < len(data.images)
              else f"\nall {counts[kind]:,} images are missing{remedy}")  # fmt: skip
        for line in lines:
            print(f"  {one_line(line)}")
        if counts[kind] > len(lines):
            print(f"  … and {counts[kind] - len(lines):,} more (--most N shows more)")
    print("" if faults else "nothing is wrong", end="" if faults else "\n")
    return int(bool(faults))


def _summary(data: FaceData) -> str:
    faces = sum(len(image) for image in data.images)
    ignored = sum(int(image.ignore.sum()) for image in data.images)
    landmarks = sum(int(i.landmark_weights.any(1).sum()) for i in data.images if i.landmark_weights is not None)
    return f"{len(data.images):,} images, {faces:,} faces, {ignored:,} of them to ignore, {landmarks:,} with landmarks"


def _stats(args: argparse.Namespace) -> int:
    targets = _targets(args)
    targets.add("--json", args.json, may_print=True)
    targets.add("--plot", args.plot)
    if args.plot:
        check_plot(args.plot)
    data = _read(args)
    numbers = measure(data, _sizes(data, args))
    values = numbers.to_dict()
    print(_table(values), file=summary_stream(args.json), flush=True)
    if args.json:
        write_result(args.json, json.dumps(values, indent=2) + "\n")
    if args.plot:
        sizes = {"original": numbers.face_sizes, f"fitted into {INPUT_SIDE} pixels": numbers.fitted_sizes}
        plot_face_sizes(sizes, args.plot)
    return 0


def _table(values: dict[str, Any]) -> str:
    lines = [f"{name.replace('_', ' '):<24}{value:>9,}" for name, value in values.items() if isinstance(value, int)]
    rows = {name: row for name, row in values.items() if isinstance(row, list) and row}
    lines += ["", f"{'percentile':<24}" + "".join(f"{value:>9}" for value in rows.pop("percentiles"))]
    lines += [f"{name.replace('_', ' '):<24}" + "".join(f"{v:>9.4g}" for v in row) for name, row in rows.items()]
    return "\n".join(lines)


def _sizes(data: FaceData, args: argparse.Namespace) -> list[tuple[int, int]]:
    if all(image.size is not None for image in data.images):
        return [image.size for image in data.images if image.size is not None]
    folder = find_image_folder(data, args.path, args.images)
    return [image.size or image_dimensions(image_path(folder, image.name)) for image in data.images]


def _convert(args: argparse.Namespace) -> int:
    data = _read(args)
    _write(data, args, args.to, args.out, _folder(data, args, args.to))
    return 0


def _split(args: argparse.Namespace) -> int:
    data = _read(args)
    kind = args.to or data.kind
    folder = _folder(data, args, kind)
    for name, part in zip(("train", "val"), split(data, args.val, args.by, args.seed), strict=True):
        _write(part, args, kind, args.out / f"{name}{SUFFIXES.get(kind, '')}", folder)
    return 0


def _write(data: FaceData, args: argparse.Namespace, kind: str, out: Path, folder: Path | None) -> None:
    for line in convert(data, folder, kind, out, args.copy_images):
        print(f"facedet data: note: {one_line(out)}: {one_line(line)}", file=sys.stderr)
    print(f"wrote {one_line(out)} from {_summary(data)}")


def _folder(data: FaceData, args: argparse.Namespace, kind: str) -> Path | None:
    """Returns the folder of the images; ``None`` if it can't be found and is not needed."""
    try:
        return find_image_folder(data, args.path, args.images)
    except AnnotationError:
        known = all(image.size is not None for image in data.images) or kind == TARGETS[-1]
        if args.images is not None or args.copy_images or not known:
            raise
        return None


def _browse(args: argparse.Namespace) -> int:
    targets = _targets(args)
    targets.add("--out", args.out)
    if args.out.suffix.lower() not in IMAGE_SUFFIXES:
        raise FaceDetError(f"--out {args.out}: its name must end in that of an image, like .jpg or .png")
    if args.count * args.side**2 > _LARGEST_SHEET:
        raise FaceDetError(f"{args.count} images of {args.side} pixels make a sheet too large to look at; take fewer")
    data = _read(args)
    sheet = contact_sheet(data, find_image_folder(data, args.path, args.images), args.count, args.columns, args.side)
    write_image(args.out, sheet)
    print(f"{one_line(args.out)}: {min(args.count, len(data.images)):,} of {len(data.images):,} images")
    return 0


def _targets(args: argparse.Namespace) -> Targets:
    targets = Targets([args.path])
    for folder in (args.path if args.path.is_dir() else args.path.parent, args.images):
        if folder is not None and (folder != args.path.parent or args.path.is_dir()):
            targets.reads_folder(folder, _READ_SUFFIXES)
    return targets


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 1, not {text}")
    return value
