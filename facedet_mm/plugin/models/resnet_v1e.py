"""ResNetV1e: ResNet-v1d with a free choice of stage widths, as in SCRFD's architecture search."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.validation import validate_stages, validate_widths

BLOCKS = {"BasicBlock": (BasicBlock, "norm2"), "Bottleneck": (Bottleneck, "norm3")}


@MODELS.register_module()
class ResNetV1e(BaseModule):
    """ResNet with a stem of three 3×3 convolutions, a 2×2 max pool, and average pooling in downsampling shortcuts.

    Args:
        block: ``'BasicBlock'`` (expansion 1) or ``'Bottleneck'`` (expansion 4).
        stage_blocks: Number of blocks in the four stages.
        stage_planes: Channels of the four stages, before expansion.
        base_channels: Output channels of the stem; its first two convolutions have half as many.
        norm_cfg: Norm after every convolution.
        init_cfg: Weight initialization in mmengine's format. By default Kaiming, and zero for the last norm of each
            residual branch.

    Raises:
        ModelError: An unknown block, too few or too many numbers, or widths that the groups of the norm do not divide.

    Source: SCRFD (arXiv 2105.04714), the published configs of scrfd_2.5g, scrfd_10g and scrfd_34g.
    """

    def __init__(
        self,
        block: str,
        stage_blocks: Sequence[int],
        stage_planes: Sequence[int],
        base_channels: int,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            init_cfg or [dict(type="Kaiming", layer="Conv2d"), dict(type="Constant", val=1, layer="_BatchNorm")]
        )
        if block not in BLOCKS:
            raise ModelError(f"ResNetV1e: block must be one of {sorted(BLOCKS)}, not {block!r}")
        block_type, last_norm = BLOCKS[block]
        norm_cfg = norm_cfg or dict(type="BN")
        half = base_channels // 2
        validate_stages("ResNetV1e", stage_planes=stage_planes, stage_blocks=stage_blocks)
        validate_widths("ResNetV1e", norm_cfg, half_of_base_channels=half, stage_planes=stage_planes)
        self.out_channels = tuple(planes * block_type.expansion for planes in stage_planes)
        self.out_strides = (4, 8, 16, 32)
        self.stem = nn.Sequential(
            ConvModule(3, half, 3, stride=2, padding=1, norm_cfg=norm_cfg),
            ConvModule(half, half, 3, padding=1, norm_cfg=norm_cfg),
            ConvModule(half, base_channels, 3, padding=1, norm_cfg=norm_cfg),
        )
        self.maxpool = nn.MaxPool2d(2, stride=2)
        self.stages = nn.ModuleList()
        inplanes = base_channels
        for i, (num_blocks, planes) in enumerate(zip(stage_blocks, stage_planes, strict=True)):
            self.stages.append(
                ResLayer(
                    block_type,
                    inplanes,
                    planes,
                    num_blocks,
                    stride=1 if i == 0 else 2,
                    avg_down=True,
                    norm_cfg=norm_cfg,
                    init_cfg=dict(type="Constant", val=0, override=dict(name=last_norm)),
                )
            )
            inplanes = planes * block_type.expansion

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images (B, 3, H, W) to the features of the four stages, at strides 4, 8, 16 and 32."""
        x = self.maxpool(self.stem(x))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)
