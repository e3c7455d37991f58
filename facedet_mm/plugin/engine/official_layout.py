"""Names of tensors in the SCRFD authors' checkpoints (MMDetection 2.7), and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

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


def has_official_layout(names: Iterable[str]) -> bool:
    """Returns whether the names are those of the SCRFD authors' head."""
    return any(name.startswith("bbox_head.stride_cls.") for name in names)


def rename_state(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the authors' weights under this project's names, without the constants of their head."""
    return {rename(key): value for key, value in weights.items() if not key.startswith("bbox_head.integral.")}


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
