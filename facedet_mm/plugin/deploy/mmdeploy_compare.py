"""Compares the faces of a backend with those of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config

from facedet_mm.errors import ModelError
from facedet_mm.evaluation.agreement import compare_faces
from facedet_mm.structures import Faces

SURE = 0.5
"""Faces with a higher score must be found by both."""
TOLERANCE = {"scores": 1e-3, "boxes": 0.5, "landmarks": 0.5}
"""Largest differences allowed in FP32; boxes and landmarks in pixels."""


def compare_backend(deploy_cfg: Config, faces: Mapping[Path, tuple[Faces, Faces]]) -> dict[str, float]:
    """Returns the largest differences between the faces of PyTorch and of a backend.

    A face that only one of them finds counts as a difference of scores.

    Args:
        deploy_cfg: Deploy config, which says whether the backend computes in FP32.
        faces: Faces of PyTorch and faces of the backend for each image, in pixels of the image.

    Returns:
        ``scores``, ``boxes`` and, if there are any, ``landmarks``; empty if no image has a face.

    Raises:
        ModelError: A difference is too large although the backend computes in FP32.
    """
    differences: dict[str, float] = {}
    for path, (ours, theirs) in faces.items():
        for kind, value in _differences(ours, theirs).items():
            differences[kind] = max(value, differences.get(kind, 0.0))
            if _in_float32(deploy_cfg) and value > TOLERANCE[kind]:
                raise ModelError(
                    f"{path}: {kind} of PyTorch and the backend differ by up to {value:.3g}, "
                    f"more than {TOLERANCE[kind]:g}; nothing was written"
                )
    return differences


def _differences(ours: Faces, theirs: Faces) -> dict[str, float]:
    agreement = compare_faces(ours, theirs, SURE)
    unmatched = np.concatenate([ours.scores[agreement.only_first], theirs.scores[agreement.only_second]])
    if not len(agreement.pairs) and not len(unmatched):
        return {}
    found = {"scores": float(np.append(unmatched, agreement.scores).max()), "boxes": agreement.boxes}
    return found if agreement.landmarks is None else {**found, "landmarks": agreement.landmarks}


def _in_float32(deploy_cfg: Config) -> bool:
    common = deploy_cfg.backend_config.get("common_config", {})
    return not (common.get("fp16_mode") or common.get("int8_mode"))
