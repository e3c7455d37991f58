"""Where the best architectures lie, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A median and a confidence interval."""

    median: float
    low: float
    high: float


def bootstrap(
    values: Floats,
    statistic: Callable[[Floats], Floats],
    fraction: float = 1.0,
    repeats: int = 10_000,
    seed: int = 0,
) -> Floats:
    """The empirical bootstrap distribution of a statistic.

    Args:
        values: (N, …) observations.
        statistic: (R, M, …) samples of M observations → (R,) values.
        fraction: M / N; samples are drawn with replacement.
        repeats: R.
        seed: of the random numbers.

    Returns:
        (R,) values of the statistic.
    """
    size = max(1, round(fraction * len(values)))
    picks = np.random.default_rng(seed).integers(0, len(values), (repeats, size))
    return statistic(values[picks])


def best_interval(
    settings: Floats, scores: Floats, fraction: float = 0.25, confidence: float = 0.95, **options: Any
) -> Estimate:
    """Where a setting of the best architecture lies.

    A quarter of the pairs (setting, score) is drawn with replacement again and again; each time the setting with
    the best score is kept (RegNet, arXiv 2003.13678, section 3; SCRFD, arXiv 2105.04714, section 4).

    Args:
        settings: (N,) values of one setting.
        scores: (N,) average precisions.
        fraction: of the pairs that a sample holds.
        confidence: of the interval.
        **options: of :func:`bootstrap`.
    """

    def of_the_best(samples: Floats) -> Floats:
        best = samples[..., 1].argmax(axis=1)
        return samples[np.arange(len(samples)), best, 0]

    values = bootstrap(np.stack([settings, scores], axis=1), of_the_best, fraction, **options)
    # an interval ends at values that were observed
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf")
    return Estimate(float(np.median(values)), float(low), float(high))
