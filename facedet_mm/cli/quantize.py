"""``facedet quantize``: an INT8 file of an ONNX file, and what it costs and gains."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facedet_mm.benchmark.robustness import clean_ap, find_images
from facedet_mm.cli.arguments import input_size, positive
from facedet_mm.cli.inputs import find_inputs
from facedet_mm.datasets import GroundTruth, read_ground_truth
from facedet_mm.deploy.quantization import quantize_onnx
from facedet_mm.detectors import Detector, build_detector
from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import read_image
from facedet_mm.system.files import write_text

_EPILOG = """\
examples:
  facedet quantize scrfd_2.5g_kps.onnx --calibration photos/
  facedet quantize model.onnx -o int8.onnx --calibration WIDER_train/images --recursive \\
      --annotations data/wider_face/ground_truth --images WIDER_val/images

The ranges of the activations are measured on some images of the kind that the model will see, which need no
annotations. With --annotations, the WIDER FACE AP of both files is measured too. The file runs in ONNX Runtime and
OpenVINO; for TensorRT add --symmetric."""
_TIMED = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("model", type=Path, metavar="MODEL", help="an .onnx file of SCRFD or YuNet in float")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="the .onnx file to write (default: MODEL with _int8)"
    )
    parser.add_argument(
        "--calibration", nargs="+", required=True, metavar="INPUT", help="images, folders or patterns of them"
    )
    parser.add_argument("--recursive", action="store_true", help="look into the folders of folders too")
    parser.add_argument(
        "--samples", type=positive, default=100, metavar="N", help="use so many, evenly chosen (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=input_size, default=640, metavar="S", help="what the network sees (default: %(default)s)"
    )
    parser.add_argument(
        "--ranges",
        choices=("mean", "extremes"),
        default="mean",
        help="of activations: means over the images, or extremes of all; try both (default: %(default)s)",
    )
    parser.add_argument("--symmetric", action="store_true", help="ranges as TensorRT needs them")
    parser.add_argument("--annotations", metavar="GT_DIR", help="the folder with the four official MAT files")
    parser.add_argument("--images", type=Path, metavar="DIR", help="its images, as <event>/<image>.jpg")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command; gives the exit status."""
    if (args.annotations is None) != (args.images is None):
        raise FaceDetError("--annotations and --images go together: the ground truth and the folder of its images")
    out = args.out or args.model.with_name(f"{args.model.stem}_int8.onnx")
    if out.resolve() == args.model.resolve():
        raise FaceDetError(f"{out} is the file to quantize; give another one to --out")
    scored = _scored_images(args.annotations, args.images) if args.annotations else None
    found = [image.path for image in find_inputs(args.calibration, args.recursive)]
    images = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, args.samples).round().astype(int))]
    result = quantize_onnx(args.model, out, images, input_size=args.size, symmetric=args.symmetric, ranges=args.ranges)
    print(f"written: {out}, {result.convolutions} convolutions in INT8, ranges of {result.images} images")
    report = {
        name: {"file": str(path), "bytes": path.stat().st_size} for name, path in (("float", args.model), ("int8", out))
    }
    detectors = {name: build_detector(report[name]["file"], input_size=args.size) for name in report}
    for name, milliseconds in _times(list(detectors.values()), images[:_TIMED], list(detectors)).items():
        report[name]["milliseconds"] = milliseconds
    if scored:
        for name, detector in detectors.items():
            report[name]["ap"] = clean_ap(detector, *scored)
    print(_table(report))
    if args.json:
        write_text(args.json, json.dumps(report, indent=2) + "\n")
    return 0


def _times(detectors: Sequence[Detector], images: Sequence[Path], names: Sequence[str]) -> dict[str, float]:
    """Median milliseconds of a detection; the detectors take turns."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for image in map(read_image, images):
        for name, detector in zip(names, detectors, strict=True):
            detector.detect(image)
            start = time.perf_counter()
            detector.detect(image)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def _scored_images(annotations: str, images: Path) -> tuple[GroundTruth, list[Path]]:
    ground_truth = read_ground_truth(annotations)
    return ground_truth, find_images(images, ground_truth)


def _table(report: dict[str, dict[str, Any]]) -> str:
    before, after = report.values()
    lines = [f"{'':<14}{'float':>10}{'INT8':>10}{'':>12}"]
    rows = [("size (kB)", before["bytes"] / 1e3, after["bytes"] / 1e3, "÷")]
    rows.append(("time (ms)", before["milliseconds"], after["milliseconds"], "÷"))
    rows += [(f"AP {name} (%)", ap, after["ap"][name], "-") for name, ap in before.get("ap", {}).items()]
    for name, old, new, how in rows:
        change = f"{old / new:.2f} x less" if how == "÷" else f"{new - old:+.2f}"
        lines.append(f"{name:<14}{old:>10.2f}{new:>10.2f}{change:>14}")
    return "\n".join(lines)
