"""How wrong computed singular values can be.

The constants are measured, not proved: proofs give constants that grow with the dimension and
say nothing useful. Tests check them against spectra that are known.

Squares. Both forming `H'H` and its eigenvalues err by some multiple of `u * s1**2`, u = 2**-53,
which a root turns into `sqrt(multiple * u) * s1` for values near zero. Over kinds of matrices
(random, peaked and flat attention, graded, numerically low rank, repeated rows and columns) and
dimensions n up to 1024 the multiple reached 8 at n = 64, 18 at n = 256 and 46 at n = 1024, every
time on matrices of few different numbers (a uniform average), whose rounding errors agree in
sign. Attention that is learned stays below 1. Summing a Gram in one sweep over all rows would
reach 174 there; sums of 128 rows at a time do not (see `gram.py`). The bound takes twice that.

Singular values by LAPACK's divide and conquer err by up to 150 u * s1 (64 x 960), measured
against one-sided Jacobi in 80-bit arithmetic.
"""

from __future__ import annotations

import math

from torch import Tensor

ROUNDING = 2.0**-53
# What products of entries may lose by underflow; blocks are scaled to entries below one.
UNDERFLOW = 2.0**-1022


def gram_error(largest: Tensor, rows: int, columns: int) -> Tensor:
    """Bound on |error| of singular values from a Gram of a scaled `rows x columns` block."""
    size, summed = min(rows, columns), max(rows, columns)
    multiple = 8 + 2 * math.sqrt(size) + summed / 64
    underflow = math.sqrt(rows * columns) * math.sqrt(UNDERFLOW)
    return math.sqrt(multiple * ROUNDING) * largest + underflow


def svd_error(largest: Tensor, rows: int, columns: int) -> Tensor:
    """Bound on |error| of `torch.linalg.svdvals` of a scaled `rows x columns` block."""
    return 16 * ROUNDING * math.sqrt(max(rows, columns)) * largest + UNDERFLOW
