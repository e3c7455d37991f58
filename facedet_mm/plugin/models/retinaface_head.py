"""The head of RetinaFace: two anchors per cell, SSD's coding of boxes, and a loss on the hardest negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from facedet_mm.plugin.models.coders import flatten_levels
from facedet_mm.plugin.models.dense_face_head import DenseFaceHead, decode
from facedet_mm.plugin.models.head_steps import NUM_LANDMARKS, landmark_targets, positives
from facedet_mm.plugin.models.validation import check_one_class, validate_anchors, validate_widths

VARIANCES = (0.1, 0.2)
"""Factors of centers and landmarks, and of the logarithms of sizes."""


@MODELS.register_module()
class RetinaFaceHead(DenseFaceHead):
    """Anchor head of RetinaFace, in the layout of its PyTorch implementation.

    Args:
        num_classes: Number of classes; only 1 (face) is allowed.
        in_channels: Channels of every input level.
        anchor_generator: Anchors; their centers have to be given, see ``configs/retinaface_mnet0.25.py``.
        with_landmarks: Whether to predict five landmarks.
        negatives: Number of negatives per positive that count in the loss, in each image the hardest ones.
        loss_cls: Loss on two classes, background and face, without reduction.
        loss_bbox: Loss on coded boxes; summed.
        loss_landmarks: Loss on coded landmarks; summed.
        train_cfg: ``assigner``.
        test_cfg: See :meth:`~facedet_mm.plugin.models.dense_face_head.DenseFaceHead.predict_by_feat`.
        init_cfg: Weight initialization in mmengine's format.

    Raises:
        ModelError: More than one class, a width that is not positive, or anchors that do not fit the strides.

    The forward pass returns three lists with one entry per level: class logits (B, 2·A, H, W), background and face of
    each anchor, boxes (B, 4·A, H, W) and landmarks (B, 10·A, H, W) or ``None``. With an anchor's center c and side s, a
    box has its center at c + 0.1·s·(the first two values) and the size s·exp(0.2·(the last two)); a landmark is
    c + 0.1·s·value.

    Source: RetinaFace (arXiv 1905.00641); SSD (arXiv 1512.02325), section 2.2.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 64,
        with_landmarks: bool = True,
        negatives: int = 7,
        *,
        anchor_generator: dict,
        loss_cls: dict,
        loss_bbox: dict,
        loss_landmarks: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: Any = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Normal", layer="Conv2d", std=0.01))
        check_one_class("RetinaFaceHead", num_classes)
        validate_widths("RetinaFaceHead", {}, in_channels=in_channels)
        validate_anchors("RetinaFaceHead", anchor_generator)
        self.in_channels, self.with_landmarks, self.negatives = in_channels, with_landmarks, negatives
        self.prior_generator = TASK_UTILS.build(anchor_generator)
        self.num_base_priors = self.prior_generator.num_base_priors[0]
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.loss_cls, self.loss_bbox = MODELS.build(loss_cls), MODELS.build(loss_bbox)
        self.loss_landmarks = MODELS.build(loss_landmarks) if with_landmarks and loss_landmarks else None
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg["assigner"])

        def predictor(values: int) -> nn.ModuleList:
            width = self.num_base_priors * values
            return nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in self.prior_generator.strides)

        self.cls_convs = predictor(2)
        self.reg_convs = predictor(4)
        self.landmark_convs = predictor(2 * NUM_LANDMARKS) if with_landmarks else None

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Any]]:
        """Maps features (B, in_channels, H, W) of each level to class logits, boxes and landmarks."""

        def predict(convs: Any) -> list[Tensor]:
            return [conv(x) for conv, x in zip(convs, feats, strict=True)]

        landmarks = predict(self.landmark_convs) if self.with_landmarks else [None] * len(feats)
        return predict(self.cls_convs), predict(self.reg_convs), landmarks

    def decode(
        self, logits: list[Tensor], boxes: list[Tensor], landmarks: list[Any]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decodes the outputs of :meth:`forward`; the score is the probability of a face."""
        priors = _centers_and_sides(self._anchors(logits))
        scores = flatten_levels(logits, 2).float().softmax(2)[..., 1]
        offsets = flatten_levels(landmarks, 2 * NUM_LANDMARKS).float() if self.with_landmarks else None
        decoded, points = decode(priors, flatten_levels(boxes, 4).float(), offsets, VARIANCES)
        return decoded, scores, points

    def _anchors(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns the anchors of all levels (N, 4), x1 y1 x2 y2 in pixels."""
        sizes = [level.shape[-2:] for level in maps]
        return torch.cat(self.prior_generator.grid_priors(sizes, torch.float32, maps[0].device))

    def loss_by_feat(
        self,
        logits: list[Tensor],
        boxes: list[Tensor],
        landmarks: list[Any],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Returns the losses of a batch: SSD's, arXiv 1512.02325, eq. 1, and smooth L1 on landmarks.

        Args:
            logits, boxes, landmarks: Outputs of :meth:`forward`.
            batch_gt_instances: For each image ``bboxes`` (G, 4) x1 y1 x2 y2 in pixels and ``labels`` (G,); with
                landmarks also ``keypoints`` (G, 5, 2) in pixels and ``keypoints_visible``, weights (G,)
                or (G, 5) that are 0 where a face has none.
            batch_img_metas: Not used.
            batch_gt_instances_ignore: Not used; ignored faces do not contribute to any loss.

        Returns:
            Scalars ``loss_cls``, ``loss_bbox`` and, with landmarks, ``loss_landmarks``.
        """
        del batch_img_metas, batch_gt_instances_ignore
        anchors = self._anchors(logits)
        priors = _centers_and_sides(anchors)
        assigned = torch.stack(
            [
                self.assigner.assign(
                    InstanceData(priors=anchors), InstanceData(bboxes=gt.bboxes, labels=gt.labels)
                ).gt_inds
                for gt in batch_gt_instances
            ]
        )
        image, anchor, face = positives(assigned, batch_gt_instances)
        center, side = priors[anchor, :2], priors[anchor, 2:]

        num_positives = reduce_mean(priors.new_tensor(float(len(image)))).clamp(min=1).item()
        target = torch.cat([gt.bboxes for gt in batch_gt_instances])[face].float()
        coded = torch.cat(
            [
                ((target[:, :2] + target[:, 2:]) / 2 - center) / side / VARIANCES[0],
                # a face without width or height would have no logarithm
                ((target[:, 2:] - target[:, :2]).clamp(min=1e-3) / side).log() / VARIANCES[1],
            ],
            1,
        )
        losses = dict(
            loss_cls=self._classification(flatten_levels(logits, 2).float(), assigned > 0) / num_positives,
            loss_bbox=self.loss_bbox(flatten_levels(boxes, 4).float()[image, anchor], coded) / num_positives,
        )
        if self.loss_landmarks is not None:
            points, weights = landmark_targets(batch_gt_instances)
            wanted = (points[face] - center[:, None]) / side[:, None] / VARIANCES[0]
            weight = weights[face].repeat_interleave(2, 1)
            offsets = flatten_levels(landmarks, 2 * NUM_LANDMARKS).float()[image, anchor]
            total = reduce_mean(weights[face].mean(1).sum()).clamp(min=1).item()
            losses["loss_landmarks"] = self.loss_landmarks(offsets, wanted.flatten(1), weight=weight) / total
        return losses

    def _classification(self, logits: Tensor, positive: Tensor) -> Tensor:
        """Returns the sum of the losses on positives (B, N) and, in each image, on the hardest negatives."""
        loss = self.loss_cls(logits.flatten(0, 1), positive.flatten().long()).view_as(positive)
        negative = loss.detach().masked_fill(positive, -1)
        rank = negative.argsort(1, descending=True).argsort(1)
        counted = rank < self.negatives * positive.sum(1, keepdim=True)
        return (loss * (positive | (counted & (negative >= 0)))).sum()


def _centers_and_sides(anchors: Tensor) -> Tensor:
    """Returns anchors (N, 4) x1 y1 x2 y2 as centers and sides (N, 4)."""
    return torch.cat([(anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]], 1)
