"""The neck of RetinaFace: a feature pyramid that merges from the top down, and context modules."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, build_activation_layer
from mmdet.models.necks import SSH
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.validation import validate_widths


@MODELS.register_module()
class RetinaFaceNeck(BaseModule):
    """A feature pyramid whose levels are merged before they are passed down, and SSH's context module in each level.

    Args:
        in_channels: Channels of each stage of the backbone.
        out_channels: Channels of each output, a multiple of 4.
        start_level: Index of the first stage that is used.
        norm_cfg: Norm after every convolution.
        act_cfg: Activation after most convolutions; the context modules end in ReLU.
        init_cfg: Weight initialization in mmengine's format.

    Raises:
        ModelError: A width is not positive, or ``out_channels`` is not a multiple of 4.

    Source: RetinaFace (arXiv 1905.00641) in the layout of its PyTorch implementation; SSH (arXiv 1708.03979).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        start_level: int = 0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Xavier", layer="Conv2d", distribution="uniform"))
        norm_cfg, act_cfg = norm_cfg or dict(type="BN"), act_cfg or dict(type="ReLU")
        validate_widths("RetinaFaceNeck", norm_cfg, in_channels=in_channels, out_channels=out_channels)
        if out_channels % 4:
            raise ModelError(f"RetinaFaceNeck: out_channels must be a multiple of 4, not {out_channels}")
        used = list(in_channels)[start_level:]
        self.in_channels, self.out_channels = list(in_channels), out_channels
        self.start_level, self.num_outs = start_level, len(used)

        def conv(width: int, kernel: int) -> ConvModule:
            return ConvModule(width, out_channels, kernel, padding=kernel // 2, norm_cfg=norm_cfg, act_cfg=act_cfg)

        self.lateral_convs = nn.ModuleList(conv(width, 1) for width in used)
        self.merge_convs = nn.ModuleList(conv(out_channels, 3) for _ in used[1:])
        self.context = SSH(len(used), [out_channels] * len(used), [out_channels] * len(used), norm_cfg=norm_cfg)
        for module in self.context.modules():
            if isinstance(module, ConvModule) and module.with_activation:
                module.activate = build_activation_layer(act_cfg)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps features (B, C, H, W) of each stage to (B, out_channels, H, W) for each level that is used."""
        levels = [conv(x) for conv, x in zip(self.lateral_convs, inputs[self.start_level :], strict=True)]
        for i in reversed(range(len(levels) - 1)):
            above = functional.interpolate(levels[i + 1], size=levels[i].shape[-2:], mode="nearest")
            levels[i] = self.merge_convs[i](levels[i] + above)
        outputs: tuple[Tensor, ...] = self.context(levels)
        return outputs
