"""Reads and writes checkpoints, without running code that a file contains."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.engine.loading import FLOAT_TYPES, check_tensors, read_file
from facedet_mm.plugin.engine.official_layout import has_official_layout
from facedet_mm.system.files import atomic_path

_TEXTS = ("model", "source", "source_sha256")
"""Entries of ``meta`` that converted weights have."""


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint as a dict with ``state_dict`` and ``meta``, on the CPU.

    It is loaded with ``weights_only=True``: files that contain code are refused.

    Raises:
        ModelError: The file is missing, not a PyTorch checkpoint, truncated, contains objects other than weights, or
            weights that are not finite or not plain tensors.
    """
    checkpoint = read_file(path)
    if not isinstance(checkpoint, dict):
        raise ModelError(f"{path}: a checkpoint with a 'state_dict' was expected, not {type(checkpoint).__name__}")
    if "state_dict" not in checkpoint:
        checkpoint = {"state_dict": checkpoint}
    state = checkpoint["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"{path}: contains no weights; a dict of tensors under 'state_dict' was expected")
    check_tensors(state, os.fspath(path))
    meta = checkpoint.setdefault("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(meta.get(key, ""), str) for key in _TEXTS):
        expected = f"a dict with texts under {', '.join(_TEXTS)}"
        raise ModelError(f"{path}: its 'meta' is malformed; {expected} was expected")
    return checkpoint


def save_checkpoint(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes a checkpoint atomically.

    Raises:
        FaceDetError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        torch.save(checkpoint, temporary)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Loads a checkpoint into a model and returns the checkpoint's ``meta``; every tensor must match.

    Raises:
        ModelError: The checkpoint cannot be read, or the weights do not fit the model.
    """
    checkpoint = load_checkpoint(path)
    state, own = checkpoint["state_dict"], model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is unknown to the model" for name in state if name not in own]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, the model needs {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems += [
        f"{name} has the type {state[name].dtype}, the model needs {value.dtype}"
        for name, value in own.items()
        if name in state and (state[name].dtype in FLOAT_TYPES) != (value.dtype in FLOAT_TYPES)
    ]
    if problems:
        authors = has_official_layout(state)
        hint = (
            "; they have the layout of the SCRFD authors' code: run tools/convert_insightface.py first"
            if authors
            else "; was the checkpoint made with another config?"
        )
        shown = "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ModelError(f"{path}: the weights do not fit the config ({shown}){hint}")
    model.load_state_dict(state, strict=True)
    return dict(checkpoint["meta"])
