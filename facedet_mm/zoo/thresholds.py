"""The score threshold that is recommended for a model."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from facedet_mm.zoo.registry import MODELS, UNKNOWN_SCORE_THR, ZooModel


def recommended_score_thr(model: str | os.PathLike[str], name: object = None) -> float:
    """Returns the score threshold of a known model, see ``ZooModel.score_thr``; 0.5 for all others.

    Args:
        model: Model name or file. A file is known by its content if it is the one that the table of models lists.
        name: Model name that the file's metadata tell.

    Example:
        >>> recommended_score_thr("yunet_n") == MODELS["yunet_n"].score_thr, recommended_score_thr("mine.onnx")
        (True, 0.5)
    """
    known = MODELS.get(os.fspath(model)) or MODELS.get(str(name)) or _recognized(Path(model))
    return known.score_thr if known else UNKNOWN_SCORE_THR


def _recognized(path: Path) -> ZooModel | None:
    """Returns the model whose published file this is; only files of a matching size are read."""
    try:
        size = path.stat().st_size
        for model in MODELS.values():
            if model.size == size and hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256:
                return model
    except (OSError, ValueError):
        pass
    return None
