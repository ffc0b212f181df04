"""Decompositions of very many very small matrices, all of them in step.

Matrices come batch-last: `[rows, columns, lanes]`, one matrix per lane. Every operation is
elementwise over the lanes, so that tiny matrices fill the vector units of a processor or a GPU,
where libraries lose most of their time between matrices. Nothing is pivoted and nothing branches
on a single matrix; what differs between lanes is chosen by masks.

Source: Golub and Kahan, "Calculating the singular values and pseudo-inverse of a matrix", 1965
(bidiagonal form); Fernando and Parlett, "Accurate singular values and differential qd
algorithms", 1994; von Matt, "The orthogonal qd-algorithm", 1997 (shifts from the trace of the
inverse, which never pass the smallest eigenvalue). Running all matrices in step is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.spectra.powers import powers_above

# Up to this many columns; libraries win on larger matrices.
MOST_COLUMNS = 32
# Added to pivots of matrices with entries of size one: no reflection is ever undefined, and
# squares of pivots stay normal numbers.
LEAST_PIVOT = 2.0**-470
# Added to squares of bidiagonal entries of size one: quotients by them never overflow.
LEAST_SQUARE = 2.0**-300
# Off-diagonals that change singular values by less than this share of the largest are dropped.
NEGLIGIBLE = 2.0**-54
# Sweeps for one singular value before closer shifts are worth their time: where values are
# nearly equal.
USUAL_SWEEPS = 8
# Keeps the closer shifts below the smallest eigenvalue in spite of cancellation.
LEAST_SPREAD = 2.0**-40
# Keeps a shift below the smallest eigenvalue in spite of rounding.
SAFELY_BELOW = 1 - 2.0**-30
# Sweeps per singular value; seven are usual where lanes wait for each other.
MOST_SWEEPS = 40


class Elimination:
    """Reflects a pivot row and the rows below it so that their first column becomes zero.

    Its views are made once, since making them takes as long as the arithmetic where lanes are
    few; calling it works on what the tensors hold then. Pivot entries must not be negative in
    the first column, nor are they afterwards. The eliminated column is not written.

    Args:
        pivot: `[m, lanes]`, one row.
        rest: `[s, m, lanes]`, the rows below it.
        scratch: `[s, m, lanes]`, room for products.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.lanes import Elimination
        >>> pivot, rest = torch.tensor([[3.0], [0.0]]), torch.tensor([[[4.0], [5.0]]])
        >>> Elimination(pivot, rest, torch.empty(1, 2, 1))()
        >>> pivot[:, 0], rest[0, 1]
        (tensor([5., 4.]), tensor([3.]))
    """

    def __init__(self, pivot: Tensor, rest: Tensor, scratch: Tensor) -> None:
        self._pivot, self._corner, self._pivot_rest = pivot, pivot[0], pivot[1:]
        self._rest, self._others, self._scratch = rest, rest[:, 1:], scratch
        self._column = rest[:, :1]
        self._reflected = torch.empty_like(pivot, memory_format=torch.contiguous_format)
        self._square, self._reflected_rest = self._reflected[0], self._reflected[1:]
        self._root = torch.empty_like(self._square)
        self._share = torch.empty_like(self._reflected_rest)

    def __call__(self) -> None:
        self._corner.add_(LEAST_PIVOT)
        torch.mul(self._rest, self._column, out=self._scratch)
        torch.sum(self._scratch, 0, out=self._reflected)
        self._reflected.addcmul_(self._pivot, self._corner)
        torch.sqrt(self._square, out=self._root)
        self._reflected.div_(self._root)
        torch.add(self._pivot_rest, self._reflected_rest, out=self._share)
        self._share.div_(self._root.add_(self._corner))
        self._others.addcmul_(self._column, self._share, value=-1)
        self._pivot.copy_(self._reflected)


class TriangleMerger:
    """QR decompositions of a triangle above more rows, of one shape again and again.

    Args:
        rows: most rows that ever come below the triangle.
        width: N, columns.
        lanes: how many matrices.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.lanes import TriangleMerger
        >>> merger = TriangleMerger(2, 2, 1, dtype=torch.float32, device=torch.device("cpu"))
        >>> merger.triangle.zero_()[..., 0].shape
        torch.Size([2, 2])
        >>> merger.rows(2)[..., 0] = torch.tensor([[3.0, 0.0], [4.0, 5.0]])
        >>> merger.merge(2)[..., 0]
        tensor([[5., 4.],
                [0., 3.]])
    """

    def __init__(
        self, rows: int, width: int, lanes: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._all = torch.empty(width + rows, width, lanes, dtype=dtype, device=device)
        self._scratch = torch.empty(rows * width * lanes, dtype=dtype, device=device)
        self._prepared: dict[int, list[Elimination]] = {}
        self.triangle = self._all[:width]

    def rows(self, count: int) -> Tensor:
        """Where so many rows go, `[count, N, lanes]`."""
        width = len(self.triangle)
        return self._all[width : width + count]

    def merge(self, count: int) -> Tensor:
        """R of the triangle and so many rows, `[N, N, lanes]`; the rows are overwritten.

        Columns are scaled by powers of two meanwhile, so that their squares are normal numbers.
        The diagonal of R is not negative.
        """
        both = self._all[: len(self.triangle) + count]
        diagonal = self.triangle.diagonal().mT
        self.triangle.mul_(torch.ones_like(diagonal).copysign_(diagonal)[:, None])
        largest = torch.maximum(both.amax(0), both.amin(0).neg_())
        powers = powers_above(largest)
        both.div_(powers)
        for elimination in self._steps(count):
            elimination()
        # Columns of zeros stay so, in spite of the least pivot.
        return self.triangle * torch.where(largest == 0, 0.0, powers)

    def _steps(self, count: int) -> list[Elimination]:
        if count not in self._prepared:
            rows, width, lanes = self.rows(count), len(self.triangle), self.triangle.shape[-1]
            self._prepared[count] = [
                Elimination(
                    self.triangle[step, step:],
                    rows[:, step:],
                    self._scratch[: count * (width - step) * lanes].view(count, -1, lanes),
                )
                for step in range(width)
            ]
        return self._prepared[count]


def product_of_triangles(future: Tensor, past: Tensor) -> Tensor:
    """`O R'` of upper triangles `[N, N, lanes]`, by what of them is not zero."""
    product = torch.zeros_like(future)
    for k in range(len(future)):
        product[: k + 1, : k + 1].addcmul_(future[: k + 1, k, None], past[None, : k + 1, k])
    return product


def bidiagonal_(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal `[n, lanes]` and superdiagonal `[n - 1, lanes]` of orthogonally equal matrices.

    Args:
        matrices: `[n, n, lanes]`, entries of size at most about one. Overwritten.
    """
    size = len(matrices)
    scratch = matrices.new_empty(matrices.numel())
    for step in range(size - 1):
        _reflect(matrices[step:, step:], scratch)
        if step + 2 < size:
            _reflect(matrices[step:, step + 1 :].transpose(0, 1), scratch)
    return matrices.diagonal().mT, matrices.diagonal(1).mT


