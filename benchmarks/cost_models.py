"""Flops and bytes of the ways to measure a head or channel, and what they come to elsewhere.

A flop is one addition or one multiplication. L is the length, h = L / 2, P a number of positions,
N the numbers of a state, w a window. Leading terms only; the rates that are fitted to measurements
take the rest. The shares of divide and conquer are sums over its tree: at depth k it eliminates
`2^k - 1` times v = h / 2^k rows from panels of 3 v columns, 26/3 v^3 flops each with the products
that follow, and the spine adds one product of v^3 at each depth to that of h^3 at its root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT64_BYTES = 8
# Of h^3, for each half of the positions: 26/3 * (1/3 - 1/7) for every shift, 2 + 2/7 once.
FLOPS_PER_SHIFT = 104 / 63
FLOPS_ONCE = 16 / 7
# Squares of h in float64: nodes of one shift, and the halves with their Gram matrices.
SQUARES_PER_SHIFT = 5
SQUARES_ONCE = 6
ENTROPY_SHIFTS = 10
SHIFTS_PER_TOLERANCE = 2


def gram_flops(length: int, positions: int) -> float:
    """Cumulative Gram and eigenvalues at evenly spread positions.

    The Gram in the middle takes 2 h^3, those on both sides 2/3 h^3 each; eigenvalues of n rows
    4/3 n^3, and n^3 is h^3 / 4 in the mean.

    Example:
        >>> gram_flops(2, 0) == 10 / 3
        True
    """
    return (10 / 3 + positions / 3) * (length / 2) ** 3


def dividing_flops(length: int, shifts: int) -> float:
    """Divide and conquer at all positions.

    Example:
        >>> round(dividing_flops(2, 1), 3)
        7.873
    """
    return 2 * (FLOPS_ONCE + FLOPS_PER_SHIFT * shifts) * (length / 2) ** 3


def dividing_bytes(length: int) -> float:
    """Memory of one head with one shift at a time.

    Example:
        >>> dividing_bytes(1024) / 2**20
        30.0
    """
    halves = (SQUARES_PER_SHIFT + SQUARES_ONCE) * (length / 2) ** 2
    return FLOAT64_BYTES * (length**2 + halves)


def certified_shifts(tolerances: int) -> int:
    """Shifts for entropy and certified counts.

    Example:
        >>> certified_shifts(3)
        16
    """
    return ENTROPY_SHIFTS + SHIFTS_PER_TOLERANCE * tolerances


def recurrence_flops(length: int, states: int, positions: int) -> float:
    """Two triangular factors, one row after the other, and a product of triangles per position.

    Example:
        >>> recurrence_flops(1024, 16, 63)
        2080768.0
    """
    return 4.0 * length * states**2 + 4.0 * positions * states**3


def window_flops(window: int, positions: int) -> float:
    """Gram and eigenvalues of square windows.

    Example:
        >>> window_flops(3, 1)
        90.0
    """
    return 10 / 3 * window**3 * positions


def row_flops(length: int, head_size: int) -> float:
    """The scores of all rows of a head.

    Example:
        >>> row_flops(4, 2)
        64.0
    """
    return 2.0 * length**2 * head_size


@dataclass(frozen=True)
class Attention:
    """A model's attention.

    Args:
        name: of the model.
        layers: how many.
        heads: of a layer.
        head_size: channels of a head.
    """

    name: str
    layers: int
    heads: int
    head_size: int


LLAMA_70B = Attention("Llama-3-70B", layers=80, heads=64, head_size=128)
# Float64 products on the tensor cores of an H100 SXM, as its maker gives it.
H100_FLOPS = 67e12
# Where no efficiency was measured.
ASSUMED_EFFICIENCY = {"dividing": 0.5, "windows": 0.1}


@dataclass(frozen=True)
class Projection:
    """What something would take; not measured.

    Args:
        what: the analysis.
        flops: of all heads.
        bytes_per_head: of float64 numbers that are held at once.
        efficiency: share of the rate of products that is reached.
    """

    what: str
    flops: float
    bytes_per_head: float
    efficiency: float

    def hours(self, gpus: int, rate: float = H100_FLOPS) -> float:
        """Time on some GPUs that share the heads, none of them waiting."""
        return self.flops / (gpus * rate * self.efficiency) / 3600


def projections(
    model: Attention, length: int, window: int, tolerances: int, efficiency: Mapping[str, float]
) -> list[Projection]:
    """All positions of all heads: in windows, and whole blocks certified.

    Example:
        >>> windows, whole = projections(LLAMA_70B, 32768, 128, 3, ASSUMED_EFFICIENCY)
        >>> windows.flops < whole.flops / 100, whole.hours(64) * 8 == whole.hours(8)
        (True, True)
    """
    heads = model.layers * model.heads
    windows = window_flops(window, length - 1) + row_flops(length, model.head_size)
    return [
        Projection(
            f"windows of {window}",
            heads * windows,
            FLOAT64_BYTES * 4.0 * window * length,
            efficiency["windows"],
        ),
        Projection(
            f"whole blocks, entropy and {tolerances} tolerances certified",
            heads * dividing_flops(length, certified_shifts(tolerances)),
            dividing_bytes(length),
            efficiency["dividing"],
        ),
    ]
