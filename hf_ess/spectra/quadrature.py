"""Entropy from log-determinants: integrals over shifts, with every error accounted for.

With `L(t) = log det(I + H'H / t^2)` and `x = ln t`,

    sum s^z = z sin(pi z / 2) / pi * integral of t^z L dx,   0 < z < 2,

whose derivatives at z = 1 give the sums of s, s ln s and s (ln s)^2, hence the entropy
`ln N - S / N` with `N = sum s`, `S = sum s ln s`, and the spread of `ln s`. The trapezoidal rule in
x with step 1.4 and ten nodes from 1.6 F downwards (F the largest Frobenius norm) is enough for 1 %.
Four errors are bounded, and their sum is the half width:

* left tail: L lies between what the last secant and the counted values force, and what the rank
  and the counted values allow; the entropy grows with L there, so the two ends bracket it.
* right tail: L exceeds `log(1 + F^2 / t^2)` by a multiple of t^-4 that grows by at most 2.1.
* trapezoid: `e (1 + sigma) + eta`, sigma the spread of `ln s` over the weights `s / N`, from the
  first Fourier coefficient of each integrand.
* rounding: a multiple of `u (n + (F / t)^2)` for each log-determinant, measured, not proved.

Source: ours; the entropy is Parnichkun et al., ICML 2025, eq. 3 (Roy and Vetterli, 2007).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STEP = 1.4
NODES = 10
# In units of the largest Frobenius norm: the first node, and the last that rounding leaves useful.
FIRST_NODE = 1.6
LAST_NODE = 3e-7
# Float32 is used for shifts down to here.
SINGLE_PRECISION_NODE = 1e-3
# Rounding errors of log-determinants of attention stayed below a tenth of this.
ROUNDING_OF_NORMS = 8.0
ROUNDING_OF_SIZE = 4.0

# What lies beyond is below 1e-7 of what is kept.
_LEFT_TERMS = 14
_RIGHT_TERMS = 6
_SPREAD_SLACK = 1.05


@dataclass(frozen=True)
class CountBracket:
    """How many values are above a tolerance, `[n, P]`: at least `low`, at most `high`."""

    tolerance: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Blocks:
    """What is known of the blocks at P positions of n operators.

    Args:
        norms: Frobenius norms, `[n, P]`.
        ranks: largest possible ranks, `[P]`.
        brackets: counts by descending tolerance (`[n, 1]` each).
    """

    norms: Tensor
    ranks: Tensor
    brackets: Sequence[CountBracket]

    def largest_norm(self) -> Tensor:
        """Largest norm of each operator, one where all are zero, `[n, 1]`."""
        largest = self.norms.amax(-1, keepdim=True)
        return torch.where(largest > 0, largest, 1.0)


def node_shifts(largest_norm: Tensor, count: int) -> Tensor:
    """The first nodes t of each operator, descending, `[n, count]`; norms `[n, 1]`."""
    steps = torch.arange(count, dtype=largest_norm.dtype, device=largest_norm.device)
    return FIRST_NODE * largest_norm * torch.exp(-STEP * steps)


def node_limit() -> int:
    """How many nodes there are at most."""
    return 1 + math.floor(math.log(FIRST_NODE / LAST_NODE) / STEP)


def single_precision_nodes() -> int:
    """How many of the first nodes float32 serves."""
    return 1 + math.floor(math.log(FIRST_NODE / SINGLE_PRECISION_NODE) / STEP)


def entropy_bracket(
    log_determinants: Tensor, units: Sequence[float], blocks: Blocks
) -> tuple[Tensor, Tensor]:
    """Entropy-ESS with its relative half width, both `[n, P]`.

    Args:
        log_determinants: `[n, S, P]` float64 at the first S nodes of `node_shifts`, S >= 2.
        units: unit roundoff of the arithmetic at each node.
        blocks: norms, ranks and counts.

    Returns:
        The middle of the interval, and its half width relative to it: the true value lies within.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.quadrature import Blocks, entropy_bracket, node_shifts
        >>> values = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
        >>> norm = values.norm().reshape(1, 1)
        >>> shifts = node_shifts(norm, 12)
        >>> logs = torch.log1p((values / shifts[..., None]) ** 2).sum(-1)[..., None]
        >>> blocks = Blocks(norm, torch.tensor([3.0], dtype=torch.float64), [])
        >>> middle, half = entropy_bracket(logs, [1e-16] * 12, blocks)
        >>> true = torch.special.entr(values / values.sum()).sum().exp()
        >>> bool((middle - true).abs() <= half * middle), bool(half < 5e-3)
        (True, True)
    """
    first = node_shifts(blocks.largest_norm(), log_determinants.shape[1])
    middle = _Sums.over(first[..., None], log_determinants)
    left_low, left_high = _left_tail(log_determinants, first, blocks)
    right_low, right_high = _right_tail(log_determinants, first, blocks)
    # To the right the entropy falls with L.
    low = middle.plus(left_low, right_high)
    high = middle.plus(left_high, right_low)
    spread = _SPREAD_SLACK * torch.maximum(low.spread(), high.spread())
    half = (high.entropy() - low.entropy()).abs() / 2
    half += _trapezoid_error(spread) + _rounding_error(first, units, low, blocks)
    center = (high.entropy() + low.entropy()) / 2
    zero = blocks.norms == 0
    return (
        torch.where(zero, 0.0, center.exp()),
        torch.where(zero, 0.0, torch.expm1(half)).nan_to_num(nan=torch.inf),
    )


@dataclass(frozen=True)
class _Sums:
    """Sums of s, s ln s and s (ln s)^2, `[n, P]` each, or parts of them."""

    zeroth: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def over(cls, shifts: Tensor, logs: Tensor) -> _Sums:
        """Of nodes along the second axis: shifts `[n, K, 1|P]`, log-determinants `[n, K, P]`."""
        x = shifts.log()
        weighted = STEP / math.pi * shifts * logs
        second = weighted * (x * x + 2 * x - math.pi**2 / 4)
        return cls(weighted.sum(1), (weighted * (x + 1)).sum(1), second.sum(1))

    def plus(self, *others: _Sums) -> _Sums:
        return _Sums(
            self.zeroth + sum(other.zeroth for other in others),
            self.first + sum(other.first for other in others),
            self.second + sum(other.second for other in others),
        )

    def mean(self) -> Tensor:
        """Mean of `ln s` over the weights `s / N`."""
        return self.first / self.zeroth

    def entropy(self) -> Tensor:
        return self.zeroth.log() - self.mean()

    def spread(self) -> Tensor:
        """Standard deviation of `ln s` over the weights `s / N`."""
        return (self.second / self.zeroth - self.mean() ** 2).clamp(min=0).sqrt()


def _steps(count: int, like: Tensor) -> Tensor:
    """`[1, K, 1]`: 1, 2, ..., as far as a tail matters."""
    return torch.arange(1, count + 1, dtype=like.dtype, device=like.device)[None, :, None]


def _left_tail(logs: Tensor, shifts: Tensor, blocks: Blocks) -> tuple[_Sums, _Sums]:
    """Least and largest sums below the last node."""
    last, steps = shifts[:, -1:, None], _steps(_LEFT_TERMS, shifts)
    below = last * torch.exp(-STEP * steps)
    at_last = logs[:, -1:]

    def gain(values: Tensor) -> Tensor:
        """What `log(1 + s^2 / t^2)` gains from the last node on, `[n, K, P|1]`."""
        return torch.log1p((values / below) ** 2) - torch.log1p((values / last) ** 2)

    secant = (at_last - logs[:, -2:-1]) * steps
    low = high = torch.zeros_like(secant)
    counted_low = counted_high = torch.zeros_like(at_last)
    bound = blocks.norms[:, None]
    for bracket in blocks.brackets:
        tolerance = bracket.tolerance[:, None]
        low = low + (bracket.low[:, None] - counted_low) * gain(tolerance)
        high = high + (bracket.high[:, None] - counted_high) * gain(bound)
        counted_low, counted_high = bracket.low[:, None], bracket.high[:, None]
        bound = torch.minimum(bound, tolerance)
    high = high + (blocks.ranks - counted_high).clamp(min=0) * gain(bound)
    least = at_last + torch.maximum(secant, low)
    most = at_last + torch.minimum(2 * STEP * blocks.ranks * steps, high)
    return _Sums.over(below, least), _Sums.over(below, torch.maximum(least, most))


def _right_tail(logs: Tensor, shifts: Tensor, blocks: Blocks) -> tuple[_Sums, _Sums]:
    """Least and largest sums above the first node."""
    steps = _steps(_RIGHT_TERMS, shifts)
    first, norms = shifts[:, :1, None], blocks.norms[:, None]
    above = first * torch.exp(STEP * steps)
    known = torch.log1p((norms / above) ** 2)
    excess = (logs[:, :1] - torch.log1p((norms / first) ** 2)).clamp(min=0)
    falling = excess * torch.exp(-4 * STEP * steps)
    # `t^4` times the excess grows to at most this multiple: its series alternates.
    growth = 1 / (1 - 4 / 3 * (norms / first) ** 2)
    return _Sums.over(above, known + falling), _Sums.over(above, known + growth * falling)


def _trapezoid_error(spread: Tensor) -> Tensor:
    """Of the entropy, from the first Fourier coefficient `e` of `t log(1 + 1/t^2)`."""
    frequency = 2 * math.pi / STEP
    rootsum = math.sqrt(1 + frequency**2)
    e = 2 / (rootsum * math.cosh(math.pi * frequency / 2))
    return e * (1 + spread) + e * (math.pi / 2 + 1 / rootsum)


def _rounding_error(shifts: Tensor, units: Sequence[float], sums: _Sums, blocks: Blocks) -> Tensor:
    """Of the entropy, `[n, P]`, from that of each log-determinant."""
    unit = torch.tensor(units, dtype=shifts.dtype, device=shifts.device)
    size = ROUNDING_OF_SIZE * blocks.ranks.amax()
    ratio = blocks.largest_norm() / shifts
    each = unit * (size + ROUNDING_OF_NORMS * ratio**2)
    distance = (sums.mean()[:, None] - shifts.log()[..., None]).abs()
    total = (STEP / math.pi * (shifts * each)[..., None] * distance).sum(1)
    return total / sums.zeroth
