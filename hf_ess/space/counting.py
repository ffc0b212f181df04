"""How many singular values lie above each of many thresholds, so that a page can count anew."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_ess.report import ESSReport, LayerESS

PER_DECADE = 10
# Decades of the grid; a share of the largest singular value is never above one.
HIGHEST, HIGHEST_RELATIVE, LOWEST = 1, 0, -6
SAME = 1e-9


def has_spectra(report: ESSReport) -> bool:
    """Whether every verified layer of a report kept its singular values."""
    verified = [layer for layer in report.layers if layer.verified]
    return bool(verified) and all(layer.singular_values is not None for layer in verified)


def thresholds_of(report: ESSReport) -> tuple[float, ...]:
    """The thresholds at which a report can be counted, descending.

    With singular values a grid of ten per decade and the tolerances of the report, without them
    the tolerances alone.
    """
    if not has_spectra(report):
        return tuple(sorted(report.tolerances, reverse=True))
    highest = HIGHEST_RELATIVE if report.relative else HIGHEST
    return _grid(report.tolerances, highest)


def _grid(tolerances: Sequence[float], highest: int) -> tuple[float, ...]:
    steps = range(highest * PER_DECADE, LOWEST * PER_DECADE - 1, -1)
    # Parsed from text, since 10.0 ** -1 and its kind may be off in the last place.
    grid = [float(f"{10 ** (step % PER_DECADE / PER_DECADE)!r}e{step // 10}") for step in steps]
    kept = [value for value in grid if not any(_is_same(value, other) for other in tolerances)]
    return tuple(sorted([*kept, *tolerances], reverse=True))


def _is_same(value: float, other: float) -> bool:
    return abs(value - other) <= SAME * other


def counts_of(
    layer: LayerESS, thresholds: Sequence[float], *, relative: bool
) -> NDArray[np.float64]:
    """Singular values above each threshold: sum over groups, mean over texts, `[P, T]`.

    At the tolerances of the layer these are the counts of the analysis itself, which saw the
    values in float64. Zero at positions that no text reaches.

    Args:
        layer: with singular values, unless every threshold is one of its tolerances.
        thresholds: T positive numbers.
        relative: whether they are fractions of the largest singular value of each block.
    """
    summed = np.zeros((layer.samples, len(layer.positions), len(thresholds)))
    others = [number for number, t in enumerate(thresholds) if t not in layer.tolerance_ess]
    if others:
        if layer.singular_values is None:
            raise ValueError(f"layer {layer.name!r} has no singular values to count")
        wanted = np.array([thresholds[number] for number in others])
        scale = layer.largest_singular_value if relative else None
        summed[..., others] = _above(layer.singular_values, wanted, scale)
    for number, threshold in enumerate(thresholds):
        if threshold in layer.tolerance_ess:
            summed[..., number] = layer.tolerance_ess[threshold].sum(axis=1)
    present = ~np.isnan(layer.entropy_ess[:, 0])
    texts = np.maximum(present.sum(axis=0), 1)
    return np.asarray(np.where(present[..., None], summed, 0.0).sum(axis=0) / texts[:, None])


def _above(
    values: NDArray[np.float32], thresholds: NDArray[np.float64], scale: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Values `[B, G, P, K]` (descending) above each threshold, summed over groups, `[B, P, T]`.

    Thresholds are in any order; with a scale `[B, G, P]` they are fractions of it.
    """
    many, few = len(thresholds), values.shape[-1]
    if scale is None and few * math.log2(many + 1) < many * math.log2(few + 1):
        return _by_histogram(values, thresholds)
    rows = thresholds if scale is None else thresholds * scale[..., None]
    return _by_bisection(values, rows)


def _by_bisection(
    values: NDArray[np.float32], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """One bisection per threshold `[T]` or `[B, G, P, T]` in each sorted row."""
    import torch

    wanted = torch.from_numpy(_rounded_down(thresholds))
    wanted = wanted.expand(*values.shape[:3], thresholds.shape[-1]).contiguous()
    # NaN, where a text has ended, sorts last.
    ascending = torch.from_numpy(values).flip(-1)
    below = torch.searchsorted(ascending, wanted, right=True)
    return np.asarray((values.shape[-1] - below).sum(1).numpy())


def _by_histogram(
    values: NDArray[np.float32], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """One bisection per value among the thresholds `[T]`, where rows are short."""
    import torch

    order = np.argsort(thresholds)
    ascending = torch.from_numpy(_rounded_down(thresholds[order]))
    samples, _, positions, _ = values.shape
    bins = len(thresholds) + 1
    below = torch.bucketize(torch.from_numpy(values), ascending)
    rows = torch.arange(samples * positions).reshape(samples, 1, positions, 1) * bins
    found = torch.bincount((below + rows).flatten(), minlength=samples * positions * bins)
    reached = found.reshape(samples, positions, bins).flip(-1).cumsum(-1).flip(-1)[..., 1:]
    counts = np.empty(reached.shape, dtype=np.int64)
    counts[..., order] = reached.numpy()
    return counts


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The next float32 that is not larger: a float32 is above it iff it is above the threshold."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
