"""Reads and writes checkpoints, without running code that a file contains."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from facedet_mm.errors import ModelError
from facedet_mm.system.files import atomic_path


def _log_getattr(value: Any, name: str) -> Any:
    """Replaces ``getattr`` in checkpoints: mmengine's log history uses it to refer to its own methods."""
    if value is not HistoryBuffer and not isinstance(value, HistoryBuffer):
        raise UnpicklingError(f"Unsupported getattr({type(value).__name__}, {name!r})")
    return getattr(value, name)


_MAGIC = (b"PK", b"\x80\x02")
"""First bytes of PyTorch files: a zip archive, or a pickle in the old format."""

_multiarray = importlib.import_module("numpy.core.multiarray" if np.__version__ < "2" else "numpy._core.multiarray")
# mmengine's Runner stores the log history, with NumPy values in it, in addition to tensors
_RUNNER_TYPES: list[Any] = [
    HistoryBuffer,
    (_log_getattr, "builtins.getattr"),
    np.ndarray,
    np.dtype,
    _multiarray._reconstruct,
    _multiarray.scalar,
    *(type(np.dtype(name)) for name in ("int64", "int32", "uint32", "float32", "float64", "bool")),
]


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint as a dict with ``state_dict`` and ``meta``, on the CPU.

    It is loaded with ``weights_only=True``: files that contain code are refused.

    Raises:
        ModelError: The file is missing, not a PyTorch checkpoint, truncated, or contains objects other than weights.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint")
    with path.open("rb") as file:
        head = file.read(2)
    if head not in _MAGIC:
        what = "the file is empty" if not head else "not a PyTorch file"
        raise ModelError(f"{path}: {what}; a checkpoint with a 'state_dict' was expected")
    try:
        with torch.serialization.safe_globals(_RUNNER_TYPES):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it uses {wanted[1]}" if wanted else "it contains other objects"
        raise ModelError(f"{path}: refused: {reason}; a checkpoint with nothing but weights was expected") from error
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]
        raise ModelError(f"{path}: cannot be read as a PyTorch checkpoint; is it complete? ({reason})") from error
    if not isinstance(checkpoint, dict):
        raise ModelError(f"{path}: a checkpoint with a 'state_dict' was expected, not {type(checkpoint).__name__}")
    if "state_dict" not in checkpoint:
        checkpoint = {"state_dict": checkpoint}
    state = checkpoint["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"{path}: contains no weights; a dict of tensors under 'state_dict' was expected")
    checkpoint.setdefault("meta", {})
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
    if problems:
        authors = any(name.startswith("bbox_head.stride_cls.") for name in state)
        hint = (
            "; they have the layout of the SCRFD authors' code: run tools/convert_insightface.py first"
            if authors
            else "; was the checkpoint made with another config?"
        )
        shown = "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ModelError(f"{path}: the weights do not fit the config ({shown}){hint}")
    model.load_state_dict(state, strict=True)
    return dict(checkpoint["meta"])
