"""Steps that all heads share: candidates of a prediction, and faces and landmarks as targets of a loss."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from facedet_mm.errors import TrainingError

NUM_LANDMARKS = 5


def candidates(scores: Tensor, cfg: Mapping[str, Any]) -> Tensor:
    """Returns the indices of the scores (N,) above ``score_thr``, at most the ``nms_pre`` best (−1 for all)."""
    keep = (scores > cfg.get("score_thr", 0)).nonzero().squeeze(1)
    nms_pre = cfg.get("nms_pre", -1)
    return keep[scores[keep].topk(nms_pre).indices] if 0 < nms_pre < len(keep) else keep


def positives(assigned: Tensor, batch_gt_instances: list[InstanceData]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the image, the prior and the face of each positive, (P,) int64; faces are counted through the batch.

    Args:
        assigned: (B, N) int64, 1 + face index in its image for positives, at most 0 for others.
        batch_gt_instances: For each image ``bboxes`` (G, 4).
    """
    image, prior = (assigned > 0).nonzero(as_tuple=True)
    starts = [0, *accumulate(len(gt.bboxes) for gt in batch_gt_instances)]
    return image, prior, assigned[image, prior] - 1 + image.new_tensor(starts)[image]


def landmark_targets(batch_gt_instances: list[InstanceData]) -> tuple[Tensor, Tensor]:
    """Returns the landmarks (G, 5, 2) of all faces in the batch, in pixels, and their weights (G, 5).

    Raises:
        TrainingError: The annotations have no landmarks.
    """
    points, weights = [], []
    for gt in batch_gt_instances:
        if "keypoints" not in gt:
            raise TrainingError(
                "the head has landmarks, but the annotations have none: train on files with five landmarks per face, "
                "with LoadFaceAnnotations and PackFaceInputs in the pipeline, or set bbox_head.with_landmarks=False"
            )
        number = len(gt.bboxes)
        points.append(gt.keypoints.reshape(number, NUM_LANDMARKS, 2))
        visible = gt.keypoints_visible.reshape(number, -1) if number else gt.bboxes.new_zeros(0, 1)
        weights.append(visible.expand(number, NUM_LANDMARKS))
    return torch.cat(points).float(), torch.cat(weights).float()
