"""Evaluates a checkpoint on WIDER FACE: Easy, Medium and Hard AP.

Example:
    python tools/test.py configs/scrfd_0.5g_kps.py scrfd_0.5g_kps.pth
    python tools/test.py configs/scrfd_0.5g_kps.py scrfd_0.5g_kps.pth --size original --out outputs/wider
    python tools/test.py configs/scrfd_0.5g_kps.py scrfd_0.5g_kps.pth --tta
    bash tools/dist_test.sh configs/scrfd_0.5g_kps.py scrfd_0.5g_kps.pth 4
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.system.dependencies import missing_dependency

try:
    from facedet_mm.plugin.apis.latency import latency_table
    from facedet_mm.plugin.apis.runner import (
        add_runner_arguments,
        end_process,
        evaluate_checkpoint,
        prepare_config,
    )
except ModuleNotFoundError as error:
    sys.exit(f"test: error: {missing_dependency('testing needs PyTorch and MMDetection', 'train', error)}")


def main() -> int:
    """Prints the AP of a checkpoint."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_runner_arguments(parser)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of the config")
    parser.add_argument("--out", type=Path, help="also write the predictions as a WIDER FACE submission folder")
    parser.add_argument(
        "--size", help="side in pixels of the square that images are fitted into, a multiple of 32, or 'original'"
    )
    parser.add_argument(
        "--tta", action="store_true", help="merge several sizes and flips, as tta_pipeline in the config defines"
    )
    parser.add_argument(
        "--no-close-ups", dest="close_ups", action="store_false", help="no second look for faces that fill the image"
    )
    parser.add_argument("--benchmark", action="store_true", help="also measure the latency at 320, 480, 640 and 960")
    args = parser.parse_args()
    config = prepare_config(args.config, args.work_dir, args.cfg_options, args.launcher, args.local_rank)
    result = evaluate_checkpoint(
        config, args.checkpoint, size=args.size, tta=args.tta, close_ups=args.close_ups, out=args.out
    )
    if numbers := {key: value for key, value in result.items() if isinstance(value, (int, float))}:
        print("  ".join(f"{key.rpartition('/')[2].capitalize()} {100 * value:.2f}" for key, value in numbers.items()))
    if args.benchmark:
        print(latency_table(config, args.checkpoint))
    return 0


if __name__ == "__main__":
    end_process(guard(main, "test"))
