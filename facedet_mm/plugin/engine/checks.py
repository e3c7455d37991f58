"""Hooks that stop a run before its first step when its weights, landmarks or validation images are not there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint

from facedet_mm.errors import TrainingError
from facedet_mm.plugin.engine.fit import check_complete, check_resumable, check_start, weights_of
from facedet_mm.plugin.engine.landmarks import KeepLandmarksHook

_LOOKED_AT = 500
"""Largest number of samples in which landmarks are looked for; the first one that has some ends the search."""


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Stops a run whose checkpoint does not fit its model, which MMEngine only logs.

    Raises:
        ModelError: Training would start from random weights, or the checkpoint to resume from or to test is of another
            model or has no optimizer state.
    """

    priority = "VERY_HIGH"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Checks the weights before they are copied into the model."""
        name = str(runner._load_from or find_latest_checkpoint(runner.work_dir) or "checkpoint")
        model: Any = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        if "state_dict" not in checkpoint:  # MMEngine's EMAHook needs it
            weights = dict(checkpoint)
            checkpoint.clear()
            checkpoint["state_dict"] = weights
        if not isinstance(runner._train_loop, BaseLoop):
            check_complete(model, checkpoint, name)
        elif runner._resume:
            check_resumable(checkpoint, name, getattr(runner.optim_wrapper, "optimizer", None))
            check_complete(model, checkpoint, name)
        else:
            check_start(model, checkpoint, name)
        checkpoint["state_dict"] = weights_of(checkpoint)


@HOOKS.register_module()
class LandmarkArrivalHook(Hook):
    """Stops training when a model with landmarks gets none: not what a config says counts, but what arrives.

    Raises:
        TrainingError: No sample that was looked at has landmarks.
    """

    def before_train(self, runner: Runner) -> None:
        """Draws samples from the training set until one has landmarks."""
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not getattr(getattr(model, "bbox_head", None), "with_landmarks", False):
            return
        if any(isinstance(hook, KeepLandmarksHook) for hook in runner.hooks):
            return
        dataset = runner.train_dataloader.dataset
        indices = np.linspace(0, len(dataset) - 1, min(len(dataset), _LOOKED_AT)).astype(int).tolist()
        faces = 0
        with _unchanged_random_state():
            for index in indices:
                instances = getattr(dataset[index].get("data_samples"), "gt_instances", None)
                if instances is None or bool((instances.get("keypoints_visible", torch.zeros(1)) > 0).any()):
                    return
                faces += len(instances)
        if faces:
            raise TrainingError(
                f"bbox_head.with_landmarks=True, but none of the {faces} faces in {len(indices)} training images "
                f"arrives with landmarks: {_describe(dataset)} drops them, its annotations have none, or the pipeline "
                "lacks LoadFaceAnnotations or PackFaceInputs; use WiderFaceDataset with a file that has five landmarks "
                "per face (docs/datasets.md), add KeepLandmarksHook to custom_hooks if load_from has learned "
                "landmarks, or set bbox_head.with_landmarks=False"
            )


@HOOKS.register_module()
class ValidationImagesHook(Hook):
    """Stops a run at its start when its validation would fail, which is otherwise seen after several epochs.

    Raises:
        AnnotationError: Images of the ground truth are not in the dataset.
        TrainingError: No metric gives the value that decides which checkpoint is the best.
    """

    def before_train(self, runner: Runner) -> None:
        """Checks the validation set and the name of the value that decides which checkpoint is the best."""
        self._check(runner.val_loop)
        evaluator = getattr(runner.val_loop, "evaluator", None)
        prefixes = [metric.prefix for metric in getattr(evaluator, "metrics", ())]
        if type(evaluator) is not Evaluator or None in prefixes:  # the names may be any
            return
        for key in (key for hook in runner.hooks for key in getattr(hook, "key_indicators", None) or ()):
            if "/" in key and key.rpartition("/")[0] not in prefixes:
                raise TrainingError(
                    f"default_hooks.checkpoint.save_best is {key!r}, but the values of val_evaluator are "
                    f"{' and '.join(f'{prefix}/…' for prefix in prefixes)}: set it to one of those, or to None"
                )

    def before_val(self, runner: Runner) -> None:
        """Checks the validation set of a run without training."""
        if not isinstance(runner._train_loop, BaseLoop):
            self._check(runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Checks the test set."""
        self._check(runner.test_loop)

    def _check(self, loop: Any) -> None:
        metrics = [m for m in getattr(getattr(loop, "evaluator", None), "metrics", ()) if hasattr(m, "check_images")]
        if not metrics:
            return
        dataset = loop.dataloader.dataset
        if not hasattr(dataset, "get_data_info"):
            return
        paths = [dataset.get_data_info(index).get("img_path") for index in range(len(dataset))]
        for metric in metrics:
            metric.check_images([str(path) for path in paths if path is not None])
        if get_rank() == 0:
            print_log(f"The evaluation set has all {len(paths)} images that are evaluated", logger="current")


def _describe(dataset: Any) -> str:
    """Returns the class names of a dataset and those that it wraps."""
    parts = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    inner = sorted({_describe(part) for part in parts if part is not None})
    return f"{type(dataset).__name__} of {' and '.join(inner)}" if inner else type(dataset).__name__


@contextmanager
def _unchanged_random_state() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the transforms use the global generator
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
