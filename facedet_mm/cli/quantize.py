"""``facedet quantize``: writes an INT8 file of an ONNX file, and reports its size, speed and AP."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facedet_mm.benchmark.accuracy import clean_ap, find_images
from facedet_mm.benchmark.timing import call_time
from facedet_mm.cli.arguments import input_size, positive
from facedet_mm.cli.console import summary_stream, write_result
from facedet_mm.cli.inputs import find_inputs
from facedet_mm.datasets import read_ground_truth
from facedet_mm.deploy.quantization import quantize_onnx
from facedet_mm.detectors import Detector, build_detector
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import IMAGE_SUFFIXES, read_image
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line
from facedet_mm.zoo import weights_path

_EPILOG = """\
examples:
  facedet quantize yunet_n --calibration photos/
  facedet quantize model.onnx -o int8.onnx --calibration WIDER_train/images --recursive \\
      --annotations data/wider_face/ground_truth --images WIDER_val/images

The ranges of the activations are measured on images of the kind that the model will see. These images need no
annotations. With --annotations, the WIDER FACE AP of both files is measured too. The file runs in ONNX Runtime and
OpenVINO; for TensorRT add --symmetric."""
_TIMED_IMAGES = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("model", metavar="MODEL", help="a model name, or an SCRFD or YuNet .onnx file in float")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="the .onnx file to write (default: MODEL_int8.onnx, beside the file or, for a model name, in this folder)",
    )
    parser.add_argument(
        "--calibration", nargs="+", required=True, metavar="INPUT", help="image files, folders or glob patterns"
    )
    parser.add_argument("--recursive", action="store_true", help="search subfolders too")
    parser.add_argument(
        "--samples",
        type=positive,
        default=100,
        metavar="N",
        help="number of calibration images to use, evenly chosen (default: %(default)s)",
    )
    parser.add_argument(
        "--size", type=input_size, default=640, metavar="S", help="input size of the network (default: %(default)s)"
    )
    parser.add_argument(
        "--ranges",
        choices=("mean", "extremes"),
        default="mean",
        help="ranges of activations: mean of the images, or extremes of all images; try both (default: %(default)s)",
    )
    parser.add_argument("--symmetric", action="store_true", help="use symmetric ranges, which TensorRT requires")
    parser.add_argument("--annotations", metavar="GT_DIR", help="folder with the four official MAT files")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images of the annotations, as <event>/<image>.jpg")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON; - prints it")


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns its exit status."""
    if (args.annotations is None) != (args.images is None):
        raise FaceDetError("--annotations and --images go together: the ground truth and the folder of its images")
    model = _model_file(args.model)
    beside = model.parent if args.model.lower().endswith(".onnx") else Path()
    out = args.out or beside / f"{Path(args.model).stem}_int8.onnx"
    if out.resolve() == model.resolve():
        raise FaceDetError(f"{out} is the file to quantize; choose another file with --out")
    found = [image.path for image in find_inputs(args.calibration, args.recursive)]
    _check_targets(args, model, out, found)
    scored = None
    if args.annotations:
        ground_truth = read_ground_truth(args.annotations)
        scored = ground_truth, find_images(args.images, ground_truth)
    images = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, args.samples).round().astype(int))]
    console = summary_stream(args.json)
    result = quantize_onnx(model, out, images, input_size=args.size, symmetric=args.symmetric, ranges=args.ranges)
    done = f"{result.convolutions} convolutions in INT8, ranges measured on {result.images} images"
    print(f"written: {one_line(out)}, {done}", file=console)
    report: dict[str, dict[str, Any]] = {
        "float": {"file": str(model), "bytes": result.bytes_before},
        "int8": {"file": str(out), "bytes": result.bytes_after},
    }
    detectors = {name: build_detector(entry["file"], input_size=args.size) for name, entry in report.items()}
    for name, milliseconds in _median_milliseconds(detectors, images[:_TIMED_IMAGES]).items():
        report[name]["milliseconds"] = milliseconds
    if scored:
        for name, detector in detectors.items():
            report[name]["ap"] = clean_ap(detector, *scored)
    print("\n".join(_table(report["float"], report["int8"])), file=console)
    if args.json:
        write_result(args.json, json.dumps(report, indent=2) + "\n")
    return 0


def _check_targets(args: argparse.Namespace, model: Path, out: Path, images: Sequence[Path]) -> None:
    targets = Targets([model, *images])
    targets.reads_folder(args.annotations, [".mat"])
    targets.reads_folder(args.images, IMAGE_SUFFIXES)
    targets.add("--out", out)
    targets.add("--json", args.json, may_print=True)


def _model_file(model: str) -> Path:
    """Returns the file of a model name or of a path."""
    if model.lower().endswith(".onnx"):
        return Path(model)
    path = weights_path(model)
    if path is None:
        raise ModelError(f"{model} is not on this machine: run facedet models fetch {model}, or pass an .onnx file")
    return path


def _median_milliseconds(detectors: Mapping[str, Detector], images: Sequence[Path]) -> dict[str, float]:
    """Returns the median time of one detection in milliseconds; the detectors take turns on each image."""
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for image in map(read_image, images):
        for name, detector in detectors.items():
            detector.detect(image)
            times[name].append(call_time(partial(detector.detect, image)))
    return {name: float(np.median(values)) for name, values in times.items()}


def _table(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns the lines of the table that compares the two files."""
    size = before["bytes"] / 1e3, after["bytes"] / 1e3
    milliseconds = before["milliseconds"], after["milliseconds"]
    rows = [
        ("size (kB)", *size, ratio_text(*size, "smaller", "larger")),
        ("time (ms)", *milliseconds, ratio_text(*milliseconds, "faster", "slower")),
    ]
    rows += [
        (f"AP {name} (%)", ap, after["ap"][name], f"{after['ap'][name] - ap:+.2f}")
        for name, ap in before.get("ap", {}).items()
    ]
    head = f"{'':<14}{'float':>10}{'INT8':>10}"
    return [head, *(f"{name:<14}{old:>10.2f}{new:>10.2f}{change:>16}" for name, old, new, change in rows)]


def ratio_text(before: float, after: float, less: str, more: str) -> str:
    """Returns how a positive value changed, such as ``'3.10 x faster'``.

    Args:
        before: Value before the change.
        after: Value after the change.
        less: Word for a value that fell.
        more: Word for a value that rose.

    Example:
        >>> ratio_text(10, 20, "faster", "slower")
        '2.00 x slower'
    """
    ratio = f"{max(before, after) / min(before, after):.2f}"
    if ratio == "1.00":
        return "unchanged"
    return f"{ratio} x {less if after < before else more}"