def _reflect(matrices: Tensor, scratch: Tensor) -> None:
    """Zeros below the first entry of the first column, which is not written itself."""
    pivot, rest = matrices[0], matrices[1:]
    # The sign of a row is a reflection as well.
    pivot *= torch.ones_like(pivot[0]).copysign_(pivot[0])
    Elimination(pivot, rest, scratch[: rest.numel()].view(rest.shape))()


def singular_values(matrices: Tensor) -> Tensor:
    """Singular values `[n, lanes]`, descending, of `[n, n, lanes]`, which are overwritten.

    Entries must be finite and of size at most about one. The error is a few roundings of the
    largest value, as that of LAPACK.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.lanes import singular_values
        >>> singular_values(torch.tensor([[[3.0], [0.0]], [[4.0], [5.0]]]).double())[:, 0]
        tensor([6.7082, 2.2361], dtype=torch.float64)
    """
    return values_of_bidiagonal(*bidiagonal_(matrices))


def values_of_bidiagonal(diagonal: Tensor, above: Tensor, notes: set[str] | None = None) -> Tensor:
    """Singular values `[n, lanes]`, descending, of what `bidiagonal_` returns, finite.

    Lanes that do not converge soon (many equal values beside others) are left to LAPACK on the CPU,
    and noted.
    """
    iteration = _ShiftedQd(diagonal.square(), above.square())
    values = iteration.squares().sqrt_().sort(0, descending=True).values
    if iteration.stuck.any():
        if notes is not None:
            notes.add("some blocks by LAPACK, since iterations in step did not converge")
        lanes = iteration.stuck.nonzero()[:, 0]
        matrices = torch.diag_embed(diagonal[:, lanes].mT)
        matrices += torch.diag_embed(above[:, lanes].mT, offset=1)
        values[:, lanes] = torch.linalg.svdvals(matrices.cpu()).mT.to(values.device)
    return values


