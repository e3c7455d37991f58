"""The SCRFD models whose official weights can be converted."""

from __future__ import annotations

from pathlib import Path

from facedet_mm.errors import ModelError

_SIZES = ("34g", "10g", "2.5g", "1g", "0.5g", "10g_kps", "2.5g_kps", "0.5g_kps")
MODELS = tuple(f"scrfd_{size}" for size in _SIZES)


def unknown_weights(src: Path, mismatches: list[tuple[int, str, str]]) -> ModelError:
    """Returns the error for weights of another model.

    Args:
        src: File of the weights.
        mismatches: Number of mismatches, name and description for each of our models.
    """
    _, name, detail = min(mismatches)
    return ModelError(f"{src}: not one of the eight SCRFD models ({', '.join(MODELS)}); closest is {name}: {detail}")
