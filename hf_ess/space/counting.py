"""How many singular values lie above each of many thresholds, so that a page can count anew."""

from __future__ import annotations

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
        summed[..., others] = _above(layer.singular_values, wanted, scale).sum(axis=1)
    for number, threshold in enumerate(thresholds):
        if threshold in layer.tolerance_ess:
            summed[..., number] = layer.tolerance_ess[threshold].sum(axis=1)
    present = ~np.isnan(layer.entropy_ess[:, 0])
    texts = np.maximum(present.sum(axis=0), 1)
    return np.asarray(np.where(present[..., None], summed, 0.0).sum(axis=0) / texts[:, None])


def _above(
    values: NDArray[np.float32], thresholds: NDArray[np.float64], scale: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Values `[B, G, P, K]` (descending) above each threshold, int64 `[B, G, P, T]`."""
    import torch

    rows = thresholds if scale is None else thresholds * scale[..., None]
    wanted = torch.from_numpy(_rounded_down(rows))
    ascending = torch.from_numpy(values).flip(-1)
    # One bisection per threshold in each sorted row; NaN, where a text has ended, sorts last.
    wanted = wanted.expand(*values.shape[:3], len(thresholds)).contiguous()
    below = torch.searchsorted(ascending, wanted, right=True)
    return np.asarray((values.shape[-1] - below).numpy())


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The next float32 that is not larger: a float32 is above it iff it is above the threshold."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
