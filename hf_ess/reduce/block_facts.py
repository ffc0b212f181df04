"""What counts of singular values say about a state of n numbers: needs, errors, gaps, growth.

Blocks are `[B, G, P]` as in the report, NaN where a sample is too short for a position.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from hf_ess.report import ESSReport, LayerESS

Floats = NDArray[np.float64]

# Singular values are kept in float32.
STORED = 2.0**-23
# A growing state could be a recurrence's if it needs at most this share of what it could have,
SMALL = 0.5
# wherever at least so much is attainable,
ROOM = 8
# and no more than this around the middle of a text than before it, but for one.
GROWTH = 1.25
BEFORE, MIDDLE = (1 / 8, 3 / 8), (3 / 8, 5 / 8)


def needed(layer: LayerESS, tolerance: float) -> Floats:
    """The state that carries each block with an error of at most a tolerance, `[B, G, P]`.

    Tolerance-ESS; where no error of the singular values is known, with all that are undecided.
    """
    unknown = np.isnan(layer.error_bound)
    count = layer.tolerance_ess[tolerance]
    most = np.where(unknown, count + layer.undecided[tolerance], count)
    return np.asarray(np.minimum(most, layer.attainable_by_group))


def absolute(layer: LayerESS, tolerance: float, *, relative: bool) -> Floats:
    """A tolerance in units of the operator, `[B, G, P]`."""
    scale = layer.largest_singular_value if relative else np.ones(1)
    return np.broadcast_to(tolerance * scale, layer.entropy_ess.shape)


def smallest_errors(report: ESSReport, layer: LayerESS, size: int) -> tuple[Floats, Floats]:
    """Between what the smallest spectral error of each block with a state of `size` lies.

    That error is singular value number `size + 1`. Below: the largest tolerance that it exceeds for
    certain; above: the smallest one that it does not, and the error of the singular values. 0 where
    no more than `size` is attainable. Kept singular values, where there are some, say it closer.

    Source: Eckart and Young, 1936; Mirsky, 1960 (any unitarily invariant norm).
    """
    shape = layer.entropy_ess.shape
    below, above = np.zeros(shape), np.full(shape, np.inf)
    rounding = np.nan_to_num(layer.error_bound)
    for tolerance in report.tolerances:
        level = absolute(layer, tolerance, relative=report.relative)
        fits = needed(layer, tolerance) <= size
        above = np.where(fits, np.fmin(above, level + rounding), above)
        exceeded = layer.tolerance_ess[tolerance] - layer.undecided[tolerance] > size
        below = np.where(exceeded, np.fmax(below, level), below)
    if layer.singular_values is not None and layer.singular_values.shape[-1] > size:
        value = layer.singular_values[..., size].astype(np.float64)
        above = np.fmin(above, value * (1 + STORED) + rounding)
        below = np.fmax(below, value * (1 - STORED) - rounding)
    enough = layer.attainable_by_group <= size
    absent = np.isnan(layer.entropy_ess)
    below, above = (np.where(enough, 0.0, bound) for bound in (below, above))
    return np.where(absent, np.nan, below), np.where(absent, np.nan, above)


def bound_between(report: ESSReport, layer: LayerESS, tolerance: float) -> int:
    """The most that any block can need, also at positions that were not measured.

    From one position to the next a block loses a row and gains a column, so that tolerance-ESS
    moves by at most 1 (interlacing); it is 0 at both ends, and at most what is attainable.
    Relative tolerances move with the largest singular value: nothing follows there, and the bound
    is the state size, or half of the text.
    """
    most = 0.0
    counts = needed(layer, tolerance)
    for sample, info in enumerate(report.samples):
        length = info.length
        reached = ~np.isnan(counts[sample, 0])
        at = np.concatenate([[0], layer.positions[reached], [length]])
        own = np.pad(counts[sample][:, reached], ((0, 0), (1, 1)))
        steps = np.diff(at)
        peaks = (own[:, :-1] + own[:, 1:] + steps) // 2
        if report.relative:
            peaks = np.where(steps > 1, np.inf, np.maximum(own[:, :-1], own[:, 1:]))
        room = np.minimum(at, length - at)
        around = (at[:-1] <= length // 2) & (at[1:] >= length // 2)
        attainable = np.where(around, length // 2, np.maximum(room[:-1], room[1:]))
        most = max(most, float(np.minimum(peaks, attainable).max()))
    return int(most if layer.state_size is None else min(most, layer.state_size))


def becomes_recurrence(
    report: ESSReport, layer: LayerESS, tolerance: float
) -> tuple[bool | None, str]:
    """Whether a layer of growing state used no more than a recurrence could carry, and why.

    The criterion (ours): at every position where at least 8 are attainable, tolerance-ESS is at
    most half of that; and for each group it is from 3/8 to 5/8 of the texts at most 1.25 times as
    large, or one larger, than from 1/8 to 3/8. None where no position lies in one of these.
    """
    counts, room = needed(layer, tolerance), layer.attainable_by_group
    lengths = np.array([sample.length for sample in report.samples])[:, None]
    part = layer.positions[None, :] / lengths
    early, middle = (
        _largest_of_groups(counts, (part >= start) & (part < stop))
        for start, stop in (BEFORE, MIDDLE)
    )
    wide = room >= ROOM
    if not wide.any() or np.isnan(early + middle).any():
        return None, "the texts are too short, or the positions too few, to tell"
    share = float(np.nanmax(np.where(wide, counts / np.maximum(room, 1), np.nan)))
    if share > SMALL:
        return False, f"it needs up to {share:.0%} of what is attainable"
    beyond = middle - np.maximum(GROWTH * early, early + 1)
    most = int(beyond.argmax())
    if beyond[most] > 0:
        growth = f"from {early[most]:.0f} to {middle[most]:.0f}"
        return False, f"what it needs grows along the text, {growth} in group {most}"
    return True, (
        f"it needs at most {share:.0%} of what is attainable, and hardly more in the middle of the "
        f"text (up to {middle.max():.0f}) than before it (up to {early.max():.0f})"
    )


def _largest_of_groups(values: Floats, where: NDArray[np.bool_]) -> Floats:
    """The largest of `[B, G, P]` at the samples and positions `[B, P]`, `[G]`; NaN for none."""
    chosen = np.where(where[:, None, :], values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's word for no values at all
        return np.asarray(np.nanmax(chosen, axis=(0, 2)))
