"""Trains a model with the mmengine Runner.

Example:
    python tools/train.py configs/scrfd_34g.py
    python tools/train.py configs/scrfd_2.5g.py --amp --auto-scale-lr --cfg-options train_dataloader.batch_size=16
    python tools/train.py configs/scrfd_2.5g.py --size 320
    python tools/train.py configs/scrfd_2.5g.py --resume
    bash tools/dist_train.sh configs/scrfd_34g.py 8
"""

from __future__ import annotations

import argparse
import sys

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import AnnotationError
from facedet_mm.system.dependencies import missing_dependency

try:
    from facedet_mm.plugin.apis.compatibility import missing_data
    from facedet_mm.plugin.apis.overrides import scale_learning_rate, set_input_size, use_amp
    from facedet_mm.plugin.apis.runner import (
        add_runner_arguments,
        build_runner,
        choose_checkpoint,
        end_process,
        prepare_config,
    )
except ModuleNotFoundError as error:
    sys.exit(f"train: error: {missing_dependency('training needs PyTorch and MMDetection', 'train', error)}")


def main() -> int:
    """Trains the model of a config."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_runner_arguments(parser)
    parser.add_argument("--amp", action="store_true", help="train with automatic mixed precision")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate linearly with the total batch size"
    )
    parser.add_argument("--size", help="side of the input in pixels, a multiple of 32 (default: as in the config)")
    parser.add_argument(
        "--resume", nargs="?", const="auto", metavar="CHECKPOINT",
        help="continue from CHECKPOINT, or without a value from the latest one",
    )  # fmt: skip
    args = parser.parse_args()
    config = prepare_config(args.config, args.work_dir, args.cfg_options, args.launcher, args.local_rank)
    if args.size is not None:
        set_input_size(config, args.size)
    if args.amp:
        use_amp(config)
    if args.auto_scale_lr:
        scale_learning_rate(config)
    choose_checkpoint(config, args.resume)
    try:
        runner = build_runner(config, training=True)
    except AnnotationError:
        if not (lines := missing_data(config)):
            raise
        print(f"train: error: {lines[0]}", lines[1], sep="\n", file=sys.stderr)
        return 1
    runner.train()
    return 0


if __name__ == "__main__":
    end_process(guard(main, "train"))
