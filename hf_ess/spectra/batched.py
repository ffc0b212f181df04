"""Many small blocks decomposed in one call, with the methods and bounds of whole blocks.

The Gram of the smaller side and its eigenvalues, or an SVD where that is too coarse: what
`engine.py` does block by block. Nothing here waits for the device once per block or operator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_ess.spectra.bounds import gram_error, svd_error
from hf_ess.spectra.engine import Request
from hf_ess.spectra.gram import gram_of_columns
from hf_ess.spectra.powers import error_times_powers, powers_above, times_powers


@dataclass(frozen=True)
class SolvedBlocks:
    """Values `[m, k]`; error, number of values, and whether they are roots of squares, `[m]`."""

    values: Tensor
    error: Tensor
    sizes: Tensor
    from_squares: Tensor


@dataclass(frozen=True)
class BlockBatch:
    """m blocks `[m, R, C]`, scaled by powers of two, rows and columns of zeros last.

    Example:
        >>> import torch
        >>> from hf_ess.spectra import Request
        >>> from hf_ess.spectra.batched import BlockBatch
        >>> block = torch.tensor([[[0.0, 3.0], [0.0, 4.0]]], dtype=torch.float64)
        >>> solved = BlockBatch.of(block).solved(Request((1,)), length=100)
        >>> solved.values, solved.sizes
        (tensor([[5.]], dtype=torch.float64), tensor([1]))
    """

    blocks: Tensor
    scales: Tensor
    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, blocks: Tensor) -> BlockBatch:
        """The blocks with what is not zero moved to the front."""
        scales = powers_above(torch.linalg.vector_norm(blocks, ord=torch.inf, dim=(-2, -1)))
        scaled = blocks / scales[:, None, None]
        # What underflows when it is divided is no zero.
        used = blocks != 0
        used_rows, used_columns = used.any(2), used.any(1)
        scaled = _used_first(_used_first(scaled, used_rows).mT, used_columns).mT
        return cls(scaled, scales, used_rows.sum(1), used_columns.sum(1))

    @property
    def sizes(self) -> Tensor:
        """The largest rank that each block can have, `[m]`."""
        return torch.minimum(self.rows, self.columns)

    def solved(self, request: Request, length: int) -> SolvedBlocks:
        """Singular values by the method of the request, in the units of the operators."""
        method = request.method_for(length)
        values, error = self._by_svd() if method == "svd" else self._by_gram()
        error = error_times_powers(error, self.scales)
        from_squares = torch.full_like(error, method != "svd", dtype=torch.bool)
        if method == "auto" and request.tolerance_floor is not None:
            coarse = (error >= request.tolerance_floor).nonzero()[:, 0]
            if len(coarse):
                exact, smaller = self._some(coarse)._by_svd()
                values[coarse] = exact
                error[coarse] = error_times_powers(smaller, self.scales[coarse])
                from_squares[coarse] = False
        return SolvedBlocks(
            times_powers(values, self.scales[:, None]), error, self.sizes, from_squares
        )

    def _some(self, index: Tensor) -> BlockBatch:
        return BlockBatch(
            self.blocks[index], self.scales[index], self.rows[index], self.columns[index]
        )

    def _empty_values(self) -> Tensor:
        return self.blocks.new_zeros(len(self.blocks), max(1, min(self.blocks.shape[1:])))

    def _computed(self, values: Tensor) -> Tensor:
        """The values of a block; those beyond its rank are zero exactly."""
        index = torch.arange(values.shape[1], device=values.device)
        return torch.where(index < self.sizes[:, None], values, 0.0)

    def _by_gram(self) -> tuple[Tensor, Tensor]:
        """Values `[m, k]` and their error `[m]`, scaled, from the smaller Gram of each block."""
        values = self._empty_values()
        wide = self.rows < self.columns
        for turned in (False, True):
            index = (wide == turned).nonzero()[:, 0]
            size = int(self.sizes[index].max()) if len(index) else 0
            if size:
                blocks = self.blocks[index] if len(index) < len(wide) else self.blocks
                tall = (blocks.mT if turned else blocks)[..., :size]
                squares = torch.linalg.eigvalsh(gram_of_columns(tall)).flip(-1)
                values[index, :size] = squares.clamp_(min=0).sqrt_()
        values = self._computed(values)
        sides = self.rows.to(torch.float64), self.columns.to(torch.float64)
        return values, gram_error(values[:, 0], *sides)

    def _by_svd(self) -> tuple[Tensor, Tensor]:
        """Values `[m, k]` and their error `[m]`, scaled, of the blocks themselves."""
        values = self._empty_values()
        if self.blocks.numel():
            values = self._computed(torch.linalg.svdvals(self.blocks))
        error = svd_error(values[:, 0], self.rows, self.columns)
        return values, torch.where(self.sizes > 0, error, 0.0)


def _used_first(blocks: Tensor, used: Tensor) -> Tensor:
    """Rows `[m, R, C]` in another order, the used ones first, as many as any block has."""
    if bool(used.all()):
        return blocks
    most = int(used.sum(1).max())
    order = (~used).to(torch.uint8).argsort(dim=1, stable=True)[:, :most, None]
    return blocks.gather(1, order.expand(-1, -1, blocks.shape[2]))
