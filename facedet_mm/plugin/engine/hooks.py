"""The hook that stops training at an invalid loss."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from facedet_mm.errors import TrainingError


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
