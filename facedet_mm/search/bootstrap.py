"""Bootstrap estimates of the settings of the best architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A median and a confidence interval.

    Attributes:
        median: Median of the bootstrap distribution.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
    """

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
    """Returns the empirical bootstrap distribution of a statistic.

    Args:
        values: (N, …) observations.
        statistic: Function from (R, M, …) samples of M observations to (R,) values.
        fraction: M / N; samples are drawn with replacement.
        repeats: Number R of samples.
        seed: Seed of the random numbers.

    Returns:
        (R,) values of the statistic.
    """
    size = max(1, round(fraction * len(values)))
    picks = np.random.default_rng(seed).integers(0, len(values), (repeats, size))
    return statistic(values[picks])


def best_interval(
    settings: Floats, scores: Floats, fraction: float = 0.25, confidence: float = 0.95, **options: Any
) -> Estimate:
    """Estimates a setting of the best architecture.

    Each bootstrap sample draws a quarter of the pairs (setting, score) with replacement and keeps the setting with the
    best score (RegNet, arXiv 2003.13678, section 3; SCRFD, arXiv 2105.04714, section 4).

    Args:
        settings: (N,) values of one setting.
        scores: (N,) average precisions.
        fraction: Size of a sample as a fraction of N.
        confidence: Confidence level of the interval.
        **options: Further arguments of :func:`bootstrap`.
    """

    def best_setting(samples: Floats) -> Floats:
        best = samples[..., 1].argmax(axis=1)
        settings: Floats = samples[np.arange(len(samples)), best, 0]
        return settings

    values = bootstrap(np.stack([settings, scores], axis=1), best_setting, fraction, **options)
    # inverted_cdf: the ends of the interval are values that were observed
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf")
    return Estimate(float(np.median(values)), float(low), float(high))
