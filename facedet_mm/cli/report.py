"""``facedet report``: one page about one or several runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli.arguments import non_negative, positive
from facedet_mm.cli.console import write_result
from facedet_mm.datasets.attributes import read_annotated_faces
from facedet_mm.errors import AnnotationError
from facedet_mm.io.images import IMAGE_SUFFIXES
from facedet_mm.report.crops import ImageFolder
from facedet_mm.report.page import check_packages, render
from facedet_mm.report.results import Options, Report
from facedet_mm.report.runs import Run, find_runs
from facedet_mm.system.targets import Targets, goes_to_stdout
from facedet_mm.system.text import one_line

_EPILOG = """\
examples:
  facedet report work_dirs/scrfd_2.5g --out report.html
  python tools/test.py CONFIG CHECKPOINT --out work_dirs/scrfd_2.5g/predictions
  facedet report work_dirs/scrfd_0.5g work_dirs/scrfd_2.5g --annotations data/wider_face/ground_truth \\
      --images data/wider_face/WIDER_val/images

A RUN is a work directory of tools/train.py, a scalars.json, or a folder of predictions. For a work directory, the
page shows the training log, the predictions in its subfolder predictions (or those of --predictions) and the times
in its bench.json (facedet bench --json). The page needs jinja2 and matplotlib: pip install 'facedet-mm[plot]'."""

_READ_SUFFIXES = (".json", ".log", ".mat", ".txt", *IMAGE_SUFFIXES)
"""Suffixes of the files that a report is made from."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("runs", nargs="+", metavar="RUN", help="work directory, log or folder of predictions")
    parser.add_argument(
        "--predictions", nargs="+", default=[], metavar="DIR", help="submission folder of each run; - for a run without"
    )
    parser.add_argument(
        "--annotations", metavar="GT", help="folder with the four official MAT files, or an annotation file"
    )
    parser.add_argument(
        "--attributes",
        metavar="FILE",
        help="wider_face_val_bbx_gt.txt, when the MAT files have no blur, occlusion and pose",
    )
    parser.add_argument("--images", metavar="DIR", help="folder with <event>/<image>.jpg, for the crops")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page; - prints it (default: %(default)s)",
    )
    parser.add_argument(
        "--score-thr",
        type=non_negative,
        default=Options.score_thr,
        metavar="T",
        help="smallest score of a detection that counts in recall, misses and false alarms (default: %(default)s)",
    )
    parser.add_argument(
        "--crops",
        type=positive,
        default=Options.shots,
        metavar="N",
        help="largest number of misses and of false alarms (default: %(default)s each)",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="count images without a prediction file as images without detections",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    targets = Targets([*args.runs, args.annotations, args.attributes])
    for folder in (*args.runs, *args.predictions, args.annotations, args.images):
        targets.reads_folder(folder, _READ_SUFFIXES)
    targets.add("--out", args.out, may_print=True)
    check_packages()
    runs = find_runs(args.runs, args.predictions)
    _check_annotations(args, runs)
    images = ImageFolder(args.images) if args.images else None
    faces = read_annotated_faces(args.annotations, args.attributes) if args.annotations else None
    options = Options(args.score_thr, allow_missing=args.allow_missing, shots=args.crops)
    report = Report.of(runs, faces, images, options)
    write_result(args.out, render(report, args.out))
    if not goes_to_stdout(args.out):
        print(f"wrote {one_line(args.out)}", file=sys.stderr)
    return 0


def _check_annotations(args: argparse.Namespace, runs: list[Run]) -> None:
    """Checks that predictions which the user asked for can be scored; others may be left out."""
    if args.annotations:
        return
    for run_ in runs:
        if run_.predictions is not None and (args.predictions or run_.log is None):
            raise AnnotationError(
                f"{run_.predictions} holds predictions; to score them, give --annotations: the folder with "
                "wider_face_val.mat and the other three MAT files, or an annotation file"
            )
