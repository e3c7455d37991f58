"""Measures the training pipeline per image, next to plain JPEG decoding and to MMDetection's own transforms.

All three run in one thread, one after the other on each image, so that other load on the machine affects them equally.
The best time of several rounds counts.

Example:
    python tools/analysis/benchmark_pipeline.py --images data/wider_face/WIDER_train/images \\
        --ann data/wider_face/wider_face_split/wider_face_train_bbx_gt.txt --limit 1000
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform, Compose
from mmdet.datasets.transforms import Pad, RandomCrop
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.plugin.datasets.face_dataset import WiderFaceDataset

ROOT = Path(__file__).resolve().parents[2]


class StockSquareCrop(BaseTransform):
    """The square crop built from mmdet's ``Pad`` and ``RandomCrop``, with the smallest possible canvas."""

    def __init__(self, scales: tuple[float, ...]) -> None:
        self.scales = scales

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Pads the image if the square is larger, then crops."""
        height, width = results["img"].shape[:2]
        side = int(np.random.choice(self.scales) * min(height, width))  # noqa: NPY002
        if side > min(height, width):
            size = (max(width, side), max(height, side))
            results = Pad(size=size, pad_val={"img": (128, 128, 128)})(results)
        return RandomCrop((side, side), allow_negative_crop=True, bbox_clip_border=False)(results)


def main() -> int:
    """Prints the table of times."""
    args = parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    init_default_scope("mmdet")
    np.random.seed(args.seed)  # noqa: NPY002
    dataset = WiderFaceDataset(ann_file=str(args.ann), data_prefix={"img": str(args.images)})
    config = Config.fromfile(args.config)
    variants: dict[str, Callable[[dict[str, Any]], Any]] = {
        "JPEG decoding": lambda info: cv2.imdecode(np.fromfile(info["img_path"], np.uint8), cv2.IMREAD_COLOR),
        "this pipeline": Compose(config.train_pipeline),
        "stock mmdet": Compose(stock_pipeline(config)),
    }
    indices = np.random.permutation(len(dataset))[: args.limit].tolist()  # noqa: NPY002
    seconds = measure(dataset, indices, variants, args.repeats)
    report(list(variants), seconds)
    return 0


def parse_args() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder with the images")
    parser.add_argument("--ann", type=Path, required=True, help="annotation file of these images")
    parser.add_argument(
        "--config", default=str(ROOT / "configs/_base_/datasets/wider_face.py"), help="config with the train_pipeline"
    )
    parser.add_argument("--limit", type=int, default=None, help="number of images (default: all)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="number of rounds; the best time of each image counts (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed for choosing the images (default: 0)")
    return parser.parse_args()


def stock_pipeline(config: Config) -> list[Any]:
    """Returns the same steps built from mmdet's own transforms."""
    steps: list[dict[str, Any]] = [
        {"type": "Resize", "scale": config.resize_image.scale, "clip_object_border": False},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
        {"type": "PackDetInputs"},
    ]
    loading = [TRANSFORMS.build({"type": name}) for name in ("LoadImageFromFile", "LoadAnnotations")]
    return [*loading, StockSquareCrop(config.crop_faces.scales), *map(TRANSFORMS.build, steps)]


def measure(
    dataset: WiderFaceDataset, indices: list[int], variants: dict[str, Callable[[dict[str, Any]], Any]], repeats: int
) -> np.ndarray:
    """Returns seconds (images, variants), float64: the best of ``repeats`` rounds with the same random numbers."""
    functions = list(variants.values())
    seconds = np.full((len(indices), len(functions)), np.inf)
    for repeat in range(repeats):
        for row, index in enumerate(indices):
            Path(dataset.get_data_info(index)["img_path"]).read_bytes()  # into the page cache
            for column in np.roll(np.arange(len(functions)), row + repeat):
                info = dataset.get_data_info(index)
                random.seed(index)
                np.random.seed(index)  # noqa: NPY002
                start = time.perf_counter()
                functions[column](info)
                seconds[row, column] = min(seconds[row, column], time.perf_counter() - start)
    return seconds


def report(names: list[str], seconds: np.ndarray) -> None:
    """Prints a table of the times and of this pipeline's ratio to the others."""
    print(f"{len(seconds)} images, one thread, milliseconds per image")
    print(f"{'':14} {'mean':>7} {'median':>7}   ratio of means   median ratio")
    ours = names.index("this pipeline")
    for column, name in enumerate(names):
        times = seconds[:, column] * 1e3
        of_means = seconds[:, ours].sum() / seconds[:, column].sum()
        median_ratio = np.median(seconds[:, ours] / seconds[:, column])
        print(f"{name:14} {times.mean():7.2f} {np.median(times):7.2f}   {of_means:14.2f}   {median_ratio:12.2f}")


if __name__ == "__main__":
    sys.exit(guard(main, "benchmark_pipeline.py"))
