"""``facedet eval``: average precision of a submission folder by the WIDER FACE protocol."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path

from facedet_mm.cli.console import summary_stream, write_result
from facedet_mm.datasets import read_ground_truth, read_predictions
from facedet_mm.evaluation import WiderFaceResult, evaluate
from facedet_mm.evaluation.wider_face import SIZE_EDGES
from facedet_mm.report.plots import check_plot, plot_curves
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line

_EPILOG = """\
example:
  facedet eval outputs/wider data/wider_face/ground_truth --json ap.json --plot curves.png

PRED_DIR has one file <event>/<image>.txt per image: the image's name, the number of boxes, then one line
"x y w h score" per box. GT_DIR has wider_face_val.mat and wider_{easy,medium,hard}_val.mat."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("predictions", metavar="PRED_DIR", help="the submission folder")
    parser.add_argument("ground_truth", metavar="GT_DIR", help="the folder with the four official MAT files")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the average precisions as fractions, all digits; - prints them"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the precision-recall curves (.png, .pdf or .svg)"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="count images without a prediction file as images without detections",
    )
    parser.add_argument(
        "--iou-thr", metavar="IOU", type=_iou, default=0.5, help="smallest IoU of a match (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    targets = Targets()
    targets.reads_folder(args.predictions, [".txt"])
    targets.reads_folder(args.ground_truth, [".mat"])
    targets.add("--json", args.json, may_print=True)
    targets.add("--plot", args.plot)
    if args.plot:
        check_plot(args.plot)
    ground_truth = read_ground_truth(args.ground_truth)
    predictions = read_predictions(args.predictions)
    result = evaluate(predictions, ground_truth, args.iou_thr, args.allow_missing)
    for what, names in (("without predictions", result.missing), ("not in the ground truth, left out", result.surplus)):
        if names:
            print(f"facedet eval: note: {len(names)} images {what}, first {one_line(names[0])}", file=sys.stderr)
    print(format_result(result), file=summary_stream(args.json), flush=True)
    if args.json:
        fractions = {name: None if math.isnan(ap) else ap for name, ap in result.ap.items()}
        write_result(args.json, json.dumps(fractions, indent=2) + "\n")
    if args.plot:
        plot_curves(result, args.plot)
    return 0


def format_result(result: WiderFaceResult) -> str:
    """Returns a table of AP in percent and of the faces that no detection finds, by height in pixels."""
    settings = result.settings.values()
    lines = [_row("", result.settings), _row("AP (%)", (f"{100 * setting.ap:.3f}" for setting in settings))]
    lines += ["", "missed / faces"]
    lines.append(_row("  all", (f"{setting.missed.sum()} / {setting.faces.sum()}" for setting in settings)))
    for i, label in enumerate(_bucket_labels()):
        lines.append(_row(label, (f"{setting.missed[i]} / {setting.faces[i]}" for setting in settings)))
    return "\n".join(lines)


def _bucket_labels() -> list[str]:
    closed = [f"  {low}-{high} px" for low, high in itertools.pairwise(SIZE_EDGES)]
    return [*closed, f"  {SIZE_EDGES[-1]} px and more"]


def _row(label: str, cells: Iterable[str]) -> str:
    return f"{label:<18}" + "".join(f"{cell:>16}" for cell in cells)


def _iou(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value
