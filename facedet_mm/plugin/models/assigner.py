"""ATSS assignment that compares faces with nearby anchors only."""

from __future__ import annotations

import torch
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor


@TASK_UTILS.register_module()
class SparseATSSAssigner(BaseAssigner):
    """Adaptive training sample selection (ATSS, arXiv 1912.02424) with SCRFD's rule for centers.

    The candidates of a face are the ``topk`` anchors per level with the nearest centers. A candidate is positive if its
    IoU is at least the mean plus the standard deviation of the candidates' IoUs and its center lies inside the face by
    more than ``0.001 · √(w·h)``. An anchor that is positive for several faces goes to the one with the highest IoU.

    Unlike mmdet's ``ATSSAssigner``, the margin is relative (there it is 0.01 pixels), and IoU is computed for the
    candidates only, not for every anchor with every face. Ties in distance go to the lower anchor index, so the result
    is the same on every device.

    Args:
        topk: Number of candidates per level and face.
    """

    def __init__(self, topk: int = 9) -> None:
        self.topk = topk

    def assign(
        self,
        pred_instances: InstanceData,
        num_level_priors: list[int],
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
    ) -> AssignResult:
        """Assigns faces to anchors.

        Args:
            pred_instances: ``priors`` (N, 4), x1 y1 x2 y2 in pixels, level after level.
            num_level_priors: Number of anchors in each level; the sum is N.
            gt_instances: ``bboxes`` (G, 4) x1 y1 x2 y2 in pixels and ``labels`` (G,).
            gt_instances_ignore: Not used; ignored faces do not contribute to any loss.

        Returns:
            ``gt_inds`` (N,) int64, 0 for background and 1 + face index for positives; ``max_overlaps`` (N,)
            IoU with the assigned face, 0 elsewhere; ``labels`` (N,), −1 for background.
        """
        del gt_instances_ignore
        anchors, faces = pred_instances.priors[:, :4], gt_instances.bboxes
        num_anchors, num_faces = len(anchors), len(faces)
        gt_inds = anchors.new_zeros(num_anchors, dtype=torch.long)
        overlaps = anchors.new_zeros(num_anchors)
        labels = torch.full_like(gt_inds, -1)
        if num_faces and num_anchors:
            anchor, face, iou = self._positives(anchors, list(num_level_priors), faces)
            overlaps.scatter_reduce_(0, anchor, iou, "amax")
            best = iou == overlaps[anchor]
            first = torch.full_like(gt_inds, num_faces).scatter_reduce_(0, anchor[best], face[best], "amin")
            positive = first < num_faces
            gt_inds[positive] = first[positive] + 1
            labels[positive] = gt_instances.labels[first[positive]]
        return AssignResult(num_faces, gt_inds, overlaps, labels=labels)

    def _positives(self, anchors: Tensor, num_level_priors: list[int], faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (anchor index, face index, IoU) of all positive pairs, before conflicts are resolved."""
        centers = (anchors[:, :2] + anchors[:, 2:]) / 2
        candidates = self._nearest(centers, num_level_priors, (faces[:, :2] + faces[:, 2:]) / 2)
        iou = bbox_overlaps(anchors[candidates], faces[:, None].expand(-1, candidates.shape[1], -1), is_aligned=True)
        center = centers[candidates]
        inside = torch.cat([center - faces[:, None, :2], faces[:, None, 2:] - center], dim=-1).amin(-1)
        margin = 0.001 * (faces[:, 2:] - faces[:, :2]).clamp(min=0).prod(-1).sqrt()
        # a single candidate has no standard deviation; its own IoU is the threshold then
        spread = iou.std(1, keepdim=True).nan_to_num(0)
        accepted = (iou >= iou.mean(1, keepdim=True) + spread) & (inside > margin[:, None])
        face, column = accepted.nonzero(as_tuple=True)
        return candidates[face, column], face, iou[face, column]

    def _nearest(self, centers: Tensor, num_level_priors: list[int], targets: Tensor) -> Tensor:
        """Returns indices (G, Σ min(topk, level)) of the anchors nearest to each target center, level by level."""
        nearest, start = [], 0
        for count in num_level_priors:
            nearest.append(self._nearest_in_level(centers[start : start + count], targets) + start)
            start += count
        return torch.cat(nearest, dim=1)

    def _nearest_in_level(self, centers: Tensor, targets: Tensor) -> Tensor:
        """Finds the nearest anchors of one level by searching only the grid cells around each target."""
        per_cell = int((centers == centers[0]).all(1).sum())
        width = int((centers[:, 1] == centers[0, 1]).sum()) // per_cell
        grid = centers.view(-1, width, per_cell, 2)
        # the nearest n cells of a grid lie within n // 2 rows and columns of the nearest one; one more covers ties
        reach = -(-self.topk // per_cell) // 2 + 1
        columns = _window(grid[0, :, 0, 0], targets[:, 0], reach)
        rows = _window(grid[:, 0, 0, 1], targets[:, 1], reach)
        cells = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
        index = (cells[..., None] * per_cell + torch.arange(per_cell, device=cells.device)).flatten(1)
        distance = (targets[:, None] - centers[index]).square().sum(-1)
        order = distance.sort(dim=1, stable=True).indices[:, : self.topk]
        return index.gather(1, order)


def _window(positions: Tensor, targets: Tensor, reach: int) -> Tensor:
    """Returns indices of the 2 · ``reach`` + 1 evenly spaced positions around each target, at most all of them."""
    size = min(2 * reach + 1, len(positions))
    step = positions[1] - positions[0] if len(positions) > 1 else 1
    first = ((targets - positions[0]) / step).round().long() - reach
    return first.clamp(0, len(positions) - size)[:, None] + torch.arange(size, device=targets.device)
