"""Random draws of architectures of one compute budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import IntDistribution

from facedet_mm.errors import ModelError
from facedet_mm.search.cost import SETTINGS, Design, Settings, operations, shares, total

Interval = tuple[float, float]
TOLERANCE = 0.02
_BATCH = 1 << 17
_BATCHES = 400


@dataclass(frozen=True)
class Space:
    """Ranges that settings are drawn from uniformly; each is a pair of the smallest and the largest value.

    A stage is at least as wide as the one before. Widths are multiples of 8 and of the groups of the design's group
    norm. The defaults of blocks and planes are SCRFD's search space (arXiv 2105.04714, section 4, after RegNet).

    Attributes:
        blocks: Number of blocks of each stage.
        planes: Planes of each stage.
        neck: Channels of the neck.
        head_convs: Number of convolutions in the head's tower.
        head: Channels of these convolutions.
    """

    blocks: tuple[int, int] = (1, 24)
    planes: tuple[int, int] = (8, 512)
    neck: tuple[int, int] = (8, 256)
    head_convs: tuple[int, int] = (1, 6)
    head: tuple[int, int] = (8, 256)

    def around(self, settings: Settings) -> Space:
        """Returns this space with neck and head fixed to those of the one architecture given, as in the first step."""
        values = {name: int(getattr(settings, name)[0]) for name in ("neck", "head_convs", "head")}
        return replace(self, **{name: (value, value) for name, value in values.items()})

    def ranges(self) -> dict[str, IntDistribution]:
        """Returns the range of each of :data:`~facedet_mm.search.cost.SETTINGS` as Optuna's distribution."""
        return {name: IntDistribution(*getattr(self, field)) for name, field in SETTINGS.items()}


def sample(
    design: Design,
    space: Space,
    budget: float,
    number: int,
    seed: int = 0,
    limits: Mapping[str, Interval] | None = None,
) -> Settings:
    """Draws different architectures whose operations at 640×480 are within 2 % of the budget.

    Args:
        design: Properties of all architectures.
        space: Ranges to draw from.
        budget: Multiply-adds for one image of 640×480.
        number: Number of architectures.
        seed: Seed of the random numbers.
        limits: Share name → its smallest and largest value; the second step of the search keeps the backbone's shares
            that the first one found.

    Raises:
        ModelError: The space has too few such architectures.
    """
    rng = np.random.default_rng(seed)
    limit = budget * (1 + TOLERANCE)
    space = _aligned(design, space)
    bounds = _tightened(design, space, limit)
    found: dict[tuple[int, ...], Settings] = {}
    for _ in range(_BATCHES):
        drawn = _draw(rng, design, space, bounds)
        cost = total(operations(design, drawn))
        drawn = drawn[np.abs(cost - budget) <= TOLERANCE * budget]
        if limits:
            have = shares(design, drawn)
            drawn = drawn[np.all([(have[s] >= low) & (have[s] <= high) for s, (low, high) in limits.items()], axis=0)]
        for i in range(len(drawn)):
            found.setdefault(_key(drawn, i), drawn[i : i + 1])
            if len(found) == number:
                return _joined(list(found.values()))
    raise ModelError(
        f"only {len(found)} of {number} architectures with {budget / 1e9:g} GFLOPs ± 2 % were found among "
        f"{_BATCHES * _BATCH / 1e6:.0f} million: ask for fewer, or widen the space"
    )


def _draw(rng: np.random.Generator, design: Design, space: Space, bounds: Mapping[str, list[int]]) -> Settings:
    def uniform(low: int, high: int, step: int = 1) -> NDArray[np.int64]:
        return rng.integers(low // step, high // step + 1, _BATCH) * step

    planes = np.stack([uniform(space.planes[0], high, 8) for high in bounds["planes"]], axis=1)
    planes = planes[(np.diff(planes, axis=1) >= 0).all(axis=1)]
    n = len(planes)
    blocks = np.stack([uniform(space.blocks[0], high) for high in bounds["blocks"]], axis=1)
    return Settings(
        blocks=blocks[:n],
        planes=planes,
        neck=uniform(space.neck[0], bounds["neck"][0], _step(design, "neck"))[:n],
        head_convs=uniform(space.head_convs[0], bounds["head_convs"][0])[:n],
        head=uniform(space.head[0], bounds["head"][0], _step(design, "head"))[:n],
    )


def _step(design: Design, name: str) -> int:
    """Returns the step between widths of neck or head; a depthwise tower normalizes the neck's channels, too."""
    normalized = name == "head" or design.depthwise
    return math.lcm(8, design.groups) if design.groups and normalized else 8


def _aligned(design: Design, space: Space) -> Space:
    """Returns ``space`` with ranges that begin and end at multiples of their steps."""
    for name, (low, high) in _ranges(space):
        if not 1 <= low <= high:
            raise ModelError(f"{name} must be the smallest and the largest value, at least 1, not {low} and {high}")
    changes = {}
    for name, step in (("planes", 8), ("neck", _step(design, "neck")), ("head", _step(design, "head"))):
        low, high = getattr(space, name)
        changes[name] = (-(-low // step) * step, high // step * step)
        if changes[name][0] > changes[name][1]:
            raise ModelError(f"{name} {low} to {high} contains no multiple of {step}, which the design's norm needs")
    return replace(space, **changes)


def _tightened(design: Design, space: Space, limit: float) -> dict[str, list[int]]:
    """Returns the largest values of each setting that fit the limit when all other settings are as small as possible.

    Larger values fit no architecture, so nothing is lost.
    """
    smallest = Settings(
        *(np.array([[low] * 4 if name in ("blocks", "planes") else low]) for name, (low, _) in _ranges(space))
    )
    cheapest = int(total(operations(design, smallest))[0])
    if cheapest > limit:
        raise ModelError(
            f"the smallest architecture of the space has {cheapest / 1e9:.3g} GFLOPs, more than the budget: "
            "use a smaller design or a larger budget"
        )
    return {name: _largest(design, smallest, name, bounds, limit) for name, bounds in _ranges(space)}


def _ranges(space: Space) -> list[tuple[str, tuple[int, int]]]:
    return [(field.name, getattr(space, field.name)) for field in fields(Space)]


def _largest(design: Design, smallest: Settings, name: str, bounds: tuple[int, int], limit: float) -> list[int]:
    values = np.arange(bounds[0], bounds[1] + 1)
    many = smallest[np.zeros(len(values), int)]
    columns = range(4) if name in ("blocks", "planes") else [None]
    largest = []
    for column in columns:
        changed = getattr(many, name).copy()
        if name == "planes":
            changed[:, column:] = values[:, None]  # later stages are at least as wide
        else:
            changed[... if column is None else (slice(None), column)] = values
        fits = total(operations(design, replace(many, **{name: changed}))) <= limit
        largest.append(int(values[fits].max()))
    return largest


def _key(settings: Settings, index: int) -> tuple[int, ...]:
    return tuple(int(v) for field in fields(Settings) for v in np.ravel(getattr(settings, field.name)[index]))


def _joined(parts: list[Settings]) -> Settings:
    return Settings(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Settings)))
