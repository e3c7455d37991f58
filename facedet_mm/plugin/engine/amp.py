"""Mixed precision on CPUs, which MMEngine has for accelerators only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward passes run in bfloat16 on the CPU; its range needs no scaling of the loss."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Turns mixed precision on for the forward pass."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield
