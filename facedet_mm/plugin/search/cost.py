"""Multiply-adds of many architectures at once, counted as :mod:`facedet_mm.plugin.apis.complexity` counts one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from facedet_mm.errors import ModelError

Ints = NDArray[np.int64]
STAGES = ("c2", "c3", "c4", "c5")
BACKBONE = ("stem", *STAGES)
PARTS = (*BACKBONE, "neck", "head")
_BATCH_NORM, _GROUP_NORM = 2, 5
"""Operations an element, as mmengine's counter has them."""


@dataclass(frozen=True)
class Settings:
    """What is searched of N architectures.

    Attributes:
        blocks: (N, 4) int64, blocks of the backbone's stages.
        planes: (N, 4) int64, their planes, before a bottleneck's expansion.
        neck: (N,) int64, channels of the neck.
        head_convs: (N,) int64, convolutions in the head's tower.
        head: (N,) int64, their channels.
    """

    blocks: Ints
    planes: Ints
    neck: Ints
    head_convs: Ints
    head: Ints

    def __len__(self) -> int:
        return len(self.neck)

    def __getitem__(self, index: Any) -> Settings:
        """Those of an index array, mask or slice."""
        return Settings(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class Design:
    """What the architectures of a search have in common.

    Attributes:
        block: ``BasicBlock`` or ``Bottleneck`` of ``ResNetV1e``, or ``MobileNetV1``.
        stem: planes of ``MobileNetV1``'s stem; a ``ResNetV1e``'s stem is as wide as its first stage.
        depthwise: whether the head's tower is depthwise-separable.
        groups: of the group norm in the tower; 0 is batch norm.
        outputs: channels of the head's predictions a cell.
    """

    block: str
    stem: tuple[int, int]
    depthwise: bool
    groups: int
    outputs: int

    @classmethod
    def of(cls, config: Config) -> Design:
        """That of a config.

        Raises:
            ModelError: its parts are not those of SCRFD.
        """
        model = config.model
        backbone, head = model.get("backbone", {}), model.get("bbox_head", {})
        types = backbone.get("type"), model.get("neck", {}).get("type"), head.get("type")
        if types[0] not in ("ResNetV1e", "MobileNetV1") or types[1:] != ("PAFPN", "SCRFDHead"):
            raise ModelError(
                f"{config.filename}: a search needs ResNetV1e or MobileNetV1, PAFPN and SCRFDHead, not {types}"
            )
        norm = head.get("norm_cfg") or dict(type="GN", num_groups=16)
        anchors = len(head.anchor_generator.scales) * len(head.anchor_generator.ratios)
        return cls(
            block=backbone.get("block", "MobileNetV1"),
            stem=tuple(backbone.get("stem_planes", (16, 16))),
            depthwise=head.get("depthwise", False),
            groups=norm["num_groups"] if norm["type"] == "GN" else 0,
            outputs=anchors * (15 if head.get("with_landmarks", False) else 5),
        )


def settings_of(config: Config) -> Settings:
    """The settings of one config, N = 1."""
    backbone, neck, head = config.model.backbone, config.model.neck, config.model.bbox_head
    values = backbone.stage_blocks, backbone.stage_planes, neck.out_channels, head.stacked_convs, head.feat_channels
    return Settings(*(np.array([value], np.int64) for value in values))


def model_options(design: Design, settings: Settings, index: int) -> dict[str, Any]:
    """What makes the model of the ``index``-th architecture out of the design's config."""
    one = {field.name: getattr(settings, field.name)[index].tolist() for field in fields(Settings)}
    expansion = 4 if design.block == "Bottleneck" else 1
    backbone = dict(stage_blocks=one["blocks"], stage_planes=one["planes"])
    if design.block != "MobileNetV1":
        backbone["base_channels"] = one["planes"][0]
    return dict(
        backbone=backbone,
        neck=dict(in_channels=[expansion * planes for planes in one["planes"]], out_channels=one["neck"]),
        bbox_head=dict(in_channels=one["neck"], feat_channels=one["head"], stacked_convs=one["head_convs"]),
    )


def operations(design: Design, settings: Settings, width: int = 640, height: int = 480) -> dict[str, Ints]:
    """Multiply-adds of every part.

    Args:
        design: of all architectures.
        settings: of N architectures.
        width, height: of the input in pixels, multiples of 32.

    Returns:
        One of :data:`PARTS` → (N,) int64.
    """
    areas = {stride: (width // stride) * (height // stride) for stride in (2, 4, 8, 16, 32)}
    backbone = _mobilenet if design.block == "MobileNetV1" else _resnet
    expansion = 4 if design.block == "Bottleneck" else 1
    return {
        **backbone(design, settings, areas),
        "neck": _neck(expansion * settings.planes[:, 1:], settings.neck, areas),
        "head": _head(design, settings, areas),
    }


def total(costs: Mapping[str, Ints]) -> Ints:
    """(N,) operations of all parts together."""
    return np.sum([costs[part] for part in PARTS], axis=0)


def _conv(inputs: Any, outputs: Any, kernel: int, area: int, norm: int = _BATCH_NORM) -> Any:
    return (inputs * kernel**2 + norm) * outputs * area


def _separable(inputs: Any, outputs: Any, area: int, norm: int = _BATCH_NORM) -> Any:
    return (9 + norm) * inputs * area + _conv(inputs, outputs, 1, area, norm)


def _resnet(design: Design, settings: Settings, areas: Mapping[int, int]) -> dict[str, Ints]:
    base, stem = settings.planes[:, 0], areas[2]
    half = base // 2
    costs = {"stem": _conv(3, half, 3, stem) + _conv(half, half, 3, stem) + _conv(half, base, 3, stem)}
    inputs, before = base, areas[4]
    for i, stage in enumerate(STAGES):
        planes, area = settings.planes[:, i], areas[4 << i]
        if design.block == "BasicBlock":
            outputs = planes
            first = _conv(inputs, planes, 3, area) + _conv(planes, planes, 3, area)
            other = 2 * _conv(planes, planes, 3, area)
        else:
            outputs = 4 * planes
            rest = _conv(planes, planes, 3, area) + _conv(planes, outputs, 1, area)
            first, other = _conv(inputs, planes, 1, before) + rest, _conv(outputs, planes, 1, area) + rest
        shortcut = _conv(inputs, outputs, 1, area) * ((inputs != outputs) | (i > 0))
        costs[stage] = first + shortcut + (settings.blocks[:, i] - 1) * other
        inputs, before = outputs, area
    return costs


def _mobilenet(design: Design, settings: Settings, areas: Mapping[int, int]) -> dict[str, Ints]:
    first, second = design.stem
    stem = _conv(3, first, 3, areas[2]) + _separable(first, second, areas[2])
    inputs: Any = second
    costs: dict[str, NDArray[np.int64]] = {"stem": np.full(len(settings), stem)}
    for i, stage in enumerate(STAGES):
        planes, area = settings.planes[:, i], areas[4 << i]
        other = _separable(planes, planes, area)
        costs[stage] = _separable(inputs, planes, area) + (settings.blocks[:, i] - 1) * other
        inputs = planes
    return costs


def _neck(inputs: Ints, channels: Ints, areas: Mapping[int, int]) -> Ints:
    """PAFPN: lateral convolutions, top-down path with nearest upsampling, bottom-up path; no norm."""
    fine, coarse = areas[8] + areas[16] + areas[32], areas[16] + areas[32]
    lateral = sum(_conv(inputs[:, i], channels, 1, areas[8 << i], norm=0) for i in range(3))
    paths = _conv(channels, channels, 3, fine, norm=0) + 2 * _conv(channels, channels, 3, coarse, norm=0)
    upsampled: Ints = lateral + paths + channels * (areas[8] + areas[16])
    return upsampled


def _head(design: Design, settings: Settings, areas: Mapping[int, int]) -> Ints:
    area = areas[8] + areas[16] + areas[32]
    norm = _GROUP_NORM if design.groups else _BATCH_NORM
    width = settings.head

    def conv(inputs: Ints) -> Any:
        return _separable(inputs, width, area, norm) if design.depthwise else _conv(inputs, width, 3, area, norm)

    predictions = _conv(width, design.outputs, 3, area, norm=0)
    cost: Ints = conv(settings.neck) + (settings.head_convs - 1) * conv(width) + predictions
    return cost
