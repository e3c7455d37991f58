"""Conversion between MMDetection's predictions and the runtime's ``Faces``."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData

from facedet_mm.structures import Faces


def faces_from_instances(instances: InstanceData) -> Faces:
    """Returns the predictions of one image as ``Faces``.

    Args:
        instances: ``bboxes`` (N, 4) x1 y1 x2 y2 in pixels, ``scores`` (N,) and, from a model with landmarks,
            ``keypoints`` (N, 5, 2).
    """
    landmarks = instances.keypoints.cpu().numpy() if "keypoints" in instances else None
    return Faces(instances.bboxes.cpu().numpy(), instances.scores.cpu().numpy(), landmarks)


def instances_from_faces(faces: Faces) -> InstanceData:
    """Returns ``bboxes``, ``scores``, ``labels`` (N,) zeros and, if there are landmarks, ``keypoints``, on the CPU."""
    instances = InstanceData(
        bboxes=torch.from_numpy(np.array(faces.boxes)),
        scores=torch.from_numpy(np.array(faces.scores)),
        labels=torch.zeros(len(faces), dtype=torch.long),
    )
    if faces.landmarks is not None:
        instances.keypoints = torch.from_numpy(np.array(faces.landmarks))
    return instances
