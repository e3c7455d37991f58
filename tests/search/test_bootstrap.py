"""The bootstrap against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from facedet_mm.search.bootstrap import best_interval, bootstrap


def test_the_bootstrap_of_the_mean_has_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, 200)
    means = bootstrap(values, lambda samples: samples.mean(axis=1), repeats=20_000)
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)
    assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.03)


def test_the_bootstrap_of_a_quarter_has_twice_that() -> None:
    values = np.random.default_rng(0).normal(size=200)
    means = bootstrap(values, lambda samples: samples.mean(axis=1), fraction=0.25, repeats=20_000)
    assert means.std() == pytest.approx(values.std() / np.sqrt(50), rel=0.03)


def test_the_bootstrap_of_the_best_follows_the_law_of_the_maximum() -> None:
    """P(rank of the best of m draws out of n ≤ k) = (k / n)^m."""
    n, m = 40, 10
    ranks = np.random.default_rng(1).permutation(n)
    estimate = best_interval(ranks.astype(float), ranks / n, repeats=200_000)
    law = (np.arange(1, n + 1) / n) ** m
    assert (estimate.low, estimate.median, estimate.high) == tuple(
        np.searchsorted(law, quantile) for quantile in (0.025, 0.5, 0.975)
    )


def test_it_finds_the_settings_of_the_best_and_not_those_of_the_many() -> None:
    rng = np.random.default_rng(2)
    share = rng.uniform(0, 1, 320)
    estimate = best_interval(share, -((share - 0.3) ** 2) + rng.normal(0, 0.002, 320))
    assert estimate.low < 0.3 < estimate.high
    assert estimate.high - estimate.low < 0.2
