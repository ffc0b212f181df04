"""Correlations against scipy, intervals against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hf_ess.lab.paper.statistics import (
    bootstrap_interval,
    correlation,
    difference_interval,
    rank_correlation,
    with_interval,
)


@pytest.mark.parametrize("seed", range(5))
def test_correlations(seed):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(2, 30))
    ties = generator.integers(4, size=(2, 30))
    assert correlation(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-11)
    assert rank_correlation(*ties) == pytest.approx(stats.spearmanr(*ties).statistic, abs=1e-11)


def test_no_correlation_of_what_does_not_change():
    assert np.isnan(correlation([1, 1, 1], [1, 2, 3]))
    assert np.isnan(rank_correlation([1, 2, 3], [4, 4, 4]))
    assert np.isnan(correlation([1], [2]))
    assert np.isnan(bootstrap_interval(correlation, [1, 1], [1, 2])).all()


def test_too_few_rows_have_no_interval():
    # Half of the draws of two rows are one row twice; the other half always correlates by 1.
    assert np.isnan(bootstrap_interval(correlation, [1, 2], [1, 3])).all()
    assert np.isnan(bootstrap_interval(np.mean, [0.7])).all()
    assert np.isnan(bootstrap_interval(np.mean, [])).all()
    assert bootstrap_interval(np.mean, [0.2, 0.7]) == (0.2, 0.7)


def test_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(lambda x: float(np.mean(x)), values, draws=4000)
    error = values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_rows_stay_together_and_seeds_decide():
    x = np.arange(10.0)
    low, high = bootstrap_interval(correlation, x, 2 * x + 1)
    assert low == pytest.approx(1, abs=1e-12)
    assert high == pytest.approx(1, abs=1e-12)
    noise = np.random.default_rng(1).normal(size=10)
    assert bootstrap_interval(correlation, x, noise) == bootstrap_interval(correlation, x, noise)
    assert bootstrap_interval(correlation, x, noise, seed=1) != bootstrap_interval(
        correlation, x, noise
    )


def test_cells():
    assert with_interval(0.123, (-0.5, 0.777)) == "0.12 [-0.50, 0.78]"


def test_differences_of_means():
    ones, others = [0.9, 0.7, 0.8], [0.1, 0.4]
    low, high = difference_interval(ones, others, standard_errors=3)
    assert (low + high) / 2 == pytest.approx(0.8 - 0.25, rel=1e-12)
    error = np.hypot(stats.sem(ones), stats.sem(others))
    assert high - low == pytest.approx(2 * 3 * error, rel=1e-12)
    assert np.isnan(difference_interval([0.9], others)).all()
    assert difference_interval([1, 1], [1, 1]) == (0, 0)


def test_rows_of_one_name_are_drawn_together():
    values = np.random.default_rng(3).normal(size=200)
    alone = bootstrap_interval(lambda x: float(np.mean(x)), values)
    # The same row four times says no more than once.
    fourfold, names = np.repeat(values, 4), np.repeat(np.arange(200), 4)
    together = bootstrap_interval(lambda x: float(np.mean(x)), fourfold, together=names)
    assert together == pytest.approx(alone, abs=1e-12)
    apart = bootstrap_interval(lambda x: float(np.mean(x)), fourfold)
    assert apart[1] - apart[0] == pytest.approx((alone[1] - alone[0]) / 2, rel=0.1)
    assert np.isnan(bootstrap_interval(correlation, [1, 2], [1, 2], together=["a", "a"])).all()
