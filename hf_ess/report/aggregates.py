"""Averages and totals over layers, channels, samples and positions.

The axes are those of section 3 of Parnichkun et al., ICML 2025. A channel counts once, whether it
has an operator of its own or shares one: groups enter with their multiplicity. A pair of a sample
and a position counts once, and only if the sample is long enough to have that position.

Every function takes verified layers only; `verified_layers` picks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.report.layer import LayerESS
from hf_ess.report.names import Metric

Floats = NDArray[np.float64]
LAYER_REDUCTIONS = ("mean", "sum")


def verified_layers(layers: Iterable[LayerESS]) -> list[LayerESS]:
    """The verified layers that have at least one value.

    Raises:
        ReportError: there is none, so that every average would be NaN.
    """
    found = [layer for layer in layers if layer.verified and not np.isnan(layer.entropy_ess).all()]
    if not found:
        raise ReportError(
            "No layer of this report is verified, so there is nothing to average.",
            causes=["every mixer is unsupported", "no rebuilt output agreed with the real one"],
            fix="Read report.unsupported and the reason of each layer in report.layers.",
        )
    return found


def average(layers: Sequence[LayerESS], metric: Metric) -> float:
    """Mean over layers, channels, samples and positions, in state dimensions per channel."""
    return mean_over(layers, [layer.values(metric) for layer in layers])


def mean_over(layers: Sequence[LayerESS], grids: Sequence[Floats]) -> float:
    """The same mean of one `[B, G, P]` array per layer; NaN if every entry is."""
    sums, weights = _sums_by_sample(layers, grids)
    return float(sums.sum() / weights.sum()) if weights.sum() > 0 else float("nan")


def standard_error(layers: Sequence[LayerESS], metric: Metric) -> float:
    """Standard error of `average` over samples, NaN for fewer than two.

    With samples of one length this is the standard deviation of the averages of the samples
    (ddof = 1) over the square root of their number. Samples of different length are weighted by
    their number of positions, as in `average`: the standard error of a ratio estimator
    (Cochran, Sampling Techniques, 1977, section 2.11).
    """
    return error_from_influences(influences(layers, metric))


def influences(layers: Sequence[LayerESS], metric: Metric) -> Floats:
    """How far each sample moves `average`, `[B]`; they add up to 0. NaN for one without values."""
    sums, weights = _sums_by_sample(layers, [layer.values(metric) for layer in layers])
    deviations = sums - weights * (sums.sum() / weights.sum())
    return np.where(weights > 0, deviations / weights.sum(), np.nan)


def error_from_influences(moved: Floats) -> float:
    """The standard error of a mean, or of a difference of means, that the samples move so far."""
    present = moved[~np.isnan(moved)]
    count = len(present)
    if count < 2:
        return float("nan")
    return float(np.sqrt(count / (count - 1) * (present**2).sum()))


def utilization(layers: Sequence[LayerESS], metric: Metric) -> float:
    """Mean of ESS / TSS over layers, channels, samples and positions, without a unit.

    Blocks without capacity have no utilization and are left out; NaN if there are no others.
    """
    return mean_over(layers, [ess_over_capacity(layer, metric) for layer in layers])


def ess_over_capacity(layer: LayerESS, metric: Metric) -> Floats:
    """ESS / TSS `[B, G, P]`, NaN where the capacity is 0."""
    return over_capacity(layer, layer.values(metric))


def over_capacity(layer: LayerESS, values: Floats) -> Floats:
    """The values `[B, G, P]` divided by the capacity, NaN where that is 0."""
    ratio = np.full(layer.capacity.shape, np.nan)
    np.divide(values, layer.capacity, out=ratio, where=layer.capacity > 0)
    return ratio


def channel_sum(layer: LayerESS, values: Floats) -> Floats:
    """Sum over the channels of a layer, `[B, G, P] -> [B, P]`."""
    return np.asarray(values.sum(axis=1) * layer.multiplicity)


def total(layers: Sequence[LayerESS], metric: Metric, reduction: str) -> float:
    """Sum over channels, mean over samples and positions, then mean or sum over layers.

    Raises:
        InvalidInputError: the reduction is neither "mean" nor "sum".
    """
    return total_over(layers, [layer.values(metric) for layer in layers], reduction)


def total_over(layers: Sequence[LayerESS], grids: Sequence[Floats], reduction: str) -> float:
    """The same total of one `[B, G, P]` array per layer.

    Raises:
        InvalidInputError: the reduction is neither "mean" nor "sum".
    """
    totals = [
        _mean(channel_sum(layer, grid), axis=None)
        for layer, grid in zip(layers, grids, strict=True)
    ]
    return float(np.sum(totals) if _is_sum(reduction) else np.mean(totals))


def total_by_position(
    layers: Sequence[LayerESS], values: Sequence[Floats], reduction: str
) -> Floats:
    """The same without the mean over positions, `[P]`, for one `[B, G, P]` array per layer.

    NaN at positions that no sample reaches.

    Raises:
        InvalidInputError: the reduction is neither "mean" nor "sum".
    """
    rows = [
        _mean(channel_sum(layer, value), axis=0)
        for layer, value in zip(layers, values, strict=True)
    ]
    stacked = np.stack(rows)
    return np.asarray(stacked.sum(axis=0) if _is_sum(reduction) else stacked.mean(axis=0))


def mean_by_position(values: Floats) -> Floats:
    """Mean over samples and groups, `[B, G, P] -> [P]`, NaN at positions without a value."""
    return np.asarray(_mean(values, axis=(0, 1)))


def mean_by_group(values: Floats) -> Floats:
    """Mean over samples and positions, `[B, G, P] -> [G]`, NaN for a group without a value."""
    return np.asarray(_mean(values, axis=(0, 2)))


def mean_of(values: Floats) -> float:
    """Mean over every entry that is not NaN, NaN if there is none."""
    return float(_mean(values, axis=None))


def _mean(values: Floats, axis: int | tuple[int, ...] | None) -> Floats:
    """`np.nanmean` that gives NaN for an empty slice without a warning."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    summed = np.where(present, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, summed / np.maximum(count, 1), np.nan))


def _sums_by_sample(layers: Sequence[LayerESS], values: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Sum of the values and number of values of each sample, both weighted by channels, `[B]`."""
    sums, weights = np.zeros(layers[0].samples), np.zeros(layers[0].samples)
    for layer, value in zip(layers, values, strict=True):
        present = ~np.isnan(value)
        sums += layer.multiplicity * np.where(present, value, 0.0).sum(axis=(1, 2))
        weights += layer.multiplicity * present.sum(axis=(1, 2))
    return sums, weights


def _is_sum(reduction: str) -> bool:
    if reduction not in LAYER_REDUCTIONS:
        raise InvalidInputError(
            f"layers must be 'mean' or 'sum', got {reduction!r}.",
            fix="'mean' is the paper's definition, 'sum' that of its language figures.",
        )
    return reduction == "sum"


def widest_half_width(layers: Iterable[LayerESS]) -> float:
    """The widest relative interval in any verified layer, 0 where all values are exact."""
    return max((largest_half_width(layer) for layer in layers if layer.verified), default=0.0)


def largest_half_width(layer: LayerESS) -> float:
    """The widest relative interval around any entropy-ESS of a layer, 0 where all are exact."""
    known = layer.entropy_half_width[~np.isnan(layer.entropy_half_width)]
    return float(known.max()) if known.size else 0.0
