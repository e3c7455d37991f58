"""SCRFD in mmdeploy 1.3.1: prediction inside an exported graph, and a backend model with landmarks.

A deploy config names this module in ``codebase_config.module``; mmdeploy imports it, which registers everything here.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdeploy.codebase.mmdet.deploy import get_post_processing_params, object_detection_model
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.mmcv.ops import multiclass_nms
from mmdeploy.utils import is_dynamic_shape
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from facedet_mm.plugin.models.coders import anchor_points, decode_faces, flatten_levels
from facedet_mm.plugin.models.head_steps import NUM_LANDMARKS
from facedet_mm.plugin.models.scrfd_head import SCRFDHead

REWRITTEN = "facedet_mm.plugin.models.scrfd_head.SCRFDHead.predict_by_feat"
"""mmdeploy replaces the function at this path; if the path does not exist, it only logs a warning."""
MODEL_TYPE = "face_end2end"


@FUNCTION_REWRITER.register_rewriter(REWRITTEN)
def scrfd_head__predict_by_feat(
    self: SCRFDHead,
    cls_scores: list[Tensor],
    bbox_preds: list[Tensor],
    landmark_preds: list[Tensor | None],
    batch_img_metas: list[dict],
    cfg: dict | None = None,
    rescale: bool = False,
    with_nms: bool = True,
) -> tuple[Tensor, ...]:
    """Replaces ``SCRFDHead.predict_by_feat``: one tensor for the whole batch, thresholds from the deploy config.

    Args:
        self: The head.
        cls_scores, bbox_preds, landmark_preds: Outputs of the head's ``forward``.
        batch_img_metas: ``img_shape`` of the first entry is the height and width to which boxes are clipped.
        cfg, rescale, with_nms: Not used, because a graph returns boxes after NMS in pixels of its input.

    Returns:
        ``dets`` (B, K, 5), x1 y1 x2 y2 score by descending score and padded with zeros, ``labels`` (B, K), and, if
        the model has landmarks, ``landmarks`` (B, K, 5, 2).
    """
    del cfg, rescale, with_nms
    deploy_cfg = FUNCTION_REWRITER.get_context().cfg
    sizes = [m.shape[-2:] for m in cls_scores]
    if not is_dynamic_shape(deploy_cfg):  # then the anchors become constants of the graph
        sizes = [tuple(int(side) for side in size) for size in sizes]
    anchors = self.prior_generator.grid_priors(sizes, dtype=cls_scores[0].dtype, device=cls_scores[0].device)
    points, strides = (values[None] for values in anchor_points(anchors, self.prior_generator.strides))
    scores = flatten_levels(cls_scores, self.cls_out_channels).sigmoid()
    boxes, landmarks = decode_faces(
        self.bbox_coder,
        points.expand(scores.shape[0], -1, 2),
        strides,
        flatten_levels(bbox_preds, 4),
        flatten_levels(landmark_preds, 2 * NUM_LANDMARKS) if self.with_landmarks else None,
        max_shape=batch_img_metas[0]["img_shape"],
    )
    sides = boxes[..., 2:] - boxes[..., :2]
    scores = scores * (torch.minimum(sides[..., :1], sides[..., 1:]) > 0)  # some lie completely outside
    settings = get_post_processing_params(deploy_cfg)
    dets, labels, kept = multiclass_nms(
        boxes,
        scores,
        settings.max_output_boxes_per_class,
        iou_threshold=settings.iou_threshold,
        score_threshold=settings.score_threshold,
        pre_top_k=settings.pre_top_k,
        keep_top_k=settings.keep_top_k,
        output_index=True,
    )
    return (dets, labels) if landmarks is None else (dets, labels, _landmarks_of(landmarks, kept, dets))


def _landmarks_of(points: Tensor, kept: Tensor, dets: Tensor) -> Tensor:
    """Returns the points (B, N, 10) of the boxes ``kept`` (B, K) as (B, K, 5, 2); zeros for padding in ``dets``."""
    # Padding has the index -1, which not every Gather takes. TensorRT 8 can't clamp integers, and does not support
    # the nodes to which unflatten is exported.
    index = (kept * (kept > 0)).unsqueeze(-1).repeat(1, 1, 2 * NUM_LANDMARKS)
    chosen = points.gather(1, index) * (dets[..., 4:] > 0)
    return chosen.reshape(chosen.shape[0], -1, NUM_LANDMARKS, 2)


@getattr(object_detection_model, "__BACKEND_MODEL").register_module(MODEL_TYPE)
class FaceEnd2EndModel(object_detection_model.End2EndModel):
    """Runs a backend's graph as an mmdet detector; mmdeploy's own model takes the third output for masks.

    Predictions are in pixels of the original image and have the fields of ``SCRFDHead.predict_by_feat``: ``bboxes``,
    ``scores``, ``labels`` and, if the graph has landmarks, ``keypoints`` (K, 5, 2).
    """

    def forward(
        self, inputs: Tensor, data_samples: list[DetDataSample], mode: str = "predict", **kwargs: Any
    ) -> list[DetDataSample]:
        """Returns the samples with ``pred_instances``; ``inputs`` (B, 3, H, W) are normalized and padded."""
        del mode, kwargs
        outputs = self.predict(inputs.contiguous())
        for i, sample in enumerate(data_samples):
            sample.pred_instances = _in_original(sample, *(output[i] for output in outputs))
        return data_samples


def _in_original(sample: DetDataSample, dets: Tensor, labels: Tensor, landmarks: Tensor | None = None) -> InstanceData:
    """Returns the faces of one image without padding, clipped to the image, in pixels of the original image."""
    height, width = sample.img_shape
    corners = dets[:, :4].clamp(dets.new_zeros(4), dets.new_tensor([width, height, width, height]))
    inside = (corners[:, 2:] > corners[:, :2]).all(1)  # some lie completely in the padding
    keep = inside & (dets[:, 4] > 0)
    scale = dets.new_tensor(sample.scale_factor)
    faces = InstanceData(bboxes=corners[keep] / scale.repeat(2), scores=dets[keep, 4], labels=labels[keep].long())
    if landmarks is not None:
        faces.keypoints = landmarks[keep] / scale
    return faces
