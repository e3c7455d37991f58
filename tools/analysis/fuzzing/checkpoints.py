"""Checkpoints: damaged, with odd content, and with code, which must never run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator

from facedet_mm.plugin.apis.checkpoint import load_checkpoint
from fuzzing.mutations import mutate_bytes


class _Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def read_checkpoint(folder: Path, rng: Generator) -> str:
    """Makes a checkpoint with odd entries, code or damage, and loads it."""
    canary = folder / "code_ran"
    state: dict[Any, Any] = {"a.weight": torch.zeros(2, 3), "b": torch.ones(1)}
    content: Any = {"meta": {"epoch": 1}, "state_dict": state}
    match int(rng.integers(8)):
        case 0:
            content["meta"] = _Code(canary)
        case 1:
            state["c"] = _Code(canary)
        case 2:
            state[3] = torch.zeros(1)
        case 3:
            state["sparse"] = torch.eye(3).to_sparse()
        case 4:
            state["meta"] = torch.zeros(2, device="meta")
        case 5:
            state["values"] = torch.tensor([float("nan"), float("inf")])
        case 6:
            content = [content, None, 3, state][int(rng.integers(4))]
    path = folder / "model.pth"
    if rng.random() < 0.3:
        path.write_bytes(pickle.dumps(content, int(rng.integers(2, 5))))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=bool(rng.random() < 0.7))
    if rng.random() < 0.4:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    try:
        load_checkpoint(path)
    finally:
        if canary.exists():
            raise RuntimeError("the checkpoint ran code")
    return ""
