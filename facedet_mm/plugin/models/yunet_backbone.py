"""The backbone of YuNet, and the unit that YuNet is made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.validation import validate_widths

XAVIER = dict(type="Xavier", layer="Conv2d", distribution="normal", bias=0.02)
"""Initial weights of all convolutions of YuNet."""


class DepthwiseUnit(nn.Module):
    """A 1×1 convolution, a 3×3 depthwise convolution, batch norm and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        activated: Whether the unit ends in batch norm and ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, activated: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels)
        self.bn = nn.BatchNorm2d(out_channels) if activated else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (B, in_channels, H, W) to (B, out_channels, H, W)."""
        x = self.conv2(self.conv1(x))
        return x if self.bn is None else functional.relu(self.bn(x))


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = DepthwiseUnit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(functional.relu(self.bn1(self.conv1(x))))


class _Stage(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = DepthwiseUnit(in_channels, in_channels)
        self.conv2 = DepthwiseUnit(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


@MODELS.register_module()
class YuNetBackbone(BaseModule):
    """A stem and five stages of two depthwise units each; the last three stages are the outputs.

    Parameters are named as in the authors' code, so that their checkpoints load without conversion.

    Args:
        stem_channels: Channels of the stem.
        stage_channels: Channels of the five stages.
        init_cfg: Weight initialization in mmengine's format.

    Raises:
        ModelError: A width is not positive, or there are not five stages.

    Source: YuNet (Wu, Peng, Yu: Machine Intelligence Research 20, 2023) and its published configs.
    """

    def __init__(
        self,
        stem_channels: int = 16,
        stage_channels: Sequence[int] = (64, 64, 64, 64, 64),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or XAVIER)
        validate_widths("YuNetBackbone", {}, stem_channels=stem_channels, stage_channels=stage_channels)
        if len(stage_channels) != 5:
            raise ModelError(f"YuNetBackbone: stage_channels needs 5 numbers, not {list(stage_channels)}")
        self.out_channels = tuple(stage_channels[2:])
        self.out_strides = (8, 16, 32)
        self.model0 = _Stem(stem_channels)
        widths = (stem_channels, *stage_channels)
        for i, (before, after) in enumerate(pairwise(widths), 1):
            self.add_module(f"model{i}", _Stage(before, after))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images (B, 3, H, W) to the features of the last three stages, at strides 8, 16 and 32."""
        x = functional.max_pool2d(self.model0(x), 2)
        x = functional.max_pool2d(self.model2(self.model1(x)), 2)
        third = self.model3(x)
        fourth = self.model4(functional.max_pool2d(third, 2))
        return third, fourth, self.model5(functional.max_pool2d(fourth, 2))
