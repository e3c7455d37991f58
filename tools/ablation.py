"""Trains ablation configs briefly on one data set and prints one table of their WIDER FACE AP.

Every study starts from the same seed; a study whose folder holds a finished run is not run again.

Example:
    python tools/ablation.py --list
    python tools/ablation.py crop_scales_1.0 loss_focal_smoothl1 --epochs 20 --data-root data/wider_subset
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.errors import TrainingError
from facedet_mm.report.logs import final_metrics

ROOT = Path(__file__).resolve().parents[1]
STUDIES = {path.stem: path for path in sorted((ROOT / "configs" / "ablation").glob("*.py"))}
BASELINE = ROOT / "configs" / "scrfd_2.5g.py"
SETTINGS = ("easy", "medium", "hard")


def main() -> int:
    """Runs the wanted studies after one another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="names; none: all of them")
    parser.add_argument("--list", action="store_true", help="print the names and what they change")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each run; the schedule shrinks with it (20)")
    parser.add_argument(
        "--data-root", type=Path, default=Path("data/wider_face"), help="folder in the documented layout"
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/ablation"))
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="passed on to every run")
    args = parser.parse_args()
    if args.list:
        for name, path in STUDIES.items():
            print(f"{name:22} {path.read_text().splitlines()[0].lstrip('# ')}")
        return 0
    unknown = [name for name in args.studies if name not in STUDIES]
    if unknown:
        raise TrainingError(f"unknown study {', '.join(unknown)}; there are {', '.join(STUDIES)}")
    chosen = {"baseline": BASELINE, **{name: STUDIES[name] for name in args.studies or STUDIES}}
    results = {name: run(path, args.work_dir / name, args) for name, path in chosen.items()}
    print(f"\n{'study':22}" + "".join(f"{s:>8}" for s in SETTINGS) + f"   after {args.epochs} epochs")
    for name, ap in results.items():
        print(f"{name:22}" + "".join(f"{100 * ap[f'wider_face/{s}']:8.2f}" for s in SETTINGS))
    return 0


def run(config: Path, work_dir: Path, args: argparse.Namespace) -> dict[str, float]:
    """Trains and evaluates one config; gives its last AP."""
    if result := final_metrics(work_dir, args.epochs):
        return result
    epochs = args.epochs
    options = [
        f"data_root={args.data_root}", f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}",
        f"param_scheduler.0.end={max(1, round(epochs * 3 / 640))}", f"param_scheduler.1.end={epochs}",
        f"param_scheduler.1.milestones=[{round(epochs * 440 / 640)},{round(epochs * 544 / 640)}]",
        "randomness.seed=0", *args.cfg_options,
    ]  # fmt: skip
    print(f"{config.stem}: training {epochs} epochs in {work_dir}", flush=True)
    command = [sys.executable, ROOT / "tools" / "train.py", config, "--work-dir", work_dir, "--resume"]
    done = subprocess.run([*command, "--cfg-options", *options], check=False)
    result = final_metrics(work_dir, epochs)
    if done.returncode or result is None:
        raise TrainingError(f"the run of {config.stem} failed, see above and {work_dir}")
    return result


if __name__ == "__main__":
    sys.exit(guard(main, "ablation"))
