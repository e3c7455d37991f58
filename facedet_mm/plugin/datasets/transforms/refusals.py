"""Transforms that landmarks cannot follow, and what to take instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmcv import transforms as mmcv_transforms
from mmdet.datasets import transforms as mmdet_transforms
from mmdet.datasets.transforms.transformers_glip import GTBoxSubOne_GLIP
from mmdet.registry import TRANSFORMS

from facedet_mm.errors import TrainingError

REFUSED: dict[type, str] = {
    mmcv_transforms.CenterCrop: "RandomSquareCrop",
    mmcv_transforms.RandomFlip: "RandomFaceFlip",
    mmcv_transforms.Resize: "KeepRatioResize",
    mmdet_transforms.Albu: "FacePhotoMetricDistortion, RandomGaussianBlur, RandomJPEG or RandomFaceRotation",
    mmdet_transforms.CopyPaste: "Mosaic or MixUp",
    mmdet_transforms.InstaBoost: "RandomAffine",
    mmdet_transforms.RandomErasing: "RandomFaceErasing",
    GTBoxSubOne_GLIP: "no such step (boxes end at the right and lower edge of their last pixel)",
}
"""Classes that make new boxes from those of the faces, and their replacement."""


def check_transforms(steps: Any) -> None:
    """Checks that landmarks, if a pipeline loads them, survive it.

    Args:
        steps: Configs of the transforms, however nested.

    Raises:
        TrainingError: A transform would lose the landmarks; the message names it and the one to take.
    """
    steps = list(_walk(steps))
    loads = [step for step in steps if _class(step).__name__ == "LoadFaceAnnotations"]
    if not any(step.get("with_keypoints", True) for step in loads):
        return
    for step in steps:
        if remedy := REFUSED.get(_class(step)):
            raise TrainingError(
                f"{_class(step).__name__} in the training pipeline does not move landmarks: take {remedy}, or load no "
                "landmarks (LoadFaceAnnotations with with_keypoints=False)"
            )


def _walk(steps: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(steps, Mapping):
        if "type" in steps:
            yield steps
        steps = list(steps.values())
    if isinstance(steps, (list, tuple)):
        for step in steps:
            yield from _walk(step)


def _class(step: Mapping[str, Any]) -> type:
    named = step["type"]
    return named if isinstance(named, type) else TRANSFORMS.get(str(named)) or type(None)
