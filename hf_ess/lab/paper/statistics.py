"""Correlations, and intervals of them by resampling rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
DRAWS = 2000
LEVEL = 0.95


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's correlation; NaN where one of them is the same throughout.

    Example:
        >>> round(correlation([1, 2, 3], [1, 2, 4]), 3)
        0.982
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's correlation; ties share the mean of their ranks.

    Example:
        >>> rank_correlation([1, 2, 3], [1, 2, 40])
        1.0
    """
    return round(correlation(_ranks(first), _ranks(second)), 12)


def bootstrap_interval(
    statistic: Callable[..., float],
    *columns: ArrayLike,
    together: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """An interval of 95 % of a statistic, by resampling rows.

    Args:
        statistic: of the columns.
        columns: of equal lengths.
        together: for each row a name, or a number; rows of one name are drawn together, as those
            of one model have to be, which are not independent. None for each row on its own.
        draws: how many resamplings.
        seed: of them.

    Returns:
        Its ends; NaN of fewer than two rows or names, which say nothing of their spread, and where
        too many draws have no value (as correlations of rows that are all the same), since an
        interval of the others would be too narrow.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3
    (percentiles).

    Example:
        >>> low, high = bootstrap_interval(correlation, [1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
        >>> low < correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]) <= high
        True
    """
    arrays = [np.asarray(column, float) for column in columns]
    names = np.arange(len(arrays[0])) if together is None else np.asarray(together)
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    if len(groups) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(groups), size=(draws, len(groups)))
    rows = [np.concatenate([groups[one] for one in draw]) for draw in drawn]
    found = np.array([statistic(*(array[row] for array in arrays)) for row in rows])
    found = found[np.isfinite(found)]
    if len(found) < LEVEL * draws:
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference_interval(
    first: ArrayLike, second: ArrayLike, standard_errors: float = 2.0
) -> tuple[float, float]:
    """How far the mean of the first lies above that of the second, give or take standard errors.

    Args:
        first: values, as of seeds.
        second: others, independent of them.
        standard_errors: of the difference, in each direction.

    Returns:
        Its ends; NaN if one of them has fewer than two values, since its error is unknown then.

    Example:
        >>> difference_interval([3, 5], [1, 1])
        (1.0, 5.0)
    """
    ones, others = np.asarray(first, float), np.asarray(second, float)
    if min(len(ones), len(others)) < 2:
        return float("nan"), float("nan")
    difference = ones.mean() - others.mean()
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in (ones, others)))
    margin = standard_errors * error
    return float(difference - margin), float(difference + margin)


def with_error(values: ArrayLike) -> str:
    """Mean and standard error as a cell of a table; of a single value no error.

    Example:
        >>> with_error([0.1, 0.2, 0.6]), with_error([0.5])
        ('0.30 ± 0.15', '0.50')
    """
    array = np.asarray(values, float)
    mean = f"{array.mean():.2f}"
    if len(array) < 2:
        return mean
    return f"{mean} ± {array.std(ddof=1) / np.sqrt(len(array)):.2f}"


def shown(value: float) -> str:
    """A number as a cell of a table; a dash where there is none.

    Example:
        >>> shown(0.123), shown(float("nan"))
        ('0.12', '-')
    """
    return "-" if value != value else f"{value:.2f}"


def with_interval(value: float, interval: Sequence[float]) -> str:
    """Both as a cell of a table; dashes where there is no value, or no interval.

    Example:
        >>> with_interval(0.5, (0.2, 0.91)), with_interval(0.5, (float("nan"), float("nan")))
        ('0.50 [0.20, 0.91]', '0.50 [-, -]')
    """
    low, high = interval
    return shown(value) if value != value else f"{shown(value)} [{shown(low)}, {shown(high)}]"


def _ranks(values: ArrayLike) -> Floats:
    array = np.asarray(values, float)
    _, places, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[places]
    return ranks
