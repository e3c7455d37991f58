"""Multiply-adds of many architectures at once, counted as MMEngine counts those of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import ModelError

Ints = NDArray[np.int64]
STAGES = ("c2", "c3", "c4", "c5")
BACKBONE = ("stem", *STAGES)
PARTS = (*BACKBONE, "neck", "head")
SETTINGS = {
    **{f"{stage} blocks": "blocks" for stage in STAGES},
    **{f"{stage} planes": "planes" for stage in STAGES},
    "neck channels": "neck",
    "head convolutions": "head_convs",
    "head channels": "head",
}
"""Name of each setting of an architecture → the field of :class:`Settings` that holds it."""
SHARES = (*(f"{part} of backbone" for part in BACKBONE), "backbone of all", "neck of all", "head of all")
"""Names of an architecture's shares of the operations."""
_BATCH_NORM, _GROUP_NORM = 2, 5
"""Operations per element, as MMEngine counts them."""


@dataclass(frozen=True)
class Settings:
    """The settings of N architectures that the search varies.

    Attributes:
        blocks: (N, 4) int64, number of blocks of each backbone stage.
        planes: (N, 4) int64, planes of each stage before a bottleneck's expansion.
        neck: (N,) int64, channels of the neck.
        head_convs: (N,) int64, number of convolutions in the head's tower.
        head: (N,) int64, channels of these convolutions.
    """

    blocks: Ints
    planes: Ints
    neck: Ints
    head_convs: Ints
    head: Ints

    def __len__(self) -> int:
        return len(self.neck)

    def __getitem__(self, index: Any) -> Settings:
        """Returns the architectures that an index array, mask or slice selects."""
        return Settings(*(getattr(self, field.name)[index] for field in fields(self)))

    @classmethod
    def from_config(cls, config: Any) -> Settings:
        """Returns the settings of an MMEngine config, N = 1."""
        backbone, neck, head = config.model.backbone, config.model.neck, config.model.bbox_head
        values = backbone.stage_blocks, backbone.stage_planes, neck.out_channels, head.stacked_convs, head.feat_channels
        return cls(*(np.array([value], np.int64) for value in values))

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, int]]) -> Settings:
        """Returns N architectures from the values of :data:`SETTINGS` of each."""
        table = np.array([[row[name] for name in SETTINGS] for row in rows], np.int64)
        return cls(table[:, :4], table[:, 4:8], *table[:, 8:].T)

    def rows(self) -> list[dict[str, int]]:
        """Returns the values of :data:`SETTINGS` of each architecture."""
        table = np.column_stack([getattr(self, field.name) for field in fields(self)])
        return [dict(zip(SETTINGS, row, strict=True)) for row in table.tolist()]


@dataclass(frozen=True)
class Design:
    """The properties that all architectures of a search share.

    Attributes:
        block: ``BasicBlock`` or ``Bottleneck`` of ``ResNetV1e``, or ``MobileNetV1``.
        stem: Planes of ``MobileNetV1``'s stem; the stem of a ``ResNetV1e`` is as wide as its first stage.
        depthwise: Whether the head's tower is depthwise-separable.
        groups: Groups of the group norm in the tower; 0 means batch norm.
        outputs: Channels of the head's predictions per cell.
    """

    block: str
    stem: tuple[int, int]
    depthwise: bool
    groups: int
    outputs: int

    @classmethod
    def from_config(cls, config: Any) -> Design:
        """Returns the design of an MMEngine config.

        Raises:
            ModelError: The parts of its model are not those of SCRFD.
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


def model_options(design: Design, settings: Settings, index: int) -> dict[str, Any]:
    """Returns the changes to the design's ``model`` that make it the architecture at ``index``."""
    values = {field.name: getattr(settings, field.name)[index].tolist() for field in fields(Settings)}
    expansion = 4 if design.block == "Bottleneck" else 1
    backbone = dict(stage_blocks=values["blocks"], stage_planes=values["planes"])
    if design.block != "MobileNetV1":
        backbone["base_channels"] = values["planes"][0]
    return dict(
        backbone=backbone,
        neck=dict(in_channels=[expansion * planes for planes in values["planes"]], out_channels=values["neck"]),
        bbox_head=dict(in_channels=values["neck"], feat_channels=values["head"], stacked_convs=values["head_convs"]),
    )


def operations(design: Design, settings: Settings, width: int = 640, height: int = 480) -> dict[str, Ints]:
    """Returns the multiply-adds of each part.

    Args:
        design: Properties of all architectures.
        settings: Settings of N architectures.
        width: Width of the input in pixels, a multiple of 32.
        height: Height of the input in pixels, a multiple of 32.

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
    """Returns the (N,) int64 operations of all parts together."""
    summed: Ints = np.sum([costs[part] for part in PARTS], axis=0)
    return summed


def shares(design: Design, settings: Settings) -> dict[str, NDArray[np.float64]]:
    """Returns the shares of the operations.

    Returns:
        One of :data:`SHARES` → (N,) float64.
    """
    costs = operations(design, settings)
    backbone, everything = np.sum([costs[part] for part in BACKBONE], axis=0), total(costs)
    return {
        **{f"{part} of backbone": costs[part] / backbone for part in BACKBONE},
        "backbone of all": backbone / everything,
        **{f"{part} of all": costs[part] / everything for part in ("neck", "head")},
    }


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
    """Returns the operations of PAFPN: lateral convolutions, top-down path (nearest upsampling), bottom-up path."""
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
