"""Fine-tuning on faces without landmarks: a model keeps the landmarks that it has learned."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from facedet_mm.errors import TrainingError
from facedet_mm.plugin.engine.fit import weights_of

_STATE = "landmark_teacher"
_PREDICTORS = ("bbox_head.landmark_convs.", "bbox_head.multi_level_kps.")
"""Beginnings of the names of the layers that predict landmarks; YuNet's are its authors'."""


@HOOKS.register_module()
class KeepLandmarksHook(Hook):
    """Fills in landmarks by the model as it was loaded, so that training on boxes alone does not spoil them.

    The loaded model looks at each augmented image. A face with a detection on it takes the landmarks of that detection;
    other faces have none, and faces whose annotations have landmarks keep them. (Learning without forgetting, arXiv
    1606.09282.) Checkpoints hold the loaded model, so a resumed run has the same landmarks.

    Args:
        score_thr: Score from which a detection counts.
        iou_thr: Overlap with the annotated box from which a detection is on a face.

    Raises:
        TrainingError: The run does not start from weights with landmarks.
    """

    def __init__(self, score_thr: float = 0.1, iou_thr: float = 0.5) -> None:
        self.score_thr, self.iou_thr = score_thr, iou_thr
        self._loaded: set[str] = set()
        self._state: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes the model that a resumed run started from."""
        self._loaded = set(weights_of(checkpoint))
        self._state = checkpoint.get(_STATE) if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        """Copies the loaded model."""
        if not any(name.startswith(_PREDICTORS) for name in self._loaded):
            raise TrainingError(
                "KeepLandmarksHook keeps the landmarks that a model has learned, but the run does not start from "
                "weights with landmarks: set load_from, or bbox_head.with_landmarks=False"
            )
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._teacher = copy.deepcopy(model).eval().requires_grad_(False)
        if self._state:
            self._teacher.load_state_dict(self._state)
        print_log("Faces without landmarks learn those that the loaded model sees on them", logger="current")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Adds the loaded model."""
        checkpoint[_STATE] = {name: value.cpu() for name, value in self._teacher.state_dict().items()}

    @torch.no_grad()
    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:  # noqa: ARG002
        """Gives the faces of a batch their landmarks."""
        samples = data_batch["data_samples"]
        data = self._teacher.data_preprocessor(copy.deepcopy(data_batch), False)
        outputs = self._teacher(data["inputs"], mode="tensor")
        metas = [dict(img_shape=tuple(data["inputs"].shape[-2:])) for _ in samples]
        cfg = copy.deepcopy(self._teacher.bbox_head.test_cfg)
        cfg.score_thr = self.score_thr
        found = self._teacher.bbox_head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=cfg)
        for sample, seen in zip(samples, found, strict=True):
            faces = sample.gt_instances
            boxes = get_box_tensor(faces.bboxes)
            if not len(seen) or not len(boxes):
                continue
            overlap, nearest = bbox_overlaps(boxes, seen.bboxes.to(boxes)).max(1)
            missing = (overlap >= self.iou_thr) & (faces.keypoints_visible.sum(1) == 0)
            faces.keypoints[missing] = seen.keypoints.to(boxes)[nearest[missing]]
            faces.keypoints_visible[missing] = 1
