"""Counts and intervals of divide and conquer against the singular values of every block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_ess.metrics import entropy_ess, tolerance_ess
from hf_ess.spectra import block_singular_values, certified_metrics, counts_above

# The reference rounds, too.
ROUNDING = 1e-9


@dataclass
class Correctness:
    """How many numbers were compared, and how many were wrong.

    Args:
        heads: operators that were compared, at all positions.
        counts: counts that were compared.
        raw_count_mismatches: uncertified counts that differ from those of the singular values.
        undecided: certified counts whose two shifts differ.
        certified_count_violations: counts outside of what was certified.
        decomposed: entropies of blocks that were decomposed instead, which have no interval.
        largest_decomposed_error: of these, relative; their values come from Gram matrices.
        intervals: certified entropies that were compared.
        interval_violations: true entropies outside of their interval.
        largest_entropy_error: relative.
        largest_half_width: relative.
    """

    heads: int = 0
    counts: int = 0
    raw_count_mismatches: int = 0
    undecided: int = 0
    certified_count_violations: int = 0
    decomposed: int = 0
    largest_decomposed_error: float = 0.0
    intervals: int = 0
    interval_violations: int = 0
    largest_entropy_error: float = 0.0
    largest_half_width: float = 0.0

    def add(self, matrices: Tensor, tolerances: Sequence[float]) -> None:
        """Compares all positions of the operators `[n, L, L]`."""
        positions = range(1, matrices.shape[-1])
        exact = block_singular_values(matrices, "all", method="svd").values
        raw = counts_above(matrices, tolerances)
        certified = certified_metrics(matrices, positions, tolerances)
        self.heads += len(matrices)
        for number, tolerance in enumerate(tolerances):
            true = tolerance_ess(exact, tolerance).long()
            low = certified.counts[tolerance]
            high = low + certified.undecided[tolerance]
            known = ~certified.below_floor[tolerance]
            self.counts += true.numel()
            self.raw_count_mismatches += int((raw[:, number] != true).sum())
            self.undecided += int(((high > low) & known).sum())
            self.certified_count_violations += int((((true < low) | (true > high)) & known).sum())
        self._add_intervals(entropy_ess(exact), certified.entropy, certified.half_width)

    def _add_intervals(self, true: Tensor, middle: Tensor, half_width: Tensor) -> None:
        error = (true - middle).abs() / true.clamp(min=torch.finfo(true.dtype).tiny)
        certified = half_width > 0
        outside = (true - middle).abs() > middle * (half_width + ROUNDING)
        self.intervals += int(certified.sum())
        self.interval_violations += int((outside & certified).sum())
        self.decomposed += int((~certified).sum())
        within, apart = (float((error * chosen).amax()) for chosen in (certified, ~certified))
        self.largest_entropy_error = max(self.largest_entropy_error, within)
        self.largest_decomposed_error = max(self.largest_decomposed_error, apart)
        self.largest_half_width = max(self.largest_half_width, float(half_width.amax()))


def compare(operators: Iterable[Tensor], tolerances: Sequence[float]) -> Correctness:
    """Compares operators `[n, L, L]`, one after the other.

    Example:
        >>> import torch
        >>> average = torch.ones(1, 40, 40, dtype=torch.float64).tril() / 40
        >>> compare([average], [1e-3]).raw_count_mismatches
        0
    """
    result = Correctness()
    for matrices in operators:
        result.add(matrices, tolerances)
    return result
