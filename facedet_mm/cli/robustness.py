"""``facedet robustness``: average precision on corrupted images."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from facedet_mm.benchmark.accuracy import IOU_THR, SCORE_THR, find_images
from facedet_mm.benchmark.results import Results, describe_run
from facedet_mm.benchmark.robustness import DARK, TURNED, measure, plan_cells
from facedet_mm.cli.arguments import add_settings, positive, settings_from
from facedet_mm.datasets import read_ground_truth
from facedet_mm.datasets.ground_truth import SETTINGS
from facedet_mm.detectors import DetectorOptions, open_detector
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.corruptions import CORRUPTIONS, SEVERITIES
from facedet_mm.io.images import IMAGE_SUFFIXES
from facedet_mm.report.heat_map import plot_heat_map
from facedet_mm.report.plots import check_plot
from facedet_mm.system.settings import declared_settings
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line
from facedet_mm.zoo import weights_path

_SUFFIXES = (".onnx", ".py", ".pth", ".pt")
_EPILOG = """\
examples:
  facedet robustness yunet_n --annotations data/wider_face/ground_truth --images data/wider_face/WIDER_val/images
  facedet robustness configs/scrfd_2.5g.py --weights epoch_640.pth --annotations GT --images IMAGES --clahe
  facedet robustness scrfd.onnx --annotations GT --images IMAGES --corruptions jpeg noise --severities 3

corruptions, from severity 1 on:
{corruptions}

Rotated images are whole, on a gray canvas, so at 15 and 45 degrees their faces are smaller for the network; the boxes
of the ground truth are those of the turned ellipses. Rotation is no part of the mean drop.

The results are robustness.json and heat_map.png in DIR. The same command continues where it was stopped, and another
choice of corruptions and severities adds to the results; another model, dataset or threshold is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG.format(corruptions="\n".join(_described()))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", metavar="MODEL", help="model name, .onnx file or .py config of MMDetection")
    parser.add_argument("--annotations", required=True, metavar="GT_DIR", help="folder of the official MAT files")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of <event>/<image>.jpg")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the results (default: outputs/robustness/MODEL)"
    )
    parser.add_argument(
        "--corruptions",
        nargs="+",
        choices=list(CORRUPTIONS),
        default=list(CORRUPTIONS),
        metavar="C",
        help="corruptions to measure (default: all)",
    )
    parser.add_argument(
        "--severities",
        nargs="+",
        type=int,
        choices=SEVERITIES,
        default=SEVERITIES,
        metavar="N",
        help="severities to measure (default: all, 1 2 3 and 4, which only rotation has)",
    )
    parser.add_argument(
        "--clahe", action="store_true", help=f"measure {DARK} a second time, with images brightened as in videos"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="threads that read and corrupt images (default: one per core, at most 4)",
    )
    detector = parser.add_argument_group("detector")
    add_settings(detector, DetectorOptions, without=("model",), score_thr=SCORE_THR, iou_thr=IOU_THR)


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns the exit status."""
    options = settings_from(args, DetectorOptions)
    out = args.out or Path("outputs", "robustness", _name(options))
    heat_map = out / "heat_map.png"
    wanted = plan_cells(args.corruptions, args.severities, args.clahe)
    if len(wanted) == 1:
        raise FaceDetError(f"no severity 4 of {', '.join(args.corruptions)}; only {TURNED} has it")
    targets = Targets([options.model, options.weights])
    targets.reads_folder(args.annotations, [".mat"])
    targets.reads_folder(args.images, IMAGE_SUFFIXES)
    targets.add("--out", out / "robustness.json")
    targets.add("--out", heat_map)
    check_plot(heat_map)
    ground_truth = read_ground_truth(args.annotations)
    files = find_images(args.images, ground_truth)
    detector = open_detector(options)
    description = describe_run(_model_files(options), _result_settings(options), ground_truth, files)
    results = Results.open(out / "robustness.json", description)
    cells = [cell for cell in wanted if cell not in results.ap]
    if len(cells) < len(wanted):
        print(
            f"facedet robustness: {len(wanted) - len(cells)} cells are in {one_line(results.path)} already",
            file=sys.stderr,
        )
    results.save()
    with tqdm(total=len(cells) * len(files), unit="img", disable=not sys.stderr.isatty(), leave=False) as bar:
        for cell, ap in measure(detector, ground_truth, files, cells, args.workers, bar.update):
            results.ap[cell] = ap
            results.save()
            bar.write(f"{cell}: {' / '.join(_percent(ap.values()))}", file=sys.stderr)
    print(format_results(results), flush=True)
    plot_heat_map(results, heat_map)
    print(f"\n{one_line(results.path)}\n{one_line(heat_map)}")
    return 0


def format_results(results: Results) -> str:
    """Returns a table of AP in percent, one line per cell, with the mean drop below where there is one."""
    lines = [_row("", "severity", "value", SETTINGS)]
    for cell in results.cells:
        value = "" if cell.value is None else f"{cell.value:g}"
        lines.append(_row(cell.row, str(cell.severity or ""), value, _percent(results.ap[cell].values())))
    drop = results.mean_drop().values()
    if not all(map(math.isnan, drop)):
        lines += ["", _row("mean drop", "", "", _percent(drop))]
    return "\n".join(lines)


def _row(label: str, severity: str, value: str, figures: Iterable[str]) -> str:
    return f"{label:<16}{severity:>9}{value:>8}" + "".join(f"{figure:>9}" for figure in figures)


def _percent(fractions: Iterable[float]) -> list[str]:
    return [f"{100 * fraction:.2f}" for fraction in fractions]


def _described() -> list[str]:
    return [
        f"  {name:<16}{kind.unit}: {', '.join(f'{v:g}' for v in kind.values)}" for name, kind in CORRUPTIONS.items()
    ]


def _name(options: DetectorOptions) -> str:
    path = Path(options.weights or options.model)
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


def _model_files(options: DetectorOptions) -> list[Path]:
    """Returns the files that the detector was built from."""
    given = [Path(path) for path in (options.model, options.weights) if path]
    files = [path for path in given if path.suffix.lower() in _SUFFIXES]
    return files or [path for path in [weights_path(str(options.model))] if path]


def _result_settings(options: DetectorOptions) -> dict[str, Any]:
    """Returns the settings that results depend on, by the names of their command line options."""
    names = {item.name: declared.flag.lstrip("-") or item.name for item, declared in declared_settings(DetectorOptions)}
    return {
        shown: getattr(options, name) for name, shown in names.items() if name not in ("model", "weights", "threads")
    }
