"""Searches for the best way to spread a budget over backbone, neck and head, as SCRFD's paper does in two steps.

One folder holds a search: search.db with all architectures and results, a config each, and their runs. `run` may be
stopped and started again at any time, and several may work on one folder.

Example:
    S=work_dirs/search_2.5g
    python tools/search/computation_redistribution.py sample $S --template configs/scrfd_2.5g.py --gflops 2.5
    python tools/search/computation_redistribution.py run $S --epochs 80
    python tools/search/computation_redistribution.py sample $S --step all
    python tools/search/computation_redistribution.py run $S --epochs 80 --command 'bash tools/dist_train.sh {config} 8'
    python tools/search/computation_redistribution.py report $S --json best.json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from facedet_mm.cli import guard
from facedet_mm.cli.arguments import positive
from facedet_mm.errors import FaceDetError
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.files import write_text

try:
    from facedet_mm.plugin.search.sampling import Space
    from facedet_mm.plugin.search.steps import METRIC, add_architectures, statistics
    from facedet_mm.plugin.search.store import STEPS, SearchStore
    from facedet_mm.plugin.search.training import Launch, default_command, train_next
except ModuleNotFoundError as error:
    sys.exit(f"computation_redistribution: error: {missing_dependency('a search needs PyTorch', 'train', error)}")

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Runs one action; gives the exit status."""
    args = build_parser().parse_args()
    return args.action(args)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    draw = actions.add_parser("sample", help="draw architectures of the budget")
    draw.add_argument("--template", type=Path, metavar="CONFIG", help="what is not searched (that of the search)")
    draw.add_argument("--gflops", type=float, metavar="G", help="budget at 640x480, within 2 %% (that of the search)")
    draw.add_argument("--step", choices=STEPS, default=STEPS[0], help="backbone first, then all")
    draw.add_argument(
        "--number", type=positive, default=320, metavar="N", help="architectures of the step (%(default)s)"
    )
    draw.add_argument("--seed", type=int, default=0)
    for field in fields(Space):
        draw.add_argument(
            f"--{field.name.replace('_', '-')}", nargs=2, type=positive, default=field.default, metavar=("MIN", "MAX"),
            help=f"least and greatest {field.name.replace('_', ' ')} (%(default)s)",
        )  # fmt: skip
    draw.set_defaults(action=draw_architectures)
    train = actions.add_parser("run", help="train and evaluate those that wait")
    train.add_argument("--epochs", type=positive, default=80, metavar="N", help="of each (%(default)s)")
    train.add_argument("--step", choices=STEPS, help="only those of one step")
    train.add_argument("--limit", type=positive, metavar="N", help="stop after so many")
    train.add_argument("--retry", action="store_true", help="those that failed too")
    train.add_argument(
        "--command", default=default_command(ROOT), metavar="C",
        help="starts a training; {config} stands for its config (tools/train.py)",
    )  # fmt: skip
    train.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="passed on to every training")
    train.set_defaults(action=train_architectures)
    tell = actions.add_parser("report", help="the best, and where their settings lie")
    tell.add_argument("--top", type=positive, default=5, metavar="N", help="architectures to list (%(default)s)")
    tell.add_argument("--json", type=Path, metavar="FILE", help="write everything")
    tell.set_defaults(action=report)
    for action in (draw, train, tell):
        action.add_argument("folder", type=Path, help="folder of the search")
    return parser


def draw_architectures(args: argparse.Namespace) -> int:
    """Adds architectures to the search."""
    path = args.folder / "search.db"
    facts = SearchStore(path).facts() if path.exists() else {}
    template = args.template or facts.get("template")
    budget = args.gflops * 1e9 if args.gflops else facts.get("budget")
    if template is None or budget is None:
        raise FaceDetError("a new search needs --template and --gflops")
    store = SearchStore(path)
    space = Space(**{field.name: tuple(getattr(args, field.name)) for field in fields(Space)})
    added = add_architectures(store, Path(template), budget, args.step, args.number, args.seed, space)
    print(f"{store.path}: {added} architectures added to the step {args.step!r}, {len(store.runs(args.step))} in all")
    return 0


def train_architectures(args: argparse.Namespace) -> int:
    """Trains what waits; gives 1 when a run failed."""
    store = existing(args.folder)
    store.recover(args.retry)
    launch = Launch(args.command, args.epochs, args.cfg_options)
    failed = finished = 0
    while args.limit is None or finished < args.limit:
        run = train_next(store, launch, args.step)
        if run is None:
            break
        finished += 1
        failed += run.state == "failed"
        waiting = len(store.runs(args.step, "waiting"))
        outcome = f"{100 * run.metrics[METRIC]:.2f} hard AP" if run.metrics else f"failed, {run.error}"
        print(f"{run.step} {run.id}: {outcome}; {waiting} wait", flush=True)
    return int(failed > 0)


def report(args: argparse.Namespace) -> int:
    """Prints the best architectures and the intervals of their settings."""
    store = existing(args.folder)
    everything: dict[str, Any] = dict(store.facts())
    for step in STEPS:
        runs = sorted(store.runs(step, "done"), key=lambda run: -run.metrics[METRIC])
        if not runs:
            continue
        estimates = statistics(store, step)
        everything[step] = dict(
            runs=[asdict(run) for run in runs], best={name: asdict(value) for name, value in estimates.items()}
        )
        print(f"step {step!r}: {len(runs)} of {len(store.runs(step))} done, hard AP in percent")
        for run in runs[: args.top]:
            figures = f"{100 * run.metrics[METRIC]:6.2f}  {run.operations / 1e9:.3f} GFLOPs"
            print(f"  {figures}  configs/{step}_{run.id:04d}.py  {run.model}")
        print(f"  {'setting of the best':22}{'median':>9}   95 % interval")
        for name, value in estimates.items():
            digits = 3 if " of " in name else 0
            print(f"  {name:22}{value.median:9.{digits}f}   {value.low:.{digits}f} to {value.high:.{digits}f}")
    if args.json:
        write_text(args.json, json.dumps(everything, indent=2) + "\n")
    return 0


def existing(folder: Path) -> SearchStore:
    """The search in a folder."""
    path = folder / "search.db"
    if not path.is_file():
        raise FaceDetError(f"{path}: no such file; the action 'sample' begins a search")
    return SearchStore(path)


if __name__ == "__main__":
    sys.exit(guard(main, "computation_redistribution"))
