"""Compares the faces of a backend with those of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.structures import InstanceData

from facedet_mm.errors import ModelError
from facedet_mm.structures import Faces

SURE = 0.5
"""Faces with a higher score must be found by both."""
TOLERANCE = {"scores": 1e-3, "boxes": 0.5, "landmarks": 0.5}
"""Largest differences allowed in FP32; boxes and landmarks in pixels."""


def to_faces(found: InstanceData) -> Faces:
    """Returns the predictions of an mmdet detector for one image as ``Faces``."""
    landmarks = found.keypoints.cpu().numpy() if "keypoints" in found else None
    return Faces(found.bboxes.cpu().numpy(), found.scores.cpu().numpy(), landmarks)


def compare_faces(deploy_cfg: Config, faces: Mapping[Path, tuple[Faces, Faces]]) -> dict[str, float]:
    """Returns the largest differences between faces of PyTorch and the nearest faces of a backend, and vice versa.

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
        for one, other in ((ours, theirs), (theirs, ours)):
            for kind, value in _differences(one[one.scores > SURE], other).items():
                differences[kind] = max(value, differences.get(kind, 0.0))
                if _in_float32(deploy_cfg) and value > TOLERANCE[kind]:
                    raise ModelError(
                        f"{path}: {kind} of PyTorch and the backend differ by up to {value:.3g}, "
                        f"more than {TOLERANCE[kind]:g}; nothing was written"
                    )
    return differences


def _differences(one: Faces, other: Faces) -> dict[str, float]:
    if not len(one):
        return {}
    if not len(other):
        return {"scores": float(one.scores.max())}
    distance = np.abs(one.boxes[:, None] - other.boxes[None]).max(2)
    nearest = distance.argmin(1)
    found = {
        "scores": float(np.abs(one.scores - other.scores[nearest]).max()),
        "boxes": float(distance.min(1).max()),
    }
    if one.landmarks is not None and other.landmarks is not None:
        found["landmarks"] = float(np.abs(one.landmarks - other.landmarks[nearest]).max())
    return found


def _in_float32(deploy_cfg: Config) -> bool:
    common = deploy_cfg.backend_config.get("common_config", {})
    return not (common.get("fp16_mode") or common.get("int8_mode"))
