"""Spectra of products of factors of few columns, as many positions at a time as is fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.spectra.factors import (
    Factor,
    LaneFactor,
    factored_error,
    library_singular_values,
    rounding_of,
)
from hf_ess.spectra.lanes import (
    bidiagonal_,
    product_of_triangles,
    values_of_bidiagonal,
)
from hf_ess.spectra.powers import (
    error_times_powers,
    power_of_two,
    powers_above,
    powers_of_two,
    sum_of_exponents,
    times_powers,
)

# Matrices in step on a CPU: while they are whole, as many as the cache holds; when they are
# bidiagonal, enough for the time to go into arithmetic.
CACHED_LANES = 2048
BIDIAGONAL_LANES = 16384
# Copies of a product that are alive at the same time.
COPIES = 8

AnyFactor = Factor | LaneFactor
Put = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True)
class _Reduced:
    """Products of some positions as bidiagonal matrices, and what was divided out of them.

    Marks are factors on the values: 1, 0 for a product of zeros, NaN for one that is not finite.
    """

    indices: list[int]
    diagonal: Tensor
    above: Tensor
    scales: tuple[Tensor, ...]
    error: Tensor
    marks: Tensor

    @classmethod
    def concatenate(cls, parts: list[_Reduced]) -> _Reduced:
        return cls(
            [index for part in parts for index in part.indices],
            torch.cat([part.diagonal for part in parts], -1),
            torch.cat([part.above for part in parts], -1),
            tuple(
                torch.cat(scales) for scales in zip(*(part.scales for part in parts), strict=True)
            ),
            torch.cat([part.error for part in parts]),
            torch.cat([part.marks for part in parts]),
        )


class ProductQueue:
    """Singular values of products of factors, computed when enough have come together.

    All factors of one queue are of one kind, of the same samples and groups, and of two columns
    or more, at most `MOST_COLUMNS`.

    Args:
        put: gets the index of a position, values `[B, g, N]` descending (not finite where a
            factor is not), and their error `[B, g]`.
        steps: how many steps the factors went through.
        memory_budget: bytes for products in work.
        in_step: whether to decompose in step (`lanes.py`), else by LAPACK.
        notes: gets what a reader of the result should know about how it was computed.
    """

    def __init__(
        self, put: Put, *, steps: int, memory_budget: int, in_step: bool, notes: set[str]
    ) -> None:
        self._put = put
        self._steps = steps
        self._budget = memory_budget
        self._in_step = in_step
        self._notes = notes
        self._factors: list[tuple[int, AnyFactor, AnyFactor]] = []
        self._reduced: list[_Reduced] = []

    def add(self, index: int, future: AnyFactor, past: AnyFactor) -> None:
        """Takes the factors of one position."""
        self._shape = past.batch, past.groups
        self._factors.append((index, future, past))
        lanes = past.batch * past.groups
        if (len(self._factors) + 1) * lanes > self._most_lanes(past):
            self._reduce()
            if sum(part.error.numel() for part in self._reduced) >= BIDIAGONAL_LANES:
                self._solve()

    def flush(self) -> None:
        """Computes what is still waiting."""
        if self._factors:
            self._reduce()
        if self._reduced:
            self._solve()

    def _most_lanes(self, factor: AnyFactor) -> int:
        lanes = self._budget // (COPIES * factor.width**2 * FLOAT64_BYTES)
        return min(lanes, CACHED_LANES) if factor.device.type == "cpu" else lanes

    def _reduce(self) -> None:
        indices = [index for index, _, _ in self._factors]
        futures = [factor for _, factor, _ in self._factors]
        pasts = [factor for _, _, factor in self._factors]
        self._factors.clear()
        product, powers, error = _product(futures, pasts, self._steps)
        largest = product.abs().amax((0, 1))
        finite = torch.isfinite(largest)
        product.masked_fill_(~finite, 0.0)
        # Nothing of a product of zeros is left of the least pivots.
        marks = torch.where(finite, (largest > 0).to(largest), torch.nan)
        if self._in_step:
            self._reduced.append(_Reduced(indices, *bidiagonal_(product), powers, error, marks))
            return
        values = library_singular_values(product.permute(2, 0, 1), self._notes).mT
        self._deliver(indices, values, powers, error, marks)

    def _solve(self) -> None:
        every = _Reduced.concatenate(self._reduced)
        self._reduced.clear()
        values = values_of_bidiagonal(every.diagonal, every.above, self._notes)
        self._deliver(every.indices, values, every.scales, every.error, every.marks)

    def _deliver(
        self,
        indices: list[int],
        values: Tensor,
        scales: tuple[Tensor, ...],
        error: Tensor,
        marks: Tensor,
    ) -> None:
        values, error = times_powers(values, *scales) * marks, error_times_powers(error, *scales)
        values = values.contiguous()
        values = values.view(-1, len(indices), *self._shape).permute(1, 2, 3, 0)
        error = error.view(len(indices), *self._shape)
        for index, *found in zip(indices, values, error, strict=True):
            self._put(index, *found)


def _product(
    futures: list[AnyFactor], pasts: list[AnyFactor], steps: int
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Products `[N, N, lanes]`, powers of two divided out of them, and error before these."""
    future, past = _together(futures), _together(pasts)
    if isinstance(future, Factor) and isinstance(past, Factor):
        (late, after), (early, before) = future.scaled(), past.scaled()
        product = _batch_last(late.rows @ early.rows.mT)
        return product, (after, before), factored_error(late, early, steps=steps)
    assert isinstance(future, Tensor)
    assert isinstance(past, Tensor)
    scales = _balance_(future, past)
    return product_of_triangles(future, past), scales, _error(future, past, steps)


def _together(factors: list[AnyFactor]) -> Factor | Tensor:
    """Factors of several positions: triangles `[N, N, lanes]`, or with noise `[lanes, N, N]`."""
    lanes = [factor.triangle for factor in factors if isinstance(factor, LaneFactor)]
    if lanes:
        return torch.cat(lanes, -1)
    plain = [factor for factor in factors if isinstance(factor, Factor)]
    rows = torch.cat([factor.padded().flatten(0, 1) for factor in plain])
    noise = torch.cat([factor.noise.flatten(0, 1) for factor in plain])
    return Factor(rows, noise) if noise.shape[-2] else _batch_last(rows)


def _batch_last(matrices: Tensor) -> Tensor:
    """`[lanes, N, N]` as `[N, N, lanes]`."""
    return matrices.permute(1, 2, 0).contiguous()


def _balance_(future: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """Scales the state so that columns of both are of size one, and then by what they count.

    Only powers of two are divided out. A column of the past may be small where that of the
    future is large: what counts is their product.

    Returns:
        two powers `[lanes]` whose product was divided out of the product.
    """
    largest = [factor.abs().amax(0) for factor in (future, past)]
    powers = [powers_above(column) for column in largest]
    weights = sum_of_exponents(*powers)
    counts = (largest[0] > 0) & (largest[1] > 0)
    most = torch.where(counts, weights, weights.amin(0)).amax(0)
    past.div_(powers[1])
    future.div_(powers[0]).mul_(torch.where(counts, power_of_two(weights - most), 0.0))
    return powers_of_two(most)


def _error(future: Tensor, past: Tensor, steps: int) -> Tensor:
    """The bound of `factored_error` without noise, for balanced triangles, `[lanes]`."""
    after, before = (factor.square().sum(0).sqrt() for factor in (future, past))
    return rounding_of((after * before).sum(0), len(future), steps)
