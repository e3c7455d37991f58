"""Shows the images after the training pipeline of a config: faces in green, ignored faces in red, and landmarks.

Example:
    python tools/analysis/browse_dataset.py configs/scrfd_2.5g_kps.py --output-dir outputs/browse --not-show
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import write_image

FACE, IGNORED = (80, 200, 0), (60, 60, 230)
LANDMARKS = ((255, 170, 60), (255, 80, 0), (80, 220, 255), (200, 120, 255), (140, 0, 255))
"""BGR colors of left eye, right eye, nose, and left and right mouth corner."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool and returns the exit status."""
    from mmengine.config import DictAction

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument("--output-dir", type=Path, help="folder to write the images to")
    parser.add_argument("--not-show", action="store_true", help="do not open a window")
    parser.add_argument("--show-number", type=int, default=None, help="number of images (default: all)")
    parser.add_argument("--show-interval", type=float, default=2.0, help="seconds per image; 0 waits for a key")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE",
        help="change entries of the config; data_root=DIR moves all data",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.not_show and args.output_dir is None:
        parser.error("--not-show needs --output-dir")
    interval = None if args.not_show else args.show_interval

    def run() -> int:
        dataset = build_dataset(args.config, args.cfg_options)
        browse(dataset, args.show_number, args.output_dir, interval)
        return 0

    return guard(run, "browse_dataset.py")


def browse(dataset: Any, limit: int | None, output_dir: Path | None, interval: float | None) -> None:
    """Draws the images of a dataset one after the other.

    Args:
        dataset: Training dataset.
        limit: Number of images; ``None`` for all.
        output_dir: Folder to write the images to.
        interval: Seconds for which each image is shown; ``None`` opens no window.
    """
    count = len(dataset) if limit is None else min(len(dataset), limit)
    for index in range(count):
        packed = dataset[index]
        image = draw(packed["inputs"].numpy().transpose(1, 2, 0), packed["data_samples"])
        if output_dir is not None:
            source = Path(packed["data_samples"].img_path)
            write_image(output_dir / f"{index:05d}_{source.stem}.jpg", image)
        if interval is not None and not show(image, interval):
            break
    print(f"{count} of {len(dataset)} images" + (f" in {output_dir}" if output_dir else ""))


def build_dataset(path: Path, options: Mapping[str, Any]) -> Any:
    """Returns the training dataset of a config."""
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    from facedet_mm.plugin.apis.build import load_config

    config = load_config(path, options)
    if "train_dataloader" not in config:
        raise FaceDetError(f"{path}: the config has no train_dataloader")
    init_default_scope(config.get("default_scope", "mmdet"))
    return DATASETS.build(config.train_dataloader.dataset)


def draw(image: np.ndarray, sample: Any) -> np.ndarray:
    """Returns a copy of the image (H, W, 3) with the faces of a ``DetDataSample`` drawn on it."""
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
    """Shows the image and returns ``False`` if the user pressed q or Escape."""
    try:
        cv2.imshow("browse_dataset", image)
        return cv2.waitKey(int(seconds * 1000)) & 0xFF not in (27, ord("q"))
    except cv2.error as error:
        raise FaceDetError("cannot open a window here; use --not-show with --output-dir") from error


if __name__ == "__main__":
    sys.exit(main())
