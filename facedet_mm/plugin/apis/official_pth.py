"""Reads the SCRFD authors' checkpoints, which have the layout of MMDetection 2.7."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from torch import Tensor

from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.apis.checkpoint import load_checkpoint
from facedet_mm.plugin.apis.official_models import MODELS, unknown_weights
from facedet_mm.zoo import config_path

_SEPARABLE = {
    "0": "depthwise_conv.conv", "1": "depthwise_conv.bn", "3": "pointwise_conv.conv", "4": "pointwise_conv.bn",
}  # fmt: skip
_LEVELS = {"(8, 8)": "0", "(16, 16)": "1", "(32, 32)": "2"}
_BRANCHES = {
    "cls_stride_convs": "towers",
    "stride_cls": "cls_convs",
    "stride_reg": "reg_convs",
    "stride_kps": "landmark_convs",
}


def read_official_pth(src: Path) -> tuple[str, dict[str, Tensor]]:
    """Returns the model's name and its weights under this project's names.

    Raises:
        ModelError: The file cannot be read, or its weights fit none of the models.
    """
    weights = load_checkpoint(src)["state_dict"]
    state = {rename(key): value for key, value in weights.items() if not key.startswith("bbox_head.integral.")}
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    mismatches: list[tuple[int, str, str]] = []
    for name in MODELS:
        own = _tensor_shapes(name)
        if own == shapes:
            return name, state
        wrong = sorted(key for key in own.keys() | shapes.keys() if own.get(key) != shapes.get(key))
        actual, expected = shapes.get(wrong[0], "missing"), own.get(wrong[0], "absent")
        detail = f"{len(wrong)} tensors do not fit, {wrong[0]} is {actual}, expected {expected}"
        mismatches.append((len(wrong), name, detail))
    raise unknown_weights(src, mismatches)


def rename(key: str) -> str:
    """Returns this project's name of a tensor in the authors' checkpoint."""
    key = re.sub(r"^backbone\.layer([1-4])\.", lambda m: f"backbone.stages.{int(m[1]) - 1}.", key)
    if match := re.match(r"backbone\.(stem\.1|stages\.\d+\.\d+)\.([0134])\.(.+)", key):  # blocks of MobileNetV1
        return f"backbone.{match[1]}.{_SEPARABLE[match[2]]}.{match[3]}"
    if match := re.match(r"backbone\.stem\.0\.([01])\.(.+)", key):  # first convolution of MobileNetV1
        return f"backbone.stem.0.{('conv', 'bn')[int(match[1])]}.{match[2]}"
    # stem of ResNetV1e: convolution, norm and ReLU, three times
    if match := re.match(r"backbone\.stem\.([013467])\.([^.]+)$", key):
        index = int(match[1])
        return f"backbone.stem.{index // 3}.{('conv', 'bn')[index % 3]}.{match[2]}"
    if match := re.match(r"bbox_head\.(\w+)\.(\(\d+, \d+\)|\d+)\.(.+)", key):
        branch = _BRANCHES.get(match[1], match[1])
        return f"bbox_head.{branch}.{_LEVELS.get(match[2], match[2])}.{match[3]}"
    return key


@cache
def _tensor_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in build_model(config_path(name)).state_dict().items()}
