"""Latency of a model at several input sizes."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device

from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.apis.checkpoint import load_weights


def latency_table(
    config: Config, checkpoint: str | os.PathLike[str], sides: Sequence[int] = (320, 480, 640, 960)
) -> str:
    """Returns a table of milliseconds per image for a forward pass with decoding and NMS.

    Args:
        config: Config of the model.
        checkpoint: Checkpoint of that config.
        sides: Sides of the square inputs in pixels, multiples of 32.
    """
    device = get_device()
    model = build_model(config).eval()
    load_weights(model, checkpoint)
    model.to(device)
    lines = [f"input     ms/image  images/s   ({device}, batch 1, median of 20)"]
    for side in sides:
        batch = torch.randn(1, 3, side, side, device=device)
        sample = DetDataSample(metainfo=dict(img_shape=(side, side), scale_factor=(1.0, 1.0)))
        times = []
        with torch.inference_mode():
            for _ in range(25):
                start = time.perf_counter()
                model.predict(batch, [sample.clone()])
                if batch.is_cuda:
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
        ms = 1000 * statistics.median(times[5:])
        lines.append(f"{side:4} x {side:<4} {ms:8.2f} {1000 / ms:9.1f}")
    return "\n".join(lines)
