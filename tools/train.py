"""Trains a model with the mmengine Runner.

Example:
    python tools/train.py configs/scrfd_34g.py
    python tools/train.py configs/scrfd_2.5g.py --amp --auto-scale-lr --cfg-options train_dataloader.batch_size=16
    python tools/train.py configs/scrfd_2.5g.py --resume
    bash tools/dist_train.sh configs/scrfd_34g.py 8
"""

from __future__ import annotations

import argparse
import sys

from facedet_mm.cli import guard
from facedet_mm.system.dependencies import missing_dependency

try:
    from facedet_mm.plugin.apis import runner as runs
except ModuleNotFoundError as error:
    sys.exit(f"train: error: {missing_dependency('training needs PyTorch and MMDetection', 'train', error)}")


def main() -> int:
    """Runs the training that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs.add_run_arguments(parser)
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the rate with the total batch")
    parser.add_argument(
        "--resume", nargs="?", const="auto", metavar="CHECKPOINT", help="go on from a checkpoint, or from the latest"
    )
    args = parser.parse_args()
    config = runs.run_config(args)
    if args.amp:
        runs.use_amp(config)
    if args.auto_scale_lr:
        runs.scale_learning_rate(config)
    runs.choose_checkpoint(config, args.resume)
    runs.build_runner(config, training=True).train()
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, "train"))
