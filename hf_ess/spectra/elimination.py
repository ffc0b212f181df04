"""Elimination in many small symmetric matrices at once: `B' A^-1 B` for panels `[A | B]`.

The matrices are worked off in blocks of a few dozen rows. Only the blocks on the diagonal meet
LAPACK; what is left are batched products, which CPUs and GPUs do several times faster than
factorizations of this size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Wide enough for products to pay, narrow enough that the diagonal blocks cost little.
PIVOT_BLOCK = 32


class Workspace:
    """Buffers that are used again, so that large temporaries are not mapped anew each time."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor that is valid until the same name is taken again."""
        count = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < count:
            buffer = torch.empty(count, dtype=self.dtype, device=self.device)
            self._buffers[name] = buffer
        return buffer[:count].view(shape)


@dataclass(frozen=True)
class Eliminated:
    """`B' A^-1 B` in factors: it is `rows' @ scaled_rows`.

    Args:
        rows: `[b, v, n]`, B divided by the block triangle of A.
        scaled_rows: `[b, v, n]`, the same divided by the block diagonal, if that is not one.
        statistic: `[b]`, log-determinant of a positive definite A, else its negative eigenvalues.
    """

    rows: Tensor
    scaled_rows: Tensor
    statistic: Tensor


def eliminate_definite(panel: Tensor) -> Eliminated:
    """Works off positive definite matrices `[b, v, v]`, the left part of `[b, v, v + n]`, in place.

    Entries that are not finite say that a matrix was not positive definite in this precision.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.elimination import eliminate_definite
        >>> panel = torch.tensor([[[4.0, 2.0, 2.0], [2.0, 5.0, 1.0]]])
        >>> done = eliminate_definite(panel)
        >>> round((done.rows.mT @ done.scaled_rows).item(), 6), done.statistic.exp()
        (1.0, tensor([16.]))
    """
    batch, size, _ = panel.shape
    log_determinant = panel.new_zeros(batch)
    for start in range(0, size, PIVOT_BLOCK):
        stop = min(start + PIVOT_BLOCK, size)
        triangle = torch.linalg.cholesky_ex(panel[:, start:stop, start:stop]).L
        log_determinant += 2 * triangle.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        identity = torch.eye(stop - start, dtype=panel.dtype, device=panel.device)
        inverse = torch.linalg.solve_triangular(triangle, identity.expand_as(triangle), upper=False)
        rows = torch.bmm(inverse, panel[:, start:stop, stop:])
        panel[:, start:stop, stop:] = rows
        if stop < size:
            panel[:, stop:, stop:].baddbmm_(rows[:, :, : size - stop].mT, rows, alpha=-1)
    rest = panel[:, :, size:]
    return Eliminated(rest, rest, log_determinant)


def eliminate_indefinite(panel: Tensor, scaled: Tensor) -> Eliminated:
    """The same for symmetric matrices of any signs; `scaled` is room of the panel's shape.

    Blocks are factored symmetrically and with pivoting inside. Neither inverses nor
    unsymmetric factors would do: blocks have entries up to `(s_1 / t)^2` and still
    eigenvalues near one, whose signs only an error that is itself symmetric leaves alone.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.elimination import eliminate_indefinite
        >>> panel = torch.tensor([[[0.0, 2.0, 2.0], [2.0, 0.0, 1.0]]])
        >>> done = eliminate_indefinite(panel, torch.empty_like(panel))
        >>> (done.rows.mT @ done.scaled_rows).item(), done.statistic
        (2.0, tensor([1.]))
    """
    size = panel.shape[1]
    negative = panel.new_zeros(len(panel))
    for start in range(0, size, PIVOT_BLOCK):
        stop = min(start + PIVOT_BLOCK, size)
        factored = torch.linalg.ldl_factor_ex(panel[:, start:stop, start:stop])
        negative += _negative_pivots(factored.LD, factored.pivots)
        rows = panel[:, start:stop, stop:]
        solved = torch.linalg.ldl_solve(factored.LD, factored.pivots, rows)
        scaled[:, start:stop, stop:] = solved
        if stop < size:
            panel[:, stop:, stop:].baddbmm_(rows[:, :, : size - stop].mT, solved, alpha=-1)
    return Eliminated(panel[:, :, size:], scaled[:, :, size:], negative)


def log_pivots(matrices: Tensor) -> Tensor:
    """`log |det|` of quasidefinite symmetric `[w, w, ...]`, `[...]`, without exchanges.

    The matrices run along the last axes, so that tiny ones are worked off many at a time; they
    are overwritten, and only their upper triangles are read.

    Source: Vanderbei, "Symmetric quasidefinite matrices", SIAM Journal on Optimization 5 (1995):
    these have pivots in any order.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.elimination import log_pivots
        >>> log_pivots(torch.tensor([[-2.0, 4.0], [4.0, 2.0]])[..., None]).exp()
        tensor([20.])
    """
    size = len(matrices)
    for step in range(size - 1):
        row = matrices[step, step + 1 :]
        factors = row / matrices[step, step]
        for offset in range(size - step - 1):
            below = step + 1 + offset
            matrices[below, below:].addcmul_(factors[offset], row[offset:], value=-1)
    diagonal = torch.stack([matrices[step, step] for step in range(size)])
    total: Tensor = diagonal.abs().log_().sum(0)
    return total


def negative_eigenvalues(matrices: Tensor) -> Tensor:
    """How many eigenvalues of symmetric `[..., w, w]` are negative, `[...]` int64.

    Only the lower triangles are read. Source: Sylvester's law of inertia; Bunch and Kaufman,
    "Some stable methods for calculating inertia and solving symmetric linear systems",
    Mathematics of Computation 31 (1977): each of their blocks of two has one negative eigenvalue.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.elimination import negative_eigenvalues
        >>> negative_eigenvalues(torch.tensor([[[0.0, 2.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]]))
        tensor([1, 0])
    """
    factored = torch.linalg.ldl_factor_ex(matrices)
    return _negative_pivots(factored.LD, factored.pivots)


def _negative_pivots(factors: Tensor, pivots: Tensor) -> Tensor:
    single = pivots > 0
    diagonal = factors.diagonal(dim1=-2, dim2=-1)
    negative: Tensor = ((diagonal < 0) & single).sum(-1) + (~single).sum(-1) // 2
    return negative
