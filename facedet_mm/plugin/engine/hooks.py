"""Hooks that make training reproducible and stop it at an invalid loss."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from facedet_mm.errors import TrainingError


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Passes seed and epoch to the training dataset, which seeds the augmentation of each image with them.

    The augmentation of an image then depends only on the seed, the epoch and the image: not on the number of workers,
    nor on whether the run was interrupted and resumed.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Passes seed and epoch to the dataset inside any wrappers."""
        dataset: Any = runner.train_dataloader.dataset
        while not hasattr(dataset, "set_epoch") and hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(runner.epoch, runner.seed)


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stops the run at the first loss that is not finite and names the images of the batch.

    Raises:
        TrainingError: A loss is NaN or infinite.
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
                f"{', '.join(bad)} at epoch {runner.epoch + 1}, iteration {runner.iter + 1}; images in the batch: "
                f"{', '.join(map(str, images))}. Check their annotations, lower the learning rate "
                "(--cfg-options optim_wrapper.optimizer.lr=...), or train without --amp"
            )
