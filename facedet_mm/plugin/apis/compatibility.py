"""Checks that the parts of a config fit each other, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from facedet_mm.datasets.annotations import read_dataset
from facedet_mm.errors import ModelError, TrainingError
from facedet_mm.plugin.apis.overrides import walk_datasets
from facedet_mm.plugin.engine.fit import weights_of
from facedet_mm.plugin.engine.loading import read_for_runner


def check_neck(neck: Mapping[str, Any]) -> None:
    """Checks that a feature pyramid has as many outputs as inputs or more; MMDetection only asserts it.

    Args:
        neck: Config of the neck.

    Raises:
        ModelError: It has fewer outputs than inputs.
    """
    start, end = neck.get("start_level", 0), neck.get("end_level", -1)
    used = len(neck.get("in_channels", ())[start:]) if end == -1 else end - start + 1
    if neck.get("type") in ("FPN", "PAFPN") and neck.get("num_outs", used) < used:
        raise ModelError(
            f"neck.start_level={start} uses {used} stages of the backbone, but neck.num_outs={neck['num_outs']}: "
            f"set neck.num_outs={used}, with as many anchor_generator.strides and base_sizes, or change start_level"
        )


def check_parts(model: nn.Module) -> None:
    """Checks that backbone, neck and head of a detector fit each other; parts from elsewhere are not checked.

    Raises:
        ModelError: Channels, levels or strides differ; the message names the entry of the config and the right value.
    """
    model = getattr(model, "module", model)  # test-time augmentation wraps the detector
    backbone, neck, head = (getattr(model, part, None) for part in ("backbone", "neck", "bbox_head"))
    stage_channels = list(getattr(backbone, "out_channels", ()))
    in_channels = list(getattr(neck, "in_channels", ()))
    if stage_channels and in_channels and stage_channels != in_channels:
        raise ModelError(
            f"neck.in_channels={in_channels}, but the four stages of the backbone have {stage_channels} channels: "
            f"set neck.in_channels={stage_channels}, or change the widths of the backbone"
        )
    neck_width, head_width = getattr(neck, "out_channels", None), getattr(head, "in_channels", None)
    if neck_width and head_width and neck_width != head_width:
        raise ModelError(
            f"bbox_head.in_channels={head_width}, but the neck has {neck_width} output channels: "
            f"set bbox_head.in_channels={neck_width}"
        )
    strides = [min(stride) for stride in getattr(getattr(head, "prior_generator", None), "strides", ())]
    if strides and in_channels:
        _check_strides(backbone, neck, strides)


def _check_strides(backbone: Any, neck: Any, strides: Sequence[int]) -> None:
    levels = getattr(neck, "num_outs", len(strides))
    if levels != len(strides):
        raise ModelError(
            f"the head has anchors at {len(strides)} strides {list(strides)}, but neck.num_outs={levels}: "
            "anchor_generator.strides and base_sizes need one entry per level of the neck"
        )
    features = list(getattr(backbone, "out_strides", ()))[getattr(neck, "start_level", 0) :]
    while features and len(features) < levels:
        features.append(2 * features[-1])
    if features and features[:levels] != list(strides):
        raise ModelError(
            f"the neck has features at strides {features[:levels]}, but the head has anchors at {list(strides)}: "
            f"set bbox_head.anchor_generator.strides={features[:levels]}, or change neck.start_level"
        )


def missing_data(config: Config) -> list[str]:
    """Returns two lines if annotations or images of a config are not there: what is missing, and what to do."""
    for loader in ("train_dataloader", "val_dataloader"):
        for entry in walk_datasets((config.get(loader) or {}).get("dataset") or {}):
            root = entry.get("data_root") or ""
            stored = any(step.get("backend_args") for step in entry.get("pipeline") or ())
            names = [entry.get("ann_file"), None if stored else (entry.get("data_prefix") or {}).get("img")]
            for path in (os.path.join(root, name) for name in names if name):
                if not os.path.exists(path) and "://" not in path and not entry.get("backend_args"):
                    return [
                        f"{path} is missing: {loader}.dataset has data_root={root!r}; if the data is elsewhere, add "
                        "--cfg-options data_root=FOLDER",
                        f"WIDER FACE is unpacked and checked by: python tools/dataset/prepare_wider.py {root or '.'} "
                        "(docs/datasets.md)",
                    ]
    return []


def check_loaders(config: Config) -> None:
    """Checks batch sizes and numbers of workers; without workers, none can persist or prefetch.

    Raises:
        TrainingError: A number is not one that a data loader can have.
    """
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = config.get(name)
        if not loader:
            continue
        for key, smallest in (("batch_size", 1), ("num_workers", 0)):
            value = loader.get(key, smallest)
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise TrainingError(f"{name}.{key} must be a whole number of at least {smallest}, not {value!r}")
        if loader.get("num_workers", 0) == 0:
            loader.persistent_workers = False
            loader.pop("prefetch_factor", None)


def check_landmarks(config: Config) -> bool:
    """Checks that a model with landmarks is trained on annotations with landmarks; reads the annotation files.

    Where they have none, a run that starts from weights gets ``KeepLandmarksHook``; one that starts from nothing, or
    continues such a run, learns boxes only: the landmarks of the model are turned off.

    Returns:
        Whether they were turned off.

    Raises:
        ModelError: The landmarks have no loss.
        TrainingError: The pipeline does not load the landmarks.
        AnnotationError: An annotation file is missing or malformed.
    """
    head = config.model.get("bbox_head", {})
    if not head.get("with_landmarks", False):
        return False
    if not head.get("loss_landmarks"):
        raise ModelError(
            "bbox_head.with_landmarks=True, but bbox_head.loss_landmarks is not set, so landmarks would not be "
            "learned: add loss_landmarks=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=0.1)"
        )
    entries = walk_datasets(config.train_dataloader.dataset)
    datasets = [entry for entry in entries if entry.get("type") in ("FaceDataset", "WiderFaceDataset")]
    for dataset in datasets:
        for step in dataset.get("pipeline", ()):
            if step["type"] == "LoadFaceAnnotations" and not step.get("with_keypoints", True):
                raise TrainingError(
                    "bbox_head.with_landmarks=True, but the training pipeline has LoadFaceAnnotations with "
                    "with_keypoints=False, so no landmarks are loaded: set it to True"
                )
    files = [os.path.join(dataset.get("data_root") or "", dataset.get("ann_file", "")) for dataset in datasets]
    local = all(
        "://" not in path and not dataset.get("backend_args") for path, dataset in zip(files, datasets, strict=True)
    )
    hooks = list(config.get("custom_hooks") or [])
    if not files or not local or any(hook.get("type") == "KeepLandmarksHook" for hook in hooks):
        return False
    if any(map(_has_landmarks, files, datasets)):
        return False
    if config.get("load_from") and not _continues_without_landmarks(config):
        config.custom_hooks = [*hooks, dict(type="KeepLandmarksHook")]
        return False
    head.with_landmarks = False
    names = " and ".join(files)
    print_log(f"{names} has no landmarks: the model learns boxes only (bbox_head.with_landmarks=False)", "current")
    return True


def _continues_without_landmarks(config: Config) -> bool:
    """Returns whether a run is resumed whose landmarks were turned off."""
    name = str(config.load_from)
    if not config.get("resume") or "://" in name:
        return False
    return not any("landmark" in key for key in weights_of(read_for_runner(os.path.expanduser(name), "cpu")))


def _has_landmarks(path: str, dataset: Mapping[str, Any]) -> bool:
    data = read_dataset(path, dataset.get("category"), dataset.get("landmarks", True))
    weights = (image.landmark_weights for image in data.images)
    return any(weight is not None and weight.any() for weight in weights)
