"""The feature pyramid of YuNet."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.yunet_backbone import XAVIER, DepthwiseUnit


@MODELS.register_module()
class TinyFPN(BaseModule):
    """From the coarsest level down: a depthwise unit, upsampled and added to the next level.

    Args:
        in_channels: Channels of each level; all the same, because levels are added without lateral convolutions.
        init_cfg: Weight initialization in mmengine's format.

    Raises:
        ModelError: The levels have different numbers of channels.
    """

    def __init__(self, in_channels: Sequence[int] = (64, 64, 64), init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg or XAVIER)
        if len(set(in_channels)) != 1:
            raise ModelError(
                f"TinyFPN adds its levels, so neck.in_channels must be one number repeated, not {list(in_channels)}: "
                "give the last three stages of the backbone the same width"
            )
        self.in_channels = list(in_channels)
        self.out_channels = in_channels[0]
        self.num_outs = len(in_channels)
        self.lateral_convs = nn.ModuleList(DepthwiseUnit(width, width) for width in in_channels)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps features (B, C, H, W) of each level, finest first, to features of the same shapes."""
        features = [self.lateral_convs[-1](inputs[-1])]
        for conv, level in zip(reversed(self.lateral_convs[:-1]), reversed(inputs[:-1]), strict=True):
            features.append(conv(level + functional.interpolate(features[-1], scale_factor=2.0, mode="nearest")))
        return tuple(reversed(features))
