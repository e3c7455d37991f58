"""Checks of constructor arguments and outputs; the errors name the entry of the config and a value that would fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import gcd, inf
from typing import Any

import torch
from torch import Tensor

from facedet_mm.errors import ModelError


def check_one_class(owner: str, num_classes: int) -> None:
    """Checks that a head detects one class.

    Raises:
        ModelError: It detects another number of classes.
    """
    if num_classes != 1:
        raise ModelError(f"{owner} detects one class, face: set bbox_head.num_classes=1, not {num_classes!r}")


def validate_widths(owner: str, norm_cfg: Mapping[str, Any], **widths: int | Sequence[int]) -> None:
    """Checks that widths are positive integers that a group norm can divide.

    Args:
        owner: Class name used in error messages.
        norm_cfg: Config of the norm that follows the convolutions of these widths.
        **widths: Widths in channels, by argument name.

    Raises:
        ModelError: A width is not positive, or not a multiple of the number of groups.
    """
    flat = {name: [width] if isinstance(width, int) else list(width) for name, width in widths.items()}
    for name, values in flat.items():
        if not all(isinstance(value, int) and value > 0 for value in values):
            raise ModelError(f"{owner}: {name} must be positive numbers of channels, not {widths[name]!r}")
    groups = norm_cfg.get("num_groups")
    if norm_cfg.get("type") != "GN" or groups is None:
        return
    wrong = [name for name, values in flat.items() if groups < 1 or any(value % groups for value in values)]
    if wrong:
        common = reduce(gcd, (value for values in flat.values() for value in values))
        fitting = [str(number) for number in range(1, common + 1) if common % number == 0]
        raise ModelError(
            f"{owner}: group norm with num_groups={groups} does not fit "
            f"{' and '.join(f'{name}={widths[name]!r}' for name in wrong)}: "
            f"set norm_cfg.num_groups to {_join_with_or(fitting)}, or change the width"
        )


def validate_stages(owner: str, **values: Sequence[int]) -> None:
    """Checks that each argument has one positive value for each of the four stages.

    Raises:
        ModelError: An argument has more or fewer than four values, or one below 1.
    """
    for name, given in values.items():
        if len(given) != 4 or min(given) < 1:
            raise ModelError(f"{owner}: {name} needs 4 positive numbers, one per stage, not {list(given)}")


def require_finite(**outputs: Tensor | None) -> None:
    """Checks that a network's outputs are numbers; with NaN it would find no face, or one over everything.

    Args:
        **outputs: Outputs by name; ``None`` is left out.

    Raises:
        ModelError: An output has a value that is NaN or infinite.
    """
    present = {name: values for name, values in outputs.items() if values is not None}
    # one sum is cheaper than a mask, and a NaN or an infinity stays in it
    if torch.isfinite(torch.stack([values.sum() for values in present.values()])).all():
        return
    for name, values in present.items():
        wrong = int((~torch.isfinite(values)).sum())
        if wrong:
            raise ModelError(
                f"{wrong} of the {values.numel()} {name} that the network predicts are NaN or infinite: "
                "its weights are damaged, or come from a training that failed"
            )


def validate_anchors(owner: str, anchor_generator: Mapping[str, Any]) -> None:
    """Checks that the strides ascend, that there is one base size per stride, and that no anchor is without area.

    Raises:
        ModelError: Strides or base sizes are wrong.
    """
    strides = [max(s) if isinstance(s, Sequence) else s for s in anchor_generator.get("strides", ())]
    base_sizes = anchor_generator.get("base_sizes")
    if not strides or strides != sorted(set(strides)) or strides[0] < 1:
        raise ModelError(f"{owner}: anchor_generator.strides must ascend like [8, 16, 32], not {strides}")
    if base_sizes is not None and len(base_sizes) != len(strides):
        raise ModelError(
            f"{owner}: anchor_generator has {len(strides)} strides {strides} and {len(base_sizes)} base_sizes "
            f"{list(base_sizes)}: set one base size, the side of the smallest anchor, for each stride"
        )
    for name in ("base_sizes", "scales", "ratios", "octave_base_scale", "scales_per_octave"):
        values = anchor_generator.get(name)
        if values is None:
            continue
        listed = list(values) if isinstance(values, Sequence) else [values]
        if not listed or not all(isinstance(value, (int, float)) and 0 < value < inf for value in listed):
            raise ModelError(f"{owner}: anchor_generator.{name} must be positive numbers, not {values!r}")


def _join_with_or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
