"""Trains ablation studies briefly on one dataset and prints a table of their WIDER FACE AP.

A study is a config of configs/ablation, or the baseline at another input size. All start from the same seed. A study
whose folder contains a finished run is not repeated.

Example:
    python tools/ablation.py --list
    python tools/ablation.py crop_scales_1.0 loss_focal_smoothl1 --epochs 20 --data-root data/wider_subset
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import TrainingError
from facedet_mm.report.logs import final_metrics

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "configs" / "scrfd_2.5g.py"
SETTINGS = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Study:
    """One row of the table.

    Attributes:
        config: Config file.
        description: Difference to the baseline.
        arguments: Further arguments of ``tools/train.py``.
    """

    config: Path
    description: str
    arguments: tuple[str, ...] = ()


def find_studies() -> dict[str, Study]:
    """Returns the studies by name, without the baseline."""
    paths = sorted((ROOT / "configs" / "ablation").glob("*.py"))
    studies = {path.stem: Study(path, path.read_text().splitlines()[0].lstrip("# ")) for path in paths}
    for side in ("320", "480", "960"):
        description = f"Training and testing at {side} instead of 640."
        studies[f"input_{side}"] = Study(BASELINE, description, ("--size", side))
    return studies


def main() -> int:
    """Runs the chosen studies one after the other."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="names of studies (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names and what they change")
    parser.add_argument(
        "--epochs", type=int, default=20, help="epochs of each run; the schedule is shortened to fit (default: 20)"
    )
    parser.add_argument(
        "--data-root", type=Path, default=Path("data/wider_face"), help="dataset folder (default: data/wider_face)"
    )
    parser.add_argument(
        "--work-dir", type=Path, default=Path("work_dirs/ablation"),
        help="folder for the runs (default: work_dirs/ablation)",
    )  # fmt: skip
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="entries of the config to change in every run"
    )
    args = parser.parse_args()
    studies = find_studies()
    if args.list:
        for name, study in studies.items():
            print(f"{name:22} {study.description}")
        return 0
    unknown = [name for name in args.studies if name not in studies]
    if unknown:
        raise TrainingError(f"unknown study {', '.join(unknown)}; available: {', '.join(studies)}")
    chosen = {name: studies[name] for name in args.studies or studies}
    options = [f"data_root={args.data_root}", *schedule_options(args.epochs), "randomness.seed=0", *args.cfg_options]
    results = {
        name: train_study(study, args.work_dir / name, args.epochs, options)
        for name, study in {"baseline": Study(BASELINE, ""), **chosen}.items()
    }
    print(f"\n{'study':22}" + "".join(f"{s:>8}" for s in SETTINGS) + f"   after {args.epochs} epochs")
    for name, ap in results.items():
        print(f"{name:22}" + "".join(f"{100 * ap[f'wider_face/{s}']:8.2f}" for s in SETTINGS))
    return 0


def schedule_options(epochs: int) -> list[str]:
    """Returns the options that shorten the schedule of 640 epochs."""
    return [
        f"train_cfg.max_epochs={epochs}",
        f"train_cfg.val_interval={epochs}",
        f"param_scheduler.0.end={max(1, round(epochs * 3 / 640))}",
        f"param_scheduler.1.end={epochs}",
        f"param_scheduler.1.milestones=[{round(epochs * 440 / 640)},{round(epochs * 544 / 640)}]",
    ]


def train_study(study: Study, work_dir: Path, epochs: int, options: list[str]) -> dict[str, float]:
    """Trains and evaluates one study unless its run is finished, and returns its last AP."""
    if result := final_metrics(work_dir, epochs):
        return result
    print(f"{work_dir.name}: training {epochs} epochs in {work_dir}", flush=True)
    command = [sys.executable, ROOT / "tools" / "train.py", study.config, "--work-dir", work_dir, "--resume"]
    done = subprocess.run([*command, *study.arguments, "--cfg-options", *options], check=False)
    result = final_metrics(work_dir, epochs)
    if done.returncode or result is None:
        raise TrainingError(f"the run {work_dir.name} failed, see the log above and in {work_dir}")
    return result


if __name__ == "__main__":
    sys.exit(guard(main, "ablation"))
