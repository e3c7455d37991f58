"""A Runner whose console shows a short header; the log file has the whole config, the environment and the hooks."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner


@RUNNERS.register_module()
class QuietRunner(Runner):
    """``Runner`` that prints three lines where MMEngine prints some 480; all of them are in the log file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for handler in self._consoles:
            handler.removeFilter(_has_one_line)
        for line in self._header():
            self.logger.info(line)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Builds the logger; until the Runner is built, its console leaves out messages of several lines."""
        logger = super().build_logger(*args, **kwargs)
        self._consoles = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
        for handler in self._consoles:
            handler.addFilter(_has_one_line)
        return logger

    def _header(self) -> list[str]:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        lines = [
            f"{self.experiment_name}: {get_world_size()} × {device}, PyTorch {torch.__version__}, seed {self.seed}"
        ]
        loader, optimizer = self.cfg.get("train_dataloader"), (self.cfg.get("optim_wrapper") or {}).get("optimizer")
        if loader and optimizer:
            length = self.cfg.train_cfg.get("max_epochs"), self.cfg.train_cfg.get("max_iters")
            unit, number = ("epochs", length[0]) if length[0] else ("iterations", length[1])
            lines.append(
                f"Training: {number} {unit} of {loader.get('batch_size')} images per step and process, "
                f"{optimizer.get('type')} with lr={optimizer.get('lr')}"
            )
        return [*lines, f"Config, environment and hooks are in {self.log_dir}/{self.timestamp}.log"]


def _has_one_line(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or "\n" not in record.getMessage().strip()
