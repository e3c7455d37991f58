"""Base of heads that decode all their outputs in one step."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmengine.structures import InstanceData
from torch import Tensor

from facedet_mm.plugin.models.head_steps import NUM_LANDMARKS, candidates
from facedet_mm.plugin.models.validation import require_finite


class DenseFaceHead(BaseDenseHead):
    """A head whose :meth:`decode` turns its outputs into boxes, scores and landmarks in pixels.

    Every step of ``decode`` can be traced, so exported graphs decode with the same code.

    Attributes:
        num_classes: Always 1, face.
        num_base_priors: Number of anchors per cell.
        with_landmarks: Whether the head predicts five landmarks.
    """

    num_base_priors = 1
    num_classes = cls_out_channels = 1
    with_landmarks: bool
    test_cfg: Any

    @abstractmethod
    def decode(self, *maps: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decodes the outputs of ``forward``.

        Returns:
            Boxes (B, N, 4) x1 y1 x2 y2 in pixels, unclipped, scores (B, N) from 0 to 1, and landmarks (B, N, 5, 2) in
            pixels, or ``None``.
        """

    def predict_by_feat(
        self,
        *maps: Any,
        batch_img_metas: list[dict],
        cfg: Any = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Returns the faces of each image.

        Args:
            *maps: Outputs of ``forward``.
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
        boxes, scores, landmarks = self.decode(*maps)
        require_finite(scores=scores, boxes=boxes, landmarks=landmarks)
        results = []
        for i, img_meta in enumerate(batch_img_metas):
            keep = candidates(scores[i], cfg)
            height, width = img_meta["img_shape"][:2]
            limits = boxes.new_tensor([width, height, width, height])
            faces = InstanceData(
                bboxes=torch.minimum(boxes[i, keep].clamp(min=0), limits),
                scores=scores[i, keep],
                labels=keep.new_zeros(len(keep)),
            )
            if landmarks is not None:
                scale = landmarks.new_tensor(img_meta["scale_factor"][:2]) if rescale else 1
                faces.keypoints = landmarks[i, keep] / scale
            results.append(self._bbox_post_process(faces, cfg, rescale, with_nms, img_meta))
        return results


def decode(
    priors: Tensor, values: Tensor, offsets: Tensor | None, variances: tuple[float, float] = (1, 1)
) -> tuple[Tensor, Tensor | None]:
    """Decodes boxes and landmarks relative to priors.

    Args:
        priors: Centers and sides (N, 4) in pixels.
        values: Boxes (B, N, 4): the center relative to that of the prior in units of its sides, and the logarithms of
            width and height in these units.
        offsets: Landmarks (B, N, 10), x y relative to the prior's center in units of its sides.
        variances: Factors of centers and landmarks, and of the logarithms.

    Returns:
        Boxes (B, N, 4) x1 y1 x2 y2 and landmarks (B, N, 5, 2), both in pixels; ``None`` where there are no offsets.
    """
    origin, sides = priors[:, :2], priors[:, 2:]
    center = values[..., :2] * variances[0] * sides + origin
    half = (values[..., 2:] * variances[1]).exp() * sides / 2
    boxes = torch.cat([center - half, center + half], -1)
    if offsets is None:
        return boxes, None
    points = offsets.unflatten(2, (NUM_LANDMARKS, 2)) * variances[0]
    return boxes, points * sides[:, None] + origin[:, None]
