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
    return power_of_two(torch.where(usual, exponent, 0).clamp(min=LOWEST)).to(largest.dtype)


def power_of_two(exponent: Tensor) -> Tensor:
    """`2**exponent` in float64; zero below the normal numbers, the largest power above them.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.powers import power_of_two
        >>> power_of_two(torch.tensor([-2, 3, -5000]))
        tensor([0.2500, 8.0000, 0.0000], dtype=torch.float64)
    """
    # Put together from bits: exact, where exp2 may round.
    bits = exponent.clamp(LOWEST - 1, HIGHEST).to(torch.int64) + HIGHEST
    return (bits << 52).view(torch.float64)


def powers_of_two(exponent: Tensor) -> tuple[Tensor, Tensor]:
    """Two normal numbers whose product is `2**exponent`, which need not be one."""
    once = exponent.clamp(LOWEST, HIGHEST)
    return power_of_two(once), power_of_two(exponent - once)


def sum_of_exponents(*powers: Tensor) -> Tensor:
    """The exponent of a product of powers of two, whether float64 can hold it or not."""
    exponent = torch.frexp(powers[0]).exponent - 1
    for power in powers[1:]:
        exponent = exponent + torch.frexp(power).exponent - 1
    return exponent


def times_powers(numbers: Tensor, *powers: Tensor) -> Tensor:
    """Float64 numbers times powers of two, whose product alone may leave float64.

    Exact, or the nearest subnormal number, also where float64 is left only on the way.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.powers import times_powers
        >>> large = torch.tensor([2.0**800], dtype=torch.float64)
        >>> times_powers(torch.ones(1).double(), large, large, 1 / large, 1 / large)
        tensor([1.], dtype=torch.float64)
    """
    once, again = powers_of_two(sum_of_exponents(*powers))
    return numbers * once * again


def error_times_powers(error: Tensor, *powers: Tensor) -> Tensor:
    """The same of error bounds, which also cover what the values lose as subnormal numbers.

    A bound of zero stays zero.
    """
    scaled = times_powers(error, *powers)
    return torch.where(error > 0, scaled + 2 * LEAST_NUMBER, scaled)
