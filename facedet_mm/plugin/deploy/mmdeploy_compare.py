"""Whether a back end finds the faces that PyTorch finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.structures import InstanceData

from facedet_mm.errors import ModelError
from facedet_mm.structures import Faces

SURE = 0.5
"""Faces with a score above it must be found by both."""
TOLERANCE = {"scores": 1e-3, "boxes": 0.5, "landmarks": 0.5}
"""Largest difference in FP32; boxes and landmarks in pixels."""


def to_faces(found: InstanceData) -> Faces:
    """What an mmdet detector found in an image."""
    landmarks = found.keypoints.cpu().numpy() if "keypoints" in found else None
    return Faces(found.bboxes.cpu().numpy(), found.scores.cpu().numpy(), landmarks)


def compare_faces(deploy_cfg: Config, faces: Mapping[Path, tuple[Faces, Faces]]) -> dict[str, float]:
    """Largest differences between the faces of PyTorch and of a back end, each face next to the nearest of the other.

    Args:
        deploy_cfg: says whether the back end computes in FP32; only then the differences have to be small.
        faces: image → faces of PyTorch, faces of the back end, in the image's pixels.

    Returns:
        ``scores``, ``boxes`` and, where there are some, ``landmarks``; empty if no image has a face.

    Raises:
        ModelError: a difference is too large in FP32.
    """
    differences: dict[str, float] = {}
    for path, (ours, theirs) in faces.items():
        for one, other in ((ours, theirs), (theirs, ours)):
            for kind, value in _differences(one[one.scores > SURE], other).items():
                differences[kind] = max(value, differences.get(kind, 0.0))
                if _in_float32(deploy_cfg) and value > TOLERANCE[kind]:
                    raise ModelError(
                        f"{path}: {kind} of PyTorch and the back end differ by up to {value:.3g}, "
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
