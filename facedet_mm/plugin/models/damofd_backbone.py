"""The backbones that DamoFD's search found: residual blocks of four stages, each of another kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from mmcv.cnn import ConvModule, build_norm_layer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.validation import validate_stages, validate_widths

BLOCKS = "K1KkK1, KkKk or DWKk, where k is the kernel size, like K1K3K1, K5K5 or DWK7"
_GAIN = 3.26033
"""Gain of the initial weights in the authors' code."""


def _convs(
    kernels: Sequence[int], widths: Sequence[int], stride: int, norm_cfg: dict, **options: bool
) -> nn.Sequential:
    """Returns convolutions with norm and ReLU; the first with the largest kernel has the stride.

    Args:
        kernels: Kernel sizes.
        widths: Channels of the input and of each convolution.
        stride: Stride of the whole.
        norm_cfg: Norm after every convolution.
        **options: ``depthwise``: kernels above 1 are depthwise. ``linear``: no ReLU at the end.
    """
    modules = []
    strided = kernels.index(max(kernels))
    for i, (kernel, (before, after)) in enumerate(zip(kernels, pairwise(widths), strict=True)):
        last = i == len(kernels) - 1
        modules.append(
            ConvModule(
                before,
                after,
                kernel,
                stride=stride if i == strided else 1,
                padding=kernel // 2,
                groups=after if options.get("depthwise") and kernel > 1 else 1,
                norm_cfg=norm_cfg,
                act_cfg=None if last and options.get("linear") else dict(type="ReLU"),
            )
        )
    return nn.Sequential(*modules)


class _ResidualBlock(nn.Module):
    """Convolutions, added to the input or its projection, then ReLU."""

    def __init__(
        self, kernels: Sequence[int], widths: Sequence[int], stride: int, norm_cfg: dict, depthwise: bool = False
    ) -> None:
        super().__init__()
        self.convs = _convs(kernels, widths, stride, norm_cfg, depthwise=depthwise, linear=True)
        self.projection: nn.Module = nn.Identity()
        if stride > 1 or widths[0] != widths[-1]:
            conv = nn.Conv2d(widths[0], widths[-1], 1, stride=stride)
            self.projection = nn.Sequential(conv, build_norm_layer(norm_cfg, widths[-1])[1])

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.convs(x) + self.projection(x))


def _layer(kind: str, before: int, after: int, width: int, stride: int, norm_cfg: dict) -> list[_ResidualBlock]:
    match = re.fullmatch(r"K1K(\d)K1|K(\d)K\2|DWK(\d)", kind)
    if match is None:
        raise ModelError(f"DamoFDBackbone: blocks are called {BLOCKS}, not {kind!r}")
    bottleneck, plain, depthwise = (int(kernel or 0) for kernel in match.groups())
    if plain:
        return [_ResidualBlock([plain, plain], [before, width, after], stride, norm_cfg)]
    if bottleneck:
        kernels = [1, bottleneck, 1]
        return [
            _ResidualBlock(kernels, [before, width, width, after], stride, norm_cfg),
            _ResidualBlock(kernels, [after, width, width, after], 1, norm_cfg),
        ]
    kernels = [1, depthwise, 1]
    return [
        _ResidualBlock(kernels, [before, width, width, width], stride, norm_cfg, depthwise=True),
        _ResidualBlock(kernels, [width, after, after, after], 1, norm_cfg, depthwise=True),
    ]


@MODELS.register_module()
class DamoFDBackbone(BaseModule):
    """A stem of 3×3 convolutions and four stages of residual blocks.

    Args:
        stem: Channels and number of the stem's convolutions; the first one has stride 2.
        stages: For each stage its kind of block, its channels, the width inside its blocks, and its number of layers;
            the first layer has stride 2. A layer is, for blocks called

            * ``'K3K3'``, ``'K5K5'``, …: two convolutions with one residual connection;
            * ``'K1K3K1'``, ``'K1K5K1'``, …: two bottlenecks;
            * ``'DWK3'``, ``'DWK5'``, …: a 1×1, a depthwise and a 1×1 convolution twice, to the width and to the
              stage's channels.
        norm_cfg: Norm after every convolution.
        init_cfg: Weight initialization in mmengine's format. By default that of the authors, with zero for the last
            norm of each residual block.

    Raises:
        ModelError: An unknown block, too few or too many numbers, or widths that the groups of the norm do not divide.

    Source: DamoFD (ICLR 2023) and its published configs, whose ``SuperResK3K3(24, 32, 2, 24, 4)`` is
    ``('K3K3', 32, 24, 4)`` here, and whose ``SuperResIDWE1K3`` is ``'DWK3'``.
    """

    def __init__(
        self,
        stem: tuple[int, int],
        stages: Sequence[tuple[str, int, int, int]],
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Xavier", layer="Conv2d", distribution="normal", gain=_GAIN))
        _, channels, widths, layers = zip(*stages, strict=True)
        norm_cfg = norm_cfg or dict(type="BN", eps=1e-3)
        validate_stages("DamoFDBackbone", channels=channels, layers=layers)
        validate_widths("DamoFDBackbone", norm_cfg, stem=stem[:1], channels=channels, widths=widths)
        self.out_channels = channels
        self.out_strides = (4, 8, 16, 32)
        self.stem = _convs([3] * stem[1], [3] + [stem[0]] * stem[1], 2, norm_cfg)
        self.stages = nn.ModuleList()
        before = stem[0]
        for kind, after, width, number in stages:
            blocks = _layer(kind, before, after, width, 2, norm_cfg)
            for _ in range(number - 1):
                blocks += _layer(kind, after, after, width, 1, norm_cfg)
            self.stages.append(nn.Sequential(*blocks))
            before = after

    def init_weights(self) -> None:
        """Initializes all weights; fresh residual blocks pass on their input alone."""
        super().init_weights()
        for block in self.modules():
            if isinstance(block, _ResidualBlock):
                nn.init.zeros_(block.convs[-1].norm.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images (B, 3, H, W) to the features of the four stages, at strides 4, 8, 16 and 32."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)
