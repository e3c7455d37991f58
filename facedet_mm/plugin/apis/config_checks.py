"""Parts of a config that do not fit each other, told before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from torch import nn

from facedet_mm.datasets.annotations import read_annotations
from facedet_mm.errors import ModelError, TrainingError


def check_neck(neck: Mapping[str, Any]) -> None:
    """Whether a feature pyramid gives at least as many levels as it takes, which MMDetection only asserts.

    Args:
        neck: its part of a config.

    Raises:
        ModelError: it gives fewer.
    """
    start, end = neck.get("start_level", 0), neck.get("end_level", -1)
    used = len(neck.get("in_channels", ())[start:]) if end == -1 else end - start + 1
    if neck.get("type") in ("FPN", "PAFPN") and neck.get("num_outs", used) < used:
        raise ModelError(
            f"neck.start_level={start} takes {used} stages of the backbone, and neck.num_outs={neck['num_outs']}: "
            f"set neck.num_outs={used}, with as many anchor_generator.strides and base_sizes, or change start_level"
        )


def check_parts(model: nn.Module) -> None:
    """Whether backbone, neck and head of a detector fit each other; foreign parts are taken as they are.

    Raises:
        ModelError: channels, levels or strides differ; names the entry of the config and its right value.
    """
    model = getattr(model, "module", model)  # wrapped for several views
    backbone, neck, head = (getattr(model, part, None) for part in ("backbone", "neck", "bbox_head"))
    gives = list(getattr(backbone, "out_channels", ()))
    takes = list(getattr(neck, "in_channels", ()))
    if gives and takes and gives != takes:
        raise ModelError(
            f"neck.in_channels={takes}, and the four stages of the backbone give {gives}: "
            f"set neck.in_channels={gives}, or change the widths of the backbone"
        )
    width, wanted = getattr(neck, "out_channels", None), getattr(head, "in_channels", None)
    if width and wanted and width != wanted:
        raise ModelError(
            f"bbox_head.in_channels={wanted}, and the neck gives {width}: set bbox_head.in_channels={width}"
        )
    strides = [min(stride) for stride in getattr(getattr(head, "prior_generator", None), "strides", ())]
    if strides and takes:
        _check_strides(backbone, neck, strides)


def _check_strides(backbone: Any, neck: Any, strides: Sequence[int]) -> None:
    levels = getattr(neck, "num_outs", len(strides))
    if levels != len(strides):
        raise ModelError(
            f"the head has anchors at {len(strides)} strides {list(strides)}, and neck.num_outs={levels}: "
            "give anchor_generator.strides and base_sizes an entry a level of the neck"
        )
    features = list(getattr(backbone, "out_strides", ()))[getattr(neck, "start_level", 0) :]
    while features and len(features) < levels:
        features.append(2 * features[-1])
    if features and features[:levels] != list(strides):
        raise ModelError(
            f"the neck gives features at strides {features[:levels]}, and the head's anchors are at {list(strides)}: "
            f"set bbox_head.anchor_generator.strides={features[:levels]}, or change neck.start_level"
        )


def check_landmarks(config: Config) -> None:
    """Whether a model with landmarks is trained on annotations that have some; reads them.

    Raises:
        ModelError: the landmarks have no loss.
        TrainingError: the annotations have no landmarks, or the pipeline does not load them.
        AnnotationError: an annotation file is missing or malformed.
    """
    head = config.model.get("bbox_head", {})
    if head.get("type") != "SCRFDHead" or not head.get("with_landmarks", False):
        return
    if not head.get("loss_landmarks"):
        raise ModelError(
            "bbox_head.with_landmarks=True, and bbox_head.loss_landmarks is not set, so landmarks would not be learnt: "
            "add loss_landmarks=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=0.1)"
        )
    datasets = list(_face_datasets(config.train_dataloader.dataset))
    for dataset in datasets:
        for step in dataset.get("pipeline", ()):
            if step["type"] == "LoadFaceAnnotations" and not step.get("with_keypoints", True):
                raise TrainingError(
                    "bbox_head.with_landmarks=True, and the training pipeline has LoadFaceAnnotations with "
                    "with_keypoints=False, so no landmark is loaded: set it to True"
                )
    files = [os.path.join(dataset.get("data_root") or "", dataset.ann_file) for dataset in datasets]
    if files and not any(map(_has_landmarks, files)):
        raise TrainingError(
            f"bbox_head.with_landmarks=True, and {' and '.join(files)} has no landmarks: set "
            "train_dataloader.dataset.ann_file to a file with five landmarks a face (retinaface_gt/train/label.txt; "
            "docs/datasets.md says where it comes from), or bbox_head.with_landmarks=False"
        )


def _face_datasets(dataset: Any) -> Iterator[Any]:
    """The ``WiderFaceDataset`` of a config, out of what wraps or joins them."""
    if dataset.get("type") == "WiderFaceDataset":
        yield dataset
    for inner in [dataset.get("dataset"), *dataset.get("datasets", ())]:
        if inner:
            yield from _face_datasets(inner)


def _has_landmarks(path: str) -> bool:
    weights = (annotation.landmark_weights for annotation in read_annotations(path))
    return any(weight is not None and weight.any() for weight in weights)
