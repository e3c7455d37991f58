"""The head of YuNet: scores, objectness, boxes and landmarks of one point per cell; SimOTA and EIoU loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from facedet_mm.plugin.models.coders import flatten_levels
from facedet_mm.plugin.models.dense_face_head import DenseFaceHead, decode
from facedet_mm.plugin.models.head_steps import NUM_LANDMARKS, landmark_targets, positives
from facedet_mm.plugin.models.validation import check_one_class, validate_widths
from facedet_mm.plugin.models.yunet_backbone import XAVIER, DepthwiseUnit


@MODELS.register_module()
class YuNetHead(DenseFaceHead):
    """Anchor-free head of YuNet.

    Parameters are named as in the authors' code, so that their checkpoints load without conversion.

    Args:
        num_classes: Number of classes; only 1 (face) is allowed.
        in_channels: Channels of every input level.
        feat_channels: Channels of the shared units.
        shared_convs: Number of depthwise units in each level before the predictions.
        with_landmarks: Whether to predict five landmarks.
        strides: Stride of each level in pixels.
        loss_cls: Loss on the scores of positives, whose target is the IoU; summed.
        loss_obj: Loss on the objectness of all points; summed.
        loss_bbox: Loss on boxes in pixels; summed.
        loss_landmarks: Loss on landmark offsets in units of the stride.
        train_cfg: ``assigner``, SimOTA.
        test_cfg: See :meth:`~facedet_mm.plugin.models.dense_face_head.DenseFaceHead.predict_by_feat`.
        init_cfg: Weight initialization in mmengine's format.

    Raises:
        ModelError: More than one class, or a width that is not positive.

    The forward pass returns four lists with one entry per level: score logits (B, 1, H, W), objectness logits
    (B, 1, H, W), boxes (B, 4, H, W) and landmark offsets (B, 10, H, W) or ``None``. With the point (x, y)·stride of a
    cell, a box has its center at point + the first two values·stride, and exp(the last two)·stride as its size; a
    landmark is point + offset·stride.

    Source: YuNet (Wu, Peng, Yu: Machine Intelligence Research 20, 2023) and its published configs.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 64,
        feat_channels: int = 64,
        shared_convs: int = 1,
        with_landmarks: bool = True,
        strides: Sequence[int] = (8, 16, 32),
        *,
        loss_cls: dict,
        loss_obj: dict,
        loss_bbox: dict,
        loss_landmarks: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: Any = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or XAVIER)
        check_one_class("YuNetHead", num_classes)
        validate_widths("YuNetHead", {}, in_channels=in_channels, feat_channels=feat_channels)
        self.in_channels = in_channels
        self.with_landmarks = with_landmarks
        self.prior_generator = MlvlPointGenerator(list(strides), offset=0)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.loss_cls, self.loss_obj = MODELS.build(loss_cls), MODELS.build(loss_obj)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_landmarks = MODELS.build(loss_landmarks) if with_landmarks and loss_landmarks else None
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg["assigner"])

        widths = [in_channels] + [feat_channels] * shared_convs
        levels = range(len(strides))
        units = [[DepthwiseUnit(i, o) for i, o in pairwise(widths)] for _ in levels]
        self.multi_level_share_convs = nn.ModuleList(nn.Sequential(*level) for level in units)

        def predictor(values: int) -> nn.ModuleList:
            return nn.ModuleList(DepthwiseUnit(widths[-1], values, activated=False) for _ in levels)

        self.multi_level_cls = predictor(1)
        self.multi_level_obj = predictor(1)
        self.multi_level_bbox = predictor(4)
        self.multi_level_kps = predictor(2 * NUM_LANDMARKS) if with_landmarks else None

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Any]]:
        """Maps features (B, in_channels, H, W) of each level to logits, boxes and landmark offsets."""
        feats = [convs(x) for convs, x in zip(self.multi_level_share_convs, feats, strict=True)]

        def predict(convs: Any) -> list[Tensor]:
            return [conv(x) for conv, x in zip(convs, feats, strict=True)]

        scores, objectness = predict(self.multi_level_cls), predict(self.multi_level_obj)
        boxes = predict(self.multi_level_bbox)
        return scores, objectness, boxes, predict(self.multi_level_kps) if self.with_landmarks else [None] * len(boxes)

    def decode(
        self, scores: list[Tensor], objectness: list[Tensor], boxes: list[Tensor], landmarks: list[Any]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decodes the outputs of :meth:`forward`; the score is the root of the product of score and objectness."""
        # the root of the product of two sigmoids; those of ONNX Runtime have no small values, of which a root shows
        first, second = (1 + (-flatten_levels(maps, 1).float().squeeze(2)).exp() for maps in (scores, objectness))
        offsets = flatten_levels(landmarks, 2 * NUM_LANDMARKS).float() if self.with_landmarks else None
        decoded, points = decode(self._priors(scores), flatten_levels(boxes, 4).float(), offsets)
        return decoded, (first * second).rsqrt(), points

    def _priors(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns the points of all levels (N, 4): x, y and the stride of each axis, in pixels."""
        sizes = [level.shape[-2:] for level in maps]
        priors = self.prior_generator.grid_priors(sizes, torch.float32, maps[0].device, with_stride=True)
        return torch.cat(priors)

    def loss_by_feat(
        self,
        scores: list[Tensor],
        objectness: list[Tensor],
        boxes: list[Tensor],
        landmarks: list[Any],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Returns the losses of a batch.

        Args:
            scores, objectness, boxes, landmarks: Outputs of :meth:`forward`.
            batch_gt_instances: For each image ``bboxes`` (G, 4) x1 y1 x2 y2 in pixels and ``labels`` (G,); with
                landmarks also ``keypoints`` (G, 5, 2) in pixels and ``keypoints_visible``, weights (G,)
                or (G, 5) that are 0 where a face has none.
            batch_img_metas: Not used.
            batch_gt_instances_ignore: Not used; ignored faces do not contribute to any loss.

        Returns:
            Scalars ``loss_cls``, ``loss_obj``, ``loss_bbox`` and, with landmarks, ``loss_landmarks``.
        """
        del batch_img_metas, batch_gt_instances_ignore
        logits, presence = (flatten_levels(maps, 1).float().squeeze(2) for maps in (scores, objectness))
        priors = self._priors(scores)
        decoded, _ = decode(priors, flatten_levels(boxes, 4).float(), None)
        likely = (logits.detach().sigmoid() * presence.detach().sigmoid()).sqrt()
        assigned, quality = self._assign(priors, likely, decoded.detach(), batch_gt_instances)
        image, point, face = positives(assigned, batch_gt_instances)
        num_positives = reduce_mean(logits.new_tensor(float(len(image)))).clamp(min=1).item()

        target = torch.cat([gt.bboxes for gt in batch_gt_instances])[face].to(decoded)
        losses = dict(
            loss_cls=self.loss_cls(logits[image, point, None], quality[image, point, None]) / num_positives,
            loss_obj=self.loss_obj(presence.reshape(-1, 1), (assigned > 0).float().reshape(-1, 1)) / num_positives,
            loss_bbox=self.loss_bbox(decoded[image, point], target) / num_positives,
        )
        if self.loss_landmarks is not None:
            offsets = flatten_levels(landmarks, 2 * NUM_LANDMARKS).float()[image, point]
            points, weights = landmark_targets(batch_gt_instances)
            wanted = (points[face] - priors[point, None, :2]) / priors[point, None, 2:]
            weight = weights[face].mean(1, keepdim=True)
            total = reduce_mean(weight.sum()).clamp(min=torch.finfo(weight.dtype).eps).item()
            losses["loss_landmarks"] = self.loss_landmarks(
                offsets, wanted.flatten(1), weight=weight.expand_as(offsets), avg_factor=total
            )
        return losses

    def _assign(
        self, priors: Tensor, scores: Tensor, boxes: Tensor, batch_gt_instances: list[InstanceData]
    ) -> tuple[Tensor, Tensor]:
        """Returns (B, N) int64, 1 + face index in its image or 0, and (B, N) the IoU of positives with their face."""
        # SimOTA looks at the centers of the cells, although boxes are decoded from their corners
        centers = torch.cat([priors[:, :2] + priors[:, 2:] / 2, priors[:, 2:]], 1)
        results = []
        for score, box, gt in zip(scores, boxes, batch_gt_instances, strict=True):
            predicted = InstanceData(priors=centers, scores=score[:, None], bboxes=box)
            results.append(self.assigner.assign(predicted, InstanceData(bboxes=gt.bboxes.to(box), labels=gt.labels)))
        return torch.stack([r.gt_inds for r in results]), torch.stack([r.max_overlaps for r in results])
