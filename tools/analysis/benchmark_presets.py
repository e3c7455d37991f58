"""AP over time of the presets and of single looks, for several models: a Markdown table and a plot.

Every setting evaluates all images at a score above 0.02. Times are medians over every --every-th image with the default
threshold, all settings in turn on each image, from a decoded image to faces.

Example:
    python tools/analysis/benchmark_presets.py yunet_n scrfd_0.5g_kps=scrfd_500m_bnkps.onnx \
        --annotations ground_truth --images WIDER_val/images --device openvino --plot presets.png
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facedet_mm.benchmark.accuracy import clean_ap, find_images
from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.datasets.ground_truth import read_ground_truth
from facedet_mm.detectors import Detector, build_detector
from facedet_mm.io.images import read_image
from facedet_mm.report.plots import check_plot, new_figure, save_figure

SETTINGS: dict[str, dict[str, Any]] = {
    "640": {"input_size": 640},
    "fast": {"preset": "fast"},
    "640, mirrored": {"input_size": 640, "mirror": True},
    "balanced": {"preset": "balanced"},
    "640, 960, 1280, mirrored": {"input_size": [640, 960, 1280], "mirror": True},
    "accurate": {"preset": "accurate"},
}
"""Name → settings of the detector."""
_MARKS = "o^vsDP"


class Point(NamedTuple):
    """A row of the table: AP in percent by setting of the ground truth, and the median time of an image."""

    model: str
    name: str
    ap: dict[str, float]
    milliseconds: float


def main() -> int:
    """Runs the tool and returns its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL[=WEIGHTS]", help="model name, with its file if not at hand")
    parser.add_argument("--annotations", required=True, metavar="FOLDER", help="ground truth of WIDER FACE val")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="its images, as <event>/<image>.jpg")
    parser.add_argument("--device", default="cpu", help="device of the detectors (default: %(default)s)")
    parser.add_argument(
        "--every", type=int, default=20, metavar="N", help="time every N-th image (default: %(default)s)"
    )
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="default: all")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot Hard AP over time as .png, .pdf or .svg")
    args = parser.parse_args()
    return guard(lambda: compare(args), parser.prog)


def compare(args: argparse.Namespace) -> int:
    """Prints the table, row by row, and saves the plot."""
    if args.plot:
        check_plot(args.plot)
    ground_truth = read_ground_truth(args.annotations)
    files = find_images(args.images, ground_truth)
    points = []
    print("| model | setting | Easy | Medium | Hard | ms |\n|---|---|---|---|---|---|", flush=True)
    for model in args.models:
        name, _, weights = model.partition("=")
        base = build_detector(name, weights=weights or None, device=args.device)
        detectors = {setting: base.replace(**SETTINGS[setting]) for setting in args.settings}
        times = milliseconds(detectors, files[:: args.every])
        for setting, detector in detectors.items():
            point = Point(name, setting, clean_ap(detector, ground_truth, files), times[setting])
            print(row(point), flush=True)
            points.append(point)
    if args.plot:
        plot(points, args.plot)
    return 0


def milliseconds(detectors: dict[str, Detector], files: list[Path]) -> dict[str, float]:
    """Returns the median time of an image by detector; all look at each image in turn, the second time counts."""
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for file in files:
        image = read_image(file)
        for name, detector in detectors.items():
            detector.detect(image)
            start = time.perf_counter()
            detector.detect(image)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def row(point: Point) -> str:
    """Returns the row of the table."""
    aps = " | ".join(f"{ap:.2f}" for ap in point.ap.values())
    return f"| {point.model} | {point.name} | {aps} | {point.milliseconds:.1f} |"


def plot(points: list[Point], path: Path) -> None:
    """Plots AP in the last setting of the ground truth over time: a line for each model, a mark for each setting."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    hardest = list(points[0].ap)[-1]
    for model in dict.fromkeys(point.model for point in points):
        mine = sorted((point for point in points if point.model == model), key=lambda point: point.milliseconds)
        axes.plot([p.milliseconds for p in mine], [p.ap[hardest] for p in mine], label=model)
    for name, mark in zip(dict.fromkeys(point.name for point in points), _MARKS, strict=False):
        mine = [point for point in points if point.name == name]
        axes.plot([p.milliseconds for p in mine], [p.ap[hardest] for p in mine], f"k{mark}", label=name)
    axes.set(xscale="log", xlabel="milliseconds per image", ylabel=f"AP {hardest.capitalize()} (%)")
    axes.legend(loc="lower right")
    save_figure(figure, path)


if __name__ == "__main__":
    sys.exit(main())
