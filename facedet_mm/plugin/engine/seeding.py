"""Random numbers of the augmentation: new for every sample of a run, and the same when the run is resumed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


class Draw(int):
    """Index of a sample that also carries the seed of its augmentation to the process that loads it."""

    words: tuple[int, ...]

    def __new__(cls, index: int, words: tuple[int, ...] = ()) -> Draw:
        """Returns ``index`` with the words of its seed."""
        draw = super().__new__(cls, index)
        draw.words = words
        return draw


class NumberedSampler:
    """A sampler whose indices carry seed, epoch and position, counted over all processes and all passes of an epoch.

    Args:
        sampler: Sampler to number; everything else is left to it.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self._words: tuple[int, ...] = ()
        self._position = 0

    def start_epoch(self, *words: int) -> None:
        """Starts counting anew; ``words`` tell this epoch from all others."""
        self._words, self._position = words, 0

    def __iter__(self) -> Iterator[Draw]:
        rank, processes = get_dist_info()
        for index in self.sampler:
            position, self._position = self._position, self._position + 1
            yield Draw(index, (*self._words, position * processes + rank))

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "sampler":
            raise AttributeError(name)
        value = getattr(self.sampler, name)
        return partial(self._skip, value) if name == "skip" else value

    def _skip(self, skip: Callable[[int], None], number: int) -> None:
        """Skips the samples that were used before a run was resumed; MMEngine looks whether a sampler can."""
        skip(number)
        self._position = number


class SeededDataset:
    """A dataset that seeds the random numbers before it loads a :class:`Draw`, whatever datasets it wraps or joins.

    Attributes that are read or set are those of the dataset, so hooks that change its pipeline still do.

    Args:
        dataset: Outermost dataset of a loader.
    """

    def __init__(self, dataset: Any) -> None:
        object.__setattr__(self, "wrapped", dataset)

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, Draw):
            return self.wrapped[index]
        words = np.random.SeedSequence(index.words).generate_state(4)
        np.random.seed(words)  # noqa: NPY002 - MMDetection's transforms use the global generator
        random.seed(words.tobytes())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(words[0]))
            return self.wrapped[int(index)]

    def __len__(self) -> int:
        return len(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "wrapped":
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Seeds the augmentation of each training sample with the seed of the run, the epoch and the sample's position.

    The position is that in the order of the epoch, or of the run if the loop counts iterations. The order depends on
    seed and epoch, so the augmentation does not depend on the number of workers or processes, nor on whether the run
    was interrupted and resumed, and no two samples of a run share it, with any dataset, wrapper or sampler.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Numbers the samples of the epoch that begins."""
        loader = runner.train_dataloader
        if not isinstance(loader.dataset, SeededDataset):
            _wrap(loader)
        # a loop that does not go through the samples before a resumption would otherwise repeat their numbers
        skipped = runner.iter if getattr(runner.train_loop, "fast_forward_on_resume", False) else 0
        loader.batch_sampler.sampler.start_epoch(runner.seed, runner.epoch, skipped)


def _wrap(loader: Any) -> None:
    numbered = NumberedSampler(loader.batch_sampler.sampler)
    loader.batch_sampler.sampler = numbered
    # a DataLoader refuses assignments to these, because its workers would not see them; none has started yet
    object.__setattr__(loader, "dataset", SeededDataset(loader.dataset))
    if loader.sampler is numbered.sampler:
        object.__setattr__(loader, "sampler", numbered)
