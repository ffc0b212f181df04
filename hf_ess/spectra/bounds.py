"""How wrong computed singular values can be.

The constants are measured, not proved: what can be proved is larger by orders of magnitude. An
operator worse than every one tried would break them.

Squares. Forming `H'H` and its eigenvalues errs by a multiple of `u * s1**2`, u = 2**-53, which a
root turns into `sqrt(multiple * u) * s1` for values near zero. The multiple is largest for blocks
of low rank whose entries hardly differ (uniform averages, steps, slowly varying outer products),
where rounding errors agree in sign, and then grows linearly with the smaller dimension n:

    n             16    64   128   256   512  1024  1220  1983
    largest seen   5     9    17    33    57   100   404   572

Random blocks stay far below. A sum over all rows in one sweep would reach 174 at n = 1024 on its
own account; sums of 128 rows at a time do not (see `gram.py`). Cumulating over m rows rounds each
entry about sqrt(2 m) times, which is what counts where n is tiny. The bound takes
8 + n/2 + sqrt(2 m).

Singular values by LAPACK's `gesdd` err most on the same kind of block, measured on constant
blocks, whose values are known: 26 u * s1 at 13 x 107, 640 at 171 x 1368, 1338 at 487 x 1951.
The bound takes 16 + 2 * max(rows, columns). Both were measured with MKL on a CPU only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDING = 2.0**-53
# What products of entries may lose by underflow; blocks are scaled to entries below one.
UNDERFLOW = 2.0**-1022


def gram_error(largest: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bound on |error| of singular values from Grams; sides of the scaled blocks as float64."""
    multiple = 8 + torch.minimum(rows, columns) / 2 + (2 * torch.maximum(rows, columns)).sqrt()
    underflow = math.sqrt(UNDERFLOW) * (rows * columns).sqrt()
    return (multiple * ROUNDING).sqrt() * largest + underflow


def svd_error(largest: Tensor, rows: int | Tensor, columns: int | Tensor) -> Tensor:
    """Bound on |error| of `torch.linalg.svdvals` of scaled `rows x columns` blocks."""
    longer = torch.maximum(torch.as_tensor(rows), torch.as_tensor(columns))
    return (16 + 2 * longer) * ROUNDING * largest + UNDERFLOW
