"""MobileNetV1 (arXiv 1704.04861) with free widths and depths: those of SCRFD's search, and RetinaFace's quarter."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.validation import validate_stages, validate_widths


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """Depthwise-separable blocks in a stem and four stages.

    Args:
        stem_planes: Channels of the stem convolution (3×3, stride 2) and of the depthwise-separable block after it.
        stage_planes: Channels of the four stages; the first block of each has stride 2.
        stage_blocks: Number of blocks in the four stages.
        norm_cfg: Norm after every convolution.
        act_cfg: Activation after every convolution.
        init_cfg: Weight initialization in mmengine's format.

    Raises:
        ModelError: Too few or too many numbers, or widths that the groups of the norm do not divide.

    Source: SCRFD (arXiv 2105.04714), the published configs of scrfd_500m and scrfd_1g; RetinaFace
    (arXiv 1905.00641) with MobileNet-0.25.
    """

    def __init__(
        self,
        stem_planes: Sequence[int] = (16, 16),
        stage_planes: Sequence[int] = (40, 72, 152, 288),
        stage_blocks: Sequence[int] = (2, 3, 2, 6),
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            init_cfg or [dict(type="Kaiming", layer="Conv2d"), dict(type="Constant", val=1, layer="_BatchNorm")]
        )
        if len(stem_planes) != 2:
            raise ModelError(
                "MobileNetV1: stem_planes needs 2 numbers, for the stem convolution and for the block after it, "
                f"not {list(stem_planes)}"
            )
        layer: dict = dict(padding=1, norm_cfg=norm_cfg or dict(type="BN"), act_cfg=act_cfg or dict(type="ReLU"))
        validate_stages("MobileNetV1", stage_planes=stage_planes, stage_blocks=stage_blocks)
        validate_widths("MobileNetV1", layer["norm_cfg"], stem_planes=stem_planes, stage_planes=stage_planes)
        self.out_channels = tuple(stage_planes)
        self.out_strides = (4, 8, 16, 32)

        def block(inplanes: int, planes: int, stride: int) -> nn.Module:
            return DepthwiseSeparableConvModule(inplanes, planes, 3, stride=stride, **layer)

        stem, inplanes = stem_planes
        self.stem = nn.Sequential(ConvModule(3, stem, 3, stride=2, **layer), block(stem, inplanes, 1))
        self.stages = nn.ModuleList()
        for planes, num_blocks in zip(stage_planes, stage_blocks, strict=True):
            blocks = [block(inplanes, planes, 2)] + [block(planes, planes, 1) for _ in range(num_blocks - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inplanes = planes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images (B, 3, H, W) to the features of the four stages, at strides 4, 8, 16 and 32."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)