class _ShiftedQd:
    """Squares of bidiagonal matrices `B` on their way to diagonal ones.

    A sweep replaces B by another with `B' B'^T = B^T B - shift`, from squares of entries alone.
    Lanes wait for each other at every singular value, but may be ahead by one: a value that
    stands alone is noted and put out of the way, and shifts are those of the remaining ones.

    Args:
        q: squares of the diagonal, `[n, lanes]`.
        e: squares above the diagonal, `[n - 1, lanes]`.
    """

    def __init__(self, q: Tensor, e: Tensor) -> None:
        largest = q.amax(0)
        if len(e):
            largest = torch.maximum(largest, e.amax(0))
        largest.clamp_(min=LEAST_SQUARE)
        self._negligible = NEGLIGIBLE**2 * largest
        self._aside = 2.0**100 * largest
        # A row of zeros first, so that `e[k]` couples `k - 1` and `k`.
        pairs = q + LEAST_SQUARE, torch.cat([torch.zeros_like(q[:1]), e])
        self._now = tuple(tensor.unbind(0) for tensor in pairs)
        self._next = tuple(torch.zeros_like(tensor).unbind(0) for tensor in pairs)
        self._inverses = torch.full_like(q, torch.inf)
        self._inverse = self._inverses.unbind(0)
        self._lowered = torch.zeros_like(largest)
        self._shifted = torch.zeros_like(largest)
        self._one = torch.ones_like(largest)
        self._found = torch.empty_like(q)
        self.stuck = torch.zeros_like(largest, dtype=torch.bool)

    def squares(self) -> Tensor:
        """Squares of the singular values, `[n, lanes]`, in no order."""
        for last in range(len(self._found) - 1, 0, -1):
            self._separate(last)
        torch.add(self._shifted, self._now[0][0], out=self._found[0])
        return self._found

    def _separate(self, last: int) -> None:
        """Sweeps until the last value left stands alone in every lane."""
        before = torch.zeros_like(self._shifted, dtype=torch.bool)
        for sweep in range(MOST_SWEEPS):
            q, e, value = self._now[0][last], self._now[1][last], self._found[last]
            square = self._shifted + q
            # Dropping e moves squares by sqrt(e q) + e, values by that over twice the value.
            alone = self.stuck | (e <= self._negligible)
            alone |= e * (e + q) <= self._negligible * square
            value.copy_(torch.where(before, value, square))
            if alone.all():
                return
            q.copy_(torch.where(alone, self._aside, q))
            e.masked_fill_(alone, 0.0)
            self._inverse[last].masked_fill_(alone, 0.0)
            before = alone
            largest = self._largest_inverse(last, sharp=sweep >= USUAL_SWEEPS)
            # Infinite where it overflows and before the first sweep: then nothing is shifted.
            largest.nan_to_num_(torch.inf, posinf=torch.inf).reciprocal_()
            torch.mul(largest, -SAFELY_BELOW, out=self._lowered)
            self._sweep(last)
        self.stuck |= ~alone

    def _largest_inverse(self, last: int, *, sharp: bool) -> Tensor:
        """At least 1 / the smallest eigenvalue left: the trace of the inverse, or less if sharp.

        With the trace t of the inverse and that of its square, T, of size n, Laguerre's bound is
        `(t + sqrt((n - 1) (n T - t^2))) / n`: exact where all values are equal.
        """
        trace = self._inverses[: last + 1].sum(0)
        if not sharp:
            return trace
        count = last + 1
        spread = (count * self._trace_of_squares(last) - trace.square()).clamp_(min=0)
        spread += count * LEAST_SPREAD * trace.square()
        return (trace + ((count - 1) * spread).sqrt()) / count

    def _trace_of_squares(self, last: int) -> Tensor:
        """Of the inverses of `B B^T`: columns of `B^-1` are short sums of the one before."""
        q, e = self._now
        total = self._inverse[0].square()
        beside = torch.zeros_like(total)
        for k in range(1, last + 1):
            beside = (beside + self._inverse[k - 1].square()) * e[k] / q[k]
            total += self._inverse[k].square() + 2 * beside
        return total

    def _sweep(self, last: int) -> None:
        (q, e), (new_q, new_e), lowered = self._now, self._next, self._lowered
        # Shifts lie below all eigenvalues: what is negative here is a rounding error.
        d = torch.add(q[0], lowered).clamp_(min=LEAST_SQUARE)
        ratio = torch.empty_like(d)
        for k in range(last):
            torch.add(d, e[k + 1], out=new_q[k])
            torch.div(q[k + 1], new_q[k], out=ratio)
            torch.mul(e[k + 1], ratio, out=new_e[k + 1])
            torch.addcmul(lowered, d, ratio, out=d).clamp_(min=LEAST_SQUARE)
        new_q[last].copy_(d)
        self._now, self._next = self._next, self._now
        self._shifted -= lowered
        self._invert(last)

    def _invert(self, last: int) -> None:
        """Diagonals of the inverses of `B B^T`, whose sum is at least that of 1 / smallest."""
        q, e = self._now
        torch.reciprocal(q[0], out=self._inverse[0])
        sum_of = torch.empty_like(q[0])
        for k in range(1, last + 1):
            torch.addcmul(self._one, e[k], self._inverse[k - 1], out=sum_of)
            torch.div(sum_of, q[k], out=self._inverse[k])
