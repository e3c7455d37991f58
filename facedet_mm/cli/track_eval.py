"""``facedet track-eval``: scores MOTChallenge files by HOTA, MOTA and IDF1."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from facedet_mm.cli.console import summary_stream, write_result
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line
from facedet_mm.tracking.evaluation import score_tracks

_EPILOG = """\
example:
  facedet video clip.mp4 --out tracks/clip.txt
  facedet track-eval tracks ground_truth --json scores.json

Both are folders of MOTChallenge files with the same names, or one file each. TrackEval computes the scores
(pip install 'facedet-mm[track-eval]')."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "results", metavar="RESULTS", help="file or folder, lines frame,id,left,top,width,height,score,…"
    )
    parser.add_argument(
        "ground_truth", metavar="GT", help="file or folder, lines frame,id,left,top,width,height,mark,class,visibility"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores as fractions; - prints them")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    targets = Targets([args.results, args.ground_truth])
    for folder in (args.results, args.ground_truth):
        targets.reads_folder(folder, [".txt"])
    targets.add("--json", args.json, may_print=True)
    out = summary_stream(args.json)
    scores = score_tracks(args.results, args.ground_truth)
    shown = {name: one_line(name) for name in scores}
    width = max(map(len, shown.values()))
    print(f"{'':{width}}{'HOTA':>8}{'MOTA':>8}{'IDF1':>8}{'switches':>10}{'tracks':>8}", file=out)
    for name, row in scores.items():
        percents = "".join(f"{100 * value:8.2f}" for value in (row.hota, row.mota, row.idf1))
        print(f"{shown[name]:{width}}{percents}{row.switches:10}{row.tracks:8}", file=out)
    if args.json:
        write_result(args.json, json.dumps({name: asdict(row) for name, row in scores.items()}, indent=2) + "\n")
    return 0
