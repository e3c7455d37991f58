"""Reads the SCRFD authors' checkpoints, which have the layout of MMDetection 2.7."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from torch import Tensor

from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.apis.checkpoint import load_checkpoint
from facedet_mm.plugin.apis.official_models import MODELS, unknown_weights
from facedet_mm.plugin.engine.official_layout import rename_state
from facedet_mm.zoo import config_path


def read_official_pth(src: Path) -> tuple[str, dict[str, Tensor]]:
    """Returns the model's name and its weights under this project's names.

    Raises:
        ModelError: The file cannot be read, or its weights fit none of the models.
    """
    weights = load_checkpoint(src)["state_dict"]
    state = rename_state(weights)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    mismatches: list[tuple[int, str, str]] = []
    for name in MODELS:
        own = _tensor_shapes(name)
        if own == shapes:
            return name, state
        wrong = sorted(key for key in own.keys() | shapes.keys() if own.get(key) != shapes.get(key))
        actual, expected = shapes.get(wrong[0], "missing"), own.get(wrong[0], "absent")
        detail = f"{len(wrong)} tensors do not fit, {wrong[0]} is {actual}, expected {expected}"
        mismatches.append((len(wrong), name, detail))
    raise unknown_weights(src, mismatches)


@cache
def _tensor_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in build_model(config_path(name)).state_dict().items()}
