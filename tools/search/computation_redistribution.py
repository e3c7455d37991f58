"""Searches for the best way to spread a budget over backbone, neck and head, as SCRFD's paper does in two steps.

A search lives in one folder: search.journal with all architectures and results (an Optuna journal, which
optuna-dashboard shows, too), configs/ and a work directory for each training. `run` can be stopped and started again at
any time, and several can work on one folder.

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
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import FaceDetError
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.files import write_text
from facedet_mm.system.text import one_line

try:
    import optuna

    from facedet_mm.plugin.search.steps import add_architectures, statistics
    from facedet_mm.plugin.search.training import Launch, default_command, train_next
    from facedet_mm.search.architecture import METRIC, STEPS
    from facedet_mm.search.sampling import Space
    from facedet_mm.search.store import SearchStore
except ModuleNotFoundError as error:
    feature, package = ("search", "Optuna") if error.name == "optuna" else ("train", "PyTorch")
    message = missing_dependency(f"a search needs {package}", feature, error)
    sys.exit(f"computation_redistribution: error: {message}")

ROOT = Path(__file__).resolve().parents[2]
JOURNAL = "search.journal"


def main() -> int:
    """Runs one action and returns the exit status."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    args = build_parser().parse_args()
    return args.action(args)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    draw = actions.add_parser("sample", help="draw architectures of the budget")
    draw.add_argument("--gflops", type=float, metavar="G", help="budget at 640x480, within 2 %% (required once)")
    draw.add_argument("--step", choices=STEPS, default=STEPS[0], help="step of the search (%(default)s)")
    draw.add_argument(
        "--number", type=positive, default=320, metavar="N", help="architectures in the step afterwards (%(default)s)"
    )
    draw.add_argument("--seed", type=int, default=0, help="seed of the random numbers (%(default)s)")
    for field in fields(Space):
        draw.add_argument(
            f"--{field.name.replace('_', '-')}", nargs=2, type=positive, default=field.default, metavar=("MIN", "MAX"),
            help=f"smallest and largest {field.name.replace('_', ' ')} (%(default)s)",
        )  # fmt: skip
    draw.set_defaults(action=draw_architectures)
    train = actions.add_parser("run", help="train and evaluate the waiting architectures")
    train.add_argument("--epochs", type=positive, default=80, metavar="N", help="epochs of each training (%(default)s)")
    train.add_argument("--step", choices=STEPS, help="train only this step")
    train.add_argument("--limit", type=positive, metavar="N", help="stop after N trainings")
    train.add_argument("--retry", action="store_true", help="also train failed architectures again")
    train.add_argument(
        "--command", default=default_command(ROOT), metavar="C",
        help="command that starts a training; {config} is replaced by its config (tools/train.py)",
    )  # fmt: skip
    train.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="config changes of each training"
    )
    train.set_defaults(action=train_architectures)
    show = actions.add_parser("report", help="list the best architectures and the intervals of their settings")
    show.add_argument("--top", type=positive, default=5, metavar="N", help="architectures to list (%(default)s)")
    show.add_argument("--json", type=Path, metavar="FILE", help="write everything to a JSON file")
    show.set_defaults(action=report)
    for action in (draw, train):
        action.add_argument(
            "--template", type=Path, metavar="CONFIG",
            help="config that the search varies (required once, and always if it is not directly in configs/)",
        )  # fmt: skip
    for action in (draw, train, show):
        action.add_argument("folder", type=Path, help="folder of the search")
    return parser


def draw_architectures(args: argparse.Namespace) -> int:
    """Adds architectures to the search."""
    path = args.folder / JOURNAL
    facts = SearchStore(path).facts() if path.exists() else {}
    budget = args.gflops * 1e9 if args.gflops else facts.get("budget")
    if budget is None or not (args.template or facts):
        raise FaceDetError("a new search needs --template and --gflops")
    template = template_path(args.template, facts)
    store = SearchStore(path)
    space = Space(**{field.name: tuple(getattr(args, field.name)) for field in fields(Space)})
    added = add_architectures(store, template, budget, args.step, args.number, args.seed, space)
    total = len(store.architectures(args.step))
    print(f"{store.path}: {added} architectures added to the step {args.step!r}, which now has {total}")
    return 0


def train_architectures(args: argparse.Namespace) -> int:
    """Trains the waiting architectures and returns 1 if a training failed."""
    store = existing(args.folder)
    launch = Launch(args.command, template_path(args.template, store.facts()), args.epochs, args.cfg_options)
    store.recover(args.retry)
    failed = finished = 0
    while args.limit is None or finished < args.limit:
        trained = train_next(store, launch, args.step)
        if trained is None:
            break
        finished += 1
        failed += trained.state == "failed"
        waiting = len(store.architectures(args.step, "waiting"))
        outcome = (
            f"{100 * trained.metrics[METRIC]:.2f} hard AP" if trained.metrics else f"failed, {one_line(trained.error)}"
        )
        print(f"{trained.step} {trained.number}: {outcome}; {waiting} waiting", flush=True)
    return int(failed > 0)


def report(args: argparse.Namespace) -> int:
    """Prints the best architectures and the intervals of their settings."""
    store = existing(args.folder)
    everything: dict[str, Any] = dict(store.facts())
    for step in STEPS:
        best_first = sorted(store.architectures(step, "done"), key=lambda done: -done.metrics[METRIC])
        if not best_first:
            continue
        estimates = statistics(store, step)
        everything[step] = dict(
            architectures=[asdict(architecture) for architecture in best_first],
            best={name: asdict(value) for name, value in estimates.items()},
        )
        print(f"step {step!r}: {len(best_first)} of {len(store.architectures(step))} done, hard AP in percent")
        for done in best_first[: args.top]:
            figures = f"{100 * done.metrics[METRIC]:6.2f}  {done.operations / 1e9:.3f} GFLOPs"
            settings = ", ".join(f"{name} {value}" for name, value in done.settings.items())
            print(f"  {figures}  configs/{step}_{done.number:04d}.py  {settings}")
        print(f"  {'setting of the best':22}{'median':>9}   95 % interval")
        for name, value in estimates.items():
            digits = 3 if " of " in name else 0
            print(f"  {name:22}{value.median:9.{digits}f}   {value.low:.{digits}f} to {value.high:.{digits}f}")
    if args.json:
        strict = json.loads(json.dumps(everything), parse_constant=lambda _: None)  # JSON has no NaN
        write_text(args.json, json.dumps(strict, indent=2) + "\n")
    return 0


def template_path(given: Path | None, facts: dict[str, Any]) -> Path:
    """Returns the template: the given one, or the one in configs/ whose name the search has recorded.

    A journal from a stranger must not choose any other file: a config is a program.
    """
    name = facts.get("template", given and given.name)
    if given and given.name != name:
        raise FaceDetError(f"the template of this search is {name}, not {given}")
    path = given or ROOT / "configs" / str(name)
    if not path.is_file():
        raise FaceDetError(f"{path}: no such file; give the template of this search as --template")
    return path


def existing(folder: Path) -> SearchStore:
    """Opens the search in a folder."""
    path = folder / JOURNAL
    if not path.is_file():
        raise FaceDetError(f"{path}: no such file; the action 'sample' starts a search")
    return SearchStore(path)


if __name__ == "__main__":
    sys.exit(guard(main, "computation_redistribution"))
