"""Powers of two that are divided out before a decomposition and multiplied back after it."""

from __future__ import annotations

import torch
from torch import Tensor

# Exponents of the normal numbers of float64, and its least number.
LOWEST, HIGHEST = -1022, 1023
LEAST_NUMBER = 2.0**-1074


def powers_above(largest: Tensor) -> Tensor:
    """The powers of two just above numbers, 1 for zero and for what is not finite.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.powers import powers_above
        >>> powers_above(torch.tensor([3.0, 0.0, 0.25]))
        tensor([4.0000, 1.0000, 0.5000])
    """
    exponent = torch.frexp(largest).exponent
    usual = torch.isfinite(largest) & (largest > 0)
    return _power(torch.where(usual, exponent, 0)).to(largest.dtype)


def times_powers(numbers: Tensor, *powers: Tensor) -> Tensor:
    """Float64 numbers times powers of two or zeros, whose product alone may leave float64.

    What leaves it only on the way is right: exact, or the nearest subnormal number.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.powers import times_powers
        >>> large = torch.tensor([2.0**800], dtype=torch.float64)
        >>> times_powers(torch.ones(1).double(), large, large, 1 / large, 1 / large)
        tensor([1.], dtype=torch.float64)
    """
    exponent, present = _exponent(powers[0]), powers[0] != 0
    for power in powers[1:]:
        exponent, present = exponent + _exponent(power), present & (power != 0)
    once = exponent.clamp(LOWEST, HIGHEST)
    return numbers * torch.where(present, _power(once), 0.0) * _power(exponent - once)


def error_times_powers(error: Tensor, *powers: Tensor) -> Tensor:
    """The same of error bounds, which also cover what the values lose as subnormal numbers.

    A bound of zero stays zero.
    """
    scaled = times_powers(error, *powers)
    return torch.where(error > 0, scaled + 2 * LEAST_NUMBER, scaled)


def _exponent(power: Tensor) -> Tensor:
    return torch.frexp(power).exponent - 1


def _power(exponent: Tensor) -> Tensor:
    """Powers of two in float64, put together from bits: exact, where exp2 may round."""
    bits = exponent.clamp(LOWEST, HIGHEST).to(torch.int64) + 1023
    return (bits << 52).view(torch.float64)
