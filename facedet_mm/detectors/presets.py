"""Presets of detectors: where on the scale from fast to accurate a detector stands."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

PRESETS = MappingProxyType(
    {
        "fast": MappingProxyType({"input_size": "auto"}),
        "balanced": MappingProxyType({"input_size": [640, 1280]}),
        "accurate": MappingProxyType({"input_size": [640, 960, 1280, 1600], "mirror": True}),
    }
)
"""Preset → settings of :class:`~facedet_mm.detectors.options.DetectorOptions` that it stands for.

``fast`` looks once, ``balanced`` at two sizes (5 times the pixels), ``accurate`` at four sizes, each mirrored, too
(30 times the pixels), where a face that only one look sees loses half of its score; see docs/benchmarks.md for AP and
time.
"""


def settings_of(preset: str) -> dict[str, Any]:
    """Returns the settings of a preset.

    Example:
        >>> settings_of("balanced")
        {'input_size': [640, 1280]}
    """
    return dict(PRESETS[preset])
