"""Hooks that make training repeatable and stop it when it goes wrong."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from facedet_mm.errors import TrainingError


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Tells the training dataset seed and epoch, from which it seeds the augmentation of each image.

    So what an image becomes depends on seed, epoch and image alone: not on the number of workers, and not on
    whether the run was stopped and resumed.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Hands seed and epoch down to the dataset, through wrappers."""
        dataset: Any = runner.train_dataloader.dataset
        while not hasattr(dataset, "set_epoch") and hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(runner.epoch, runner.seed)


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stops the run at the first loss that is not finite, and names the images of the batch.

    Raises:
        TrainingError: a loss is NaN or infinite.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Checks every loss of the iteration."""
        del batch_idx
        bad = [
            f"{name} = {value.item()}"
            for name, value in (outputs or {}).items()
            if isinstance(value, torch.Tensor) and not torch.isfinite(value).all()
        ]
        if bad:
            images = [sample.get("img_path", "?") for sample in (data_batch or {}).get("data_samples", [])]
            raise TrainingError(
                f"{', '.join(bad)} at epoch {runner.epoch + 1}, iteration {runner.iter + 1}; the batch: "
                f"{', '.join(map(str, images))}. Look at these annotations, lower the learning rate "
                "(--cfg-options optim_wrapper.optimizer.lr=...), or train without --amp"
            )
