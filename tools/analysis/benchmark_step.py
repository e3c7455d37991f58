r"""Measures the share of assignment and losses in a training step.

The batches are the most crowded images of an annotation file; the last one has an image with 700 faces.

Example:
    python tools/analysis/benchmark_step.py configs/scrfd_2.5g.py \
        --ann data/wider_face/wider_face_split/wider_face_train_bbx_gt.txt
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.datasets.annotations import read_annotations
from facedet_mm.plugin.apis.build import build_model


def sample(boxes: np.ndarray, side: int) -> DetDataSample:
    """Returns the faces of one image; boxes (G, 4) in pixels of a square with sides of ``side`` pixels."""
    n = len(boxes)
    gt = InstanceData(bboxes=torch.as_tensor(boxes, dtype=torch.float32), labels=torch.zeros(n, dtype=torch.long))
    gt.keypoints, gt.keypoints_visible = torch.zeros(n, 5, 2), torch.zeros(n)
    return DetDataSample(gt_instances=gt, metainfo=dict(img_shape=(side, side), batch_input_shape=(side, side)))


def crowded_batches(path: Path, batch: int, count: int, side: int) -> list[list[DetDataSample]]:
    """Returns batches of the images with the most faces, scaled so that the faces fill the square."""
    images = [a.boxes[~a.ignore] for a in read_annotations(path)]
    images = sorted((p for p in images if len(p)), key=len, reverse=True)[: batch * count]
    order = np.random.default_rng(0).permutation(len(images))
    scaled = [sample(images[i] * (side / images[i].max()), side) for i in order]
    return [scaled[i : i + batch] for i in range(0, len(scaled), batch)]


def main() -> int:
    """Prints times in milliseconds and the share of the head."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument("--ann", type=Path, required=True, help="annotation file")
    parser.add_argument("--batch", type=int, default=8, help="batch size (default: 8)")
    parser.add_argument("--side", type=int, default=640, help="side of the input in pixels (default: 640)")
    parser.add_argument("--batches", type=int, default=5, help="number of batches (default: 5)")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help=f"PyTorch device (default: {default})")
    args = parser.parse_args()

    torch.manual_seed(0)
    model = build_model(args.config)
    model.init_weights()
    model.train().to(args.device)
    batches = crowded_batches(args.ann, args.batch, args.batches, args.side)
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, args.side - 20, (700, 2))
    crowd = sample(np.concatenate([corner, corner + rng.uniform(6, 20, (700, 2))], 1), args.side)
    cases = [("real, most faces", b) for b in batches] + [("700 faces in one", [crowd, *batches[0][1:]])] * 3

    spent = {"head": 0.0}
    loss_by_feat = model.bbox_head.loss_by_feat

    def sync() -> float:
        if args.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(*inputs: object, **kwargs: object) -> dict:
        start = sync()
        losses = loss_by_feat(*inputs, **kwargs)
        spent["head"] = sync() - start
        return losses

    model.bbox_head.loss_by_feat = timed
    rows: dict[str, list[tuple[float, float]]] = {}
    for i, (name, samples) in enumerate([cases[0], *cases]):
        samples = [s.to(args.device) for s in samples]
        x = torch.randn(len(samples), 3, args.side, args.side, device=args.device)
        start = sync()
        losses = model.loss(x, samples)
        sum(losses.values()).backward()
        total = sync() - start
        model.zero_grad()
        if i:
            rows.setdefault(name, []).append((spent["head"], total))
    faces = statistics.mean(sum(len(s.gt_instances.bboxes) for s in b) for b in batches)
    print(f"{args.config.stem}, batch {args.batch} at {args.side}, {faces:.0f} faces per batch, {args.device}")
    for name, times in rows.items():
        head, total = (1000 * statistics.median(t) for t in zip(*times, strict=True))
        print(f"  {name:18} step {total:7.0f} ms, assignment and losses {head:6.0f} ms = {100 * head / total:.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, "benchmark_step"))
