"""Mistakes in model configs, told when the model is built, with what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import gcd
from typing import Any

from facedet_mm.errors import ModelError


def check_widths(owner: str, norm_cfg: Mapping[str, Any], **widths: int | Sequence[int]) -> None:
    """Whether widths are whole numbers from 1 on that group norm can divide.

    Args:
        owner: the class whose arguments they are.
        norm_cfg: the norm that follows convolutions of these widths.
        **widths: argument → its value.

    Raises:
        ModelError: a width is not positive, or not a multiple of the number of groups.
    """
    flat = {name: [width] if isinstance(width, int) else list(width) for name, width in widths.items()}
    for name, values in flat.items():
        if not all(isinstance(value, int) and value > 0 for value in values):
            raise ModelError(f"{owner}: {name} must be channels, whole numbers from 1 on, not {widths[name]!r}")
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
            f"set norm_cfg.num_groups to {_either(fitting)}, or change the width"
        )


def check_stages(owner: str, **values: Sequence[int]) -> None:
    """Whether each argument has a value for each of the four stages.

    Raises:
        ModelError: one has more or fewer than four.
    """
    for name, given in values.items():
        if len(given) != 4 or min(given) < 1:
            raise ModelError(f"{owner}: {name} needs 4 numbers from 1 on, one a stage, not {list(given)}")


def check_anchors(owner: str, anchor_generator: Mapping[str, Any]) -> None:
    """Whether the anchors fit the strides: one base size a stride, strides ascending.

    Raises:
        ModelError: they do not.
    """
    strides = [max(s) if isinstance(s, Sequence) else s for s in anchor_generator.get("strides", ())]
    base_sizes = anchor_generator.get("base_sizes")
    if not strides or strides != sorted(set(strides)) or strides[0] < 1:
        raise ModelError(f"{owner}: anchor_generator.strides must ascend as [8, 16, 32] do, not {strides}")
    if base_sizes is not None and len(base_sizes) != len(strides):
        raise ModelError(
            f"{owner}: anchor_generator has {len(strides)} strides {strides} and {len(base_sizes)} base_sizes "
            f"{list(base_sizes)}: give one base size, the side of the smallest anchor, for each stride"
        )


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
