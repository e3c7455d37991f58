"""Conversion of MMDetection's predictions to the runtime's ``Faces``."""

from __future__ import annotations

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
