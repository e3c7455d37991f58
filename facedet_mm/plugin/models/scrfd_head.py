"""The SCRFD head: one tower for scores, boxes and landmarks; quality focal, DIoU and SmoothL1 losses."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule, Scale
from mmdet.models.dense_heads import AnchorHead
from mmdet.models.losses import L1Loss, QualityFocalLoss, SmoothL1Loss
from mmdet.models.utils import multi_apply
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.coders import anchor_points, decode_faces, flatten_levels
from facedet_mm.plugin.models.head_steps import NUM_LANDMARKS, candidates, landmark_targets, positives
from facedet_mm.plugin.models.validation import check_one_class, require_finite, validate_anchors, validate_widths

_PER_SIDE_LOSSES = (L1Loss, SmoothL1Loss)


@MODELS.register_module()
class SCRFDHead(AnchorHead):
    """Anchor head of SCRFD (arXiv 2105.04714, GFL without the distribution).

    Args:
        num_classes: Number of classes; only 1 (face) is allowed.
        in_channels: Channels of every input level.
        feat_channels: Channels of the tower.
        stacked_convs: Number of convolutions in the tower.
        depthwise: Whether the tower's convolutions are depthwise-separable.
        with_landmarks: Whether to predict five landmarks.
        share_levels: Whether all strides share one tower and one set of prediction convolutions.
        use_scale: Whether a learnable scalar per level multiplies the box branch.
        norm_cfg: Norm in the tower.
        loss_landmarks: Loss on landmark offsets in units of the stride.
        bbox_coder: Decodes boxes from anchor points and distances to the four sides.
        init_cfg: Weight initialization in mmengine's format. By default normal with σ = 0.01, and scores of 1 %.
        loss_cls: In ``kwargs``: quality focal loss, or a loss on labels such as focal loss.
        loss_bbox: In ``kwargs``: an IoU loss, or a loss per side (L1, SmoothL1), on boxes in units of the stride.
        **kwargs: Arguments of ``AnchorHead``.

    Raises:
        ModelError: An unknown argument, more than one class, no convolution in the tower, a width that the groups of
            the norm do not divide, or anchors that do not fit the strides.

    The forward pass returns three lists with one entry per level: score logits (B, A, H, W), box distances
    (B, 4·A, H, W) left, top, right, bottom, and landmark offsets (B, 10·A, H, W) x, y from the anchor center,
    or ``None``; distances and offsets in units of the stride.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 64,
        feat_channels: int = 64,
        stacked_convs: int = 2,
        depthwise: bool = False,
        with_landmarks: bool = False,
        share_levels: bool = True,
        use_scale: bool = True,
        norm_cfg: dict | None = None,
        loss_landmarks: dict | None = None,
        bbox_coder: dict | None = None,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.stacked_convs = stacked_convs
        self.depthwise = depthwise
        self.with_landmarks = with_landmarks
        self.share_levels = share_levels
        self.use_scale = use_scale
        self.norm_cfg = norm_cfg or dict(type="GN", num_groups=16)
        self._check(num_classes, in_channels, feat_channels, kwargs)
        super().__init__(
            num_classes,
            in_channels,
            feat_channels,
            bbox_coder=bbox_coder or dict(type="DistancePointBBoxCoder"),
            init_cfg=init_cfg
            or dict(
                type="Normal",
                layer="Conv2d",
                std=0.01,
                override=dict(type="Normal", name="cls_convs", std=0.01, bias_prob=0.01),
            ),
            **kwargs,
        )
        self.loss_landmarks = MODELS.build(loss_landmarks) if with_landmarks and loss_landmarks else None

    def _check(self, num_classes: int, in_channels: int, feat_channels: int, kwargs: dict) -> None:
        known = {*signature(type(self)).parameters, *signature(AnchorHead).parameters} - {"kwargs"}
        if unknown := sorted(kwargs.keys() - known):
            raise ModelError(f"SCRFDHead takes no {', '.join(unknown)}; its arguments are {', '.join(sorted(known))}")
        check_one_class("SCRFDHead", num_classes)
        if self.stacked_convs < 1:
            raise ModelError(f"SCRFDHead: stacked_convs must be at least 1, not {self.stacked_convs!r}")
        # the norm of a depthwise convolution has the width of its input
        widths = dict(in_channels=in_channels) if self.depthwise else {}
        validate_widths("SCRFDHead", self.norm_cfg, **widths, feat_channels=feat_channels)
        anchors = kwargs.get("anchor_generator") or {}
        if anchors.get("type") == "AnchorGenerator":
            validate_anchors("SCRFDHead", anchors)

    def _init_layers(self) -> None:
        num_levels, num_anchors = len(self.prior_generator.strides), self.num_base_priors
        copies = 1 if self.share_levels else num_levels

        def predictor(channels: int) -> nn.ModuleList:
            convs = (nn.Conv2d(self.feat_channels, num_anchors * channels, 3, padding=1) for _ in range(copies))
            return nn.ModuleList(convs)

        self.towers = nn.ModuleList(self._tower() for _ in range(copies))
        self.cls_convs = predictor(self.cls_out_channels)
        self.reg_convs = predictor(4)
        self.landmark_convs = predictor(2 * NUM_LANDMARKS) if self.with_landmarks else None
        self.scales = nn.ModuleList(Scale(1.0) if self.use_scale else nn.Identity() for _ in range(num_levels))

    def _tower(self) -> nn.Sequential:
        conv = DepthwiseSeparableConvModule if self.depthwise else ConvModule
        channels = [self.in_channels] + [self.feat_channels] * self.stacked_convs
        layers = (conv(i, o, 3, padding=1, norm_cfg=self.norm_cfg) for i, o in pairwise(channels))
        return nn.Sequential(*layers)

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """Maps features (B, in_channels, H, W) of each level to score logits, box distances and landmark offsets."""
        return multi_apply(self.forward_single, feats, range(len(feats)))

    def forward_single(self, x: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Runs :meth:`forward` on one level."""
        copy = 0 if self.share_levels else level
        x = self.towers[copy](x)
        return (
            self.cls_convs[copy](x),
            self.scales[level](self.reg_convs[copy](x)),
            self.landmark_convs[copy](x) if self.landmark_convs is not None else None,
        )

    def _priors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Returns the anchors (N, 4) of each level, x1 y1 x2 y2 in pixels."""
        return self.prior_generator.grid_priors([m.shape[-2:] for m in maps], device=maps[0].device)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        landmark_preds: list[Tensor | None],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Returns the losses of a batch (SCRFD's published config; GFL, arXiv 2006.04388, eq. 7 and 9 without the DFL).

        Args:
            cls_scores, bbox_preds, landmark_preds: Outputs of :meth:`forward`.
            batch_gt_instances: For each image ``bboxes`` (G, 4) x1 y1 x2 y2 in pixels and ``labels`` (G,); with
                landmarks also ``keypoints`` (G, 5, 2) in pixels and ``keypoints_visible``, weights (G,)
                or (G, 5) that are 0 where a face has none.
            batch_img_metas: Not used.
            batch_gt_instances_ignore: Not used; ignored faces do not contribute to any loss.

        Returns:
            Scalars ``loss_cls``, ``loss_bbox`` and, with landmarks, ``loss_landmarks``.
        """
        del batch_img_metas, batch_gt_instances_ignore
        logits = flatten_levels(cls_scores, self.cls_out_channels).float()
        anchors = self._priors(cls_scores)
        centers, strides = anchor_points(anchors, self.prior_generator.strides)
        assigned = self._assign(anchors, batch_gt_instances)
        image, anchor, face = positives(assigned, batch_gt_instances)

        center, stride = centers[anchor] / strides[anchor], strides[anchor]
        target = torch.cat([gt.bboxes for gt in batch_gt_instances])[face] / stride
        boxes = self.bbox_coder.decode(center, flatten_levels(bbox_preds, 4)[image, anchor].float())
        quality = bbox_overlaps(boxes.detach(), target, is_aligned=True)
        weight = logits.detach()[image, anchor].sigmoid().amax(1)

        totals = reduce_mean(torch.stack([weight.new_tensor(float(len(weight))), weight.sum()]))
        num_positives = totals[0].clamp(min=1).item()
        weight_total = totals[1].clamp(min=torch.finfo(weight.dtype).eps).item()

        labels = torch.full_like(assigned, self.num_classes)
        labels[image, anchor] = 0
        classes: Tensor | tuple[Tensor, Tensor] = labels.flatten()
        if isinstance(self.loss_cls, QualityFocalLoss):
            scores = logits.new_zeros(assigned.shape)
            scores[image, anchor] = quality
            classes = (labels.flatten(), scores.flatten())
        box_weight = weight[:, None].expand(-1, 4) if isinstance(self.loss_bbox, _PER_SIDE_LOSSES) else weight
        losses = dict(
            loss_cls=self.loss_cls(
                logits.flatten(0, 1), classes, weight=(assigned >= 0).flatten().float(), avg_factor=num_positives
            ),
            loss_bbox=self.loss_bbox(boxes, target, weight=box_weight, avg_factor=weight_total),
        )
        if self.loss_landmarks is not None:
            offsets = flatten_levels(landmark_preds, 2 * NUM_LANDMARKS)[image, anchor].float()
            points, visible = landmark_targets(batch_gt_instances)
            targets = (points[face] / stride[..., None] - center[:, None]).flatten(1)
            losses["loss_landmarks"] = self.loss_landmarks(
                offsets,
                targets,
                weight=weight[:, None] * visible[face].repeat_interleave(2, 1),
                avg_factor=weight_total,
            )
        return losses

    def _assign(self, anchors: list[Tensor], batch_gt_instances: list[InstanceData]) -> Tensor:
        """Returns (B, N) int64: 1 + face index in its image for positives, 0 for background, −1 for ignored anchors."""
        # mmdet's IoU assigners take no levels
        by_level = "num_level_priors" in signature(self.assigner.assign).parameters
        levels = dict(num_level_priors=[len(level) for level in anchors]) if by_level else {}
        priors = InstanceData(priors=torch.cat(anchors))
        assigned = [self.assigner.assign(priors, gt_instances=gt, **levels).gt_inds for gt in batch_gt_instances]
        return torch.stack(assigned)

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        landmark_preds: list[Tensor | None],
        batch_img_metas: list[dict],
        cfg: dict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Returns the faces of each image.

        Args:
            cls_scores, bbox_preds, landmark_preds: Outputs of :meth:`forward`.
            batch_img_metas: ``img_shape`` (boxes are clipped to it) and, for ``rescale``, ``scale_factor``.
            cfg: Replaces ``test_cfg``: ``score_thr``, ``nms_pre`` (−1 for all), ``nms``, ``max_per_img``.
            rescale: Whether to return boxes and landmarks in pixels of the original image.
            with_nms: Whether to suppress overlapping boxes.

        Returns:
            For each image ``bboxes`` (K, 4) x1 y1 x2 y2, ``scores`` (K,), ``labels`` (K,) zeros and, with
            landmarks, ``keypoints`` (K, 5, 2); float32.

        Raises:
            ModelError: An output is NaN or infinite.
        """
        cfg = self.test_cfg if cfg is None else cfg
        scores = flatten_levels(cls_scores, self.cls_out_channels).float().squeeze(2).sigmoid()
        distances = flatten_levels(bbox_preds, 4).float()
        offsets = flatten_levels(landmark_preds, 2 * NUM_LANDMARKS).float() if self.with_landmarks else None
        require_finite(scores=scores, distances=distances, landmarks=offsets)
        points, strides = anchor_points(self._priors(cls_scores), self.prior_generator.strides)
        results = []
        for i, img_meta in enumerate(batch_img_metas):
            keep = candidates(scores[i], cfg)
            boxes, landmarks = decode_faces(
                self.bbox_coder,
                points[keep],
                strides[keep],
                distances[i, keep],
                None if offsets is None else offsets[i, keep],
                max_shape=img_meta["img_shape"],
            )
            faces = InstanceData(bboxes=boxes, scores=scores[i, keep], labels=keep.new_zeros(len(keep)))
            if landmarks is not None:
                keypoints = landmarks.unflatten(1, (NUM_LANDMARKS, 2))
                scale = keypoints.new_tensor(img_meta["scale_factor"][:2]) if rescale else 1
                faces.keypoints = keypoints / scale
            results.append(self._bbox_post_process(faces, cfg, rescale, with_nms, img_meta))
        return results
