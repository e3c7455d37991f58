"""Draws what the training pipeline of a config makes of the images: faces green, ignored faces red, landmarks.

Example:
    python tools/analysis/browse_dataset.py configs/scrfd_2.5g_kps.py --output-dir outputs/browse --not-show
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facedet_mm.cli import guard
from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import write_image

FACE, IGNORED = (80, 200, 0), (60, 60, 230)
LANDMARKS = ((255, 170, 60), (255, 80, 0), (80, 220, 255), (200, 120, 255), (140, 0, 255))
"""BGR, in the order left eye, right eye, nose, left and right corner of the mouth."""


def main(argv: Sequence[str] | None = None) -> int:
    """Gives the exit status."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument("--output-dir", type=Path, help="write the images here")
    parser.add_argument("--not-show", action="store_true", help="open no window")
    parser.add_argument("--show-number", type=int, default=None, help="number of images (default: all)")
    parser.add_argument("--show-interval", type=float, default=2.0, help="seconds an image is shown, 0 waits for a key")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE",
        help="change the config, e.g. data_root=DIR",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.not_show and args.output_dir is None:
        parser.error("--not-show without --output-dir does nothing")
    return guard(lambda: browse(args), "browse_dataset.py")


def browse(args: argparse.Namespace) -> int:
    """Draws the images one after the other."""
    dataset = build_dataset(args)
    count = min(len(dataset), len(dataset) if args.show_number is None else args.show_number)
    for index in range(count):
        packed = dataset[index]
        image = draw(packed["inputs"].numpy().transpose(1, 2, 0), packed["data_samples"])
        if args.output_dir is not None:
            source = Path(packed["data_samples"].img_path)
            write_image(args.output_dir / f"{index:05d}_{source.stem}.jpg", image)
        if not args.not_show and not show(image, args.show_interval):
            break
    print(f"{count} of {len(dataset)} images" + (f" in {args.output_dir}" if args.output_dir else ""))
    return 0


def build_dataset(args: argparse.Namespace) -> Any:
    """The training data set of the config."""
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    from facedet_mm.plugin.apis.build import load_config
    from facedet_mm.plugin.apis.runner import move_data

    config = load_config(args.config)
    options = dict(args.cfg_options)
    if root := options.pop("data_root", None):
        move_data(config, str(root))
    config.merge_from_dict(options)
    if "train_dataloader" not in config:
        raise FaceDetError(f"{args.config}: the config has no train_dataloader")
    init_default_scope(config.get("default_scope", "mmdet"))
    return DATASETS.build(config.train_dataloader.dataset)


def draw(image: np.ndarray, sample: Any) -> np.ndarray:
    """A copy of the image (H, W, 3) with the faces of a ``DetDataSample``."""
    canvas = np.ascontiguousarray(image).copy()
    for instances, color in ((sample.ignored_instances, IGNORED), (sample.gt_instances, FACE)):
        for x1, y1, x2, y2 in np.rint(instances.bboxes.numpy()).astype(int).tolist():
            cv2.rectangle(canvas, (x1, y1), (x2, y2), color, 1, cv2.LINE_AA)
    faces = sample.gt_instances
    if "keypoints" in faces:
        for points, weights in zip(faces.keypoints.tolist(), faces.keypoints_visible.tolist(), strict=True):
            for (x, y), weight, color in zip(points, weights, LANDMARKS, strict=True):
                if weight > 0:
                    cv2.circle(canvas, (round(x), round(y)), 1, color, -1, cv2.LINE_AA)
    return canvas


def show(image: np.ndarray, seconds: float) -> bool:
    """Shows the image; ``False`` when the user pressed q or Escape."""
    try:
        cv2.imshow("browse_dataset", image)
        return cv2.waitKey(int(seconds * 1000)) & 0xFF not in (27, ord("q"))
    except cv2.error as error:
        raise FaceDetError("cannot open a window here; use --not-show with --output-dir") from error


if __name__ == "__main__":
    sys.exit(main())
