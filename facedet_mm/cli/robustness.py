"""``facedet robustness``: average precision on images made worse."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from facedet_mm.benchmark.robustness import (
    DARK,
    IOU_THR,
    SCORE_THR,
    Results,
    describe_run,
    find_images,
    measure,
    plan_cells,
)
from facedet_mm.cli.arguments import add_detector_arguments, detector_from, positive
from facedet_mm.datasets import read_ground_truth
from facedet_mm.datasets.ground_truth import SETTINGS
from facedet_mm.imaging.corruptions import CORRUPTIONS, SEVERITIES
from facedet_mm.report.heat_map import plot_heat_map
from facedet_mm.report.plots import check_plot
from facedet_mm.zoo import weights_path

_SUFFIXES = (".onnx", ".py", ".pth", ".pt")
_KEYED = ("size", "tiles", "device", "precision", "score_thr", "iou_thr", "max_faces")
_EPILOG = """\
examples:
  facedet robustness yunet_n --annotations data/wider_face/ground_truth --images data/wider_face/WIDER_val/images
  facedet robustness configs/scrfd_2.5g.py --weights epoch_640.pth --annotations GT --images IMAGES --clahe
  facedet robustness scrfd.onnx --annotations GT --images IMAGES --corruptions jpeg noise --severities 3

corruptions, from severity 1 to 3:
{corruptions}

DIR gets robustness.json and heat_map.png. The same command goes on where it was stopped, and another choice of
corruptions and severities adds to what is there; another model, data set or threshold is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG.format(corruptions="\n".join(_described()))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "model", metavar="MODEL", help="a name of the zoo, an .onnx file or a .py config of MMDetection"
    )
    parser.add_argument("--annotations", required=True, metavar="GT_DIR", help="the folder of the official MAT files")
    parser.add_argument("--images", required=True, metavar="DIR", help="holds <event>/<image>.jpg")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the results (default: outputs/robustness/<name of the model>)",
    )
    parser.add_argument(
        "--corruptions", nargs="+", choices=list(CORRUPTIONS), default=list(CORRUPTIONS), metavar="C", help="(all)"
    )
    parser.add_argument(
        "--severities", nargs="+", type=int, choices=SEVERITIES, default=SEVERITIES, metavar="N", help="(1 2 3)"
    )
    parser.add_argument(
        "--clahe", action="store_true", help=f"measure {DARK} a second time, with images brightened as in videos"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="threads that read images and make them worse meanwhile (default: a core each, at most 4)",
    )
    add_detector_arguments(parser, without=("--model",))
    parser.set_defaults(score_thr=SCORE_THR, iou_thr=IOU_THR)


def run(args: argparse.Namespace) -> int:
    """Runs the command; gives the exit status."""
    out = args.out or Path("outputs", "robustness", _name(args))
    check_plot(out / "heat_map.png")
    ground_truth = read_ground_truth(args.annotations)
    files = find_images(args.images, ground_truth)
    detector = detector_from(args)
    settings = {key: getattr(args, key) for key in _KEYED}
    results = Results.open(out / "robustness.json", describe_run(_model_files(args), settings, ground_truth, files))
    wanted = plan_cells(args.corruptions, args.severities, args.clahe)
    cells = [cell for cell in wanted if cell not in results.ap]
    if len(cells) < len(wanted):
        print(f"facedet robustness: {len(wanted) - len(cells)} cells are in {results.path} already", file=sys.stderr)
    results.save()
    with tqdm(total=len(cells) * len(files), unit="img", disable=not sys.stderr.isatty(), leave=False) as bar:
        for cell, ap in measure(detector, ground_truth, files, cells, args.workers, bar.update):
            results.ap[cell] = ap
            results.save()
            bar.write(f"{cell}: {' / '.join(_percent(ap.values()))}", file=sys.stderr)
    print(format_results(results), flush=True)
    plot_heat_map(results, out / "heat_map.png")
    print(f"\n{results.path}\n{out / 'heat_map.png'}")
    return 0


def format_results(results: Results) -> str:
    """A table of AP in percent, a line a cell, with the mean drop below."""
    lines = [_row("", "severity", "value", SETTINGS)]
    for cell in results.cells:
        value = "" if cell.value is None else f"{cell.value:g}"
        lines.append(_row(cell.row, str(cell.severity or ""), value, _percent(results.ap[cell].values())))
    lines += ["", _row("mean drop", "", "", _percent(results.mean_drop().values()))]
    return "\n".join(lines)


def _row(label: str, severity: str, value: str, figures: Iterable[str]) -> str:
    return f"{label:<16}{severity:>9}{value:>8}" + "".join(f"{figure:>9}" for figure in figures)


def _percent(fractions: Iterable[float]) -> list[str]:
    return [f"{100 * fraction:.2f}" for fraction in fractions]


def _described() -> list[str]:
    return [
        f"  {name:<16}{kind.unit}: {', '.join(f'{v:g}' for v in kind.values)}" for name, kind in CORRUPTIONS.items()
    ]


def _name(args: argparse.Namespace) -> str:
    path = Path(args.weights or args.model)
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


def _model_files(args: argparse.Namespace) -> list[Path]:
    """The files that the detector was built from."""
    given = [Path(word) for word in (args.model, args.weights) if word and Path(word).suffix.lower() in _SUFFIXES]
    return given or [path for path in [weights_path(args.model)] if path]
