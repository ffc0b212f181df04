"""Singular values of blocks together with how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.spectra.powers import LEAST_NUMBER


@dataclass(frozen=True)
class Spectra:
    """Singular values of the blocks `M[i:, :i]` of some operators, with their error.

    Args:
        values: `[..., P, K]` float64, descending, padded with zeros.
        error_bound: `[..., P]` float64, bound on the absolute error of every value.
        sizes: `[..., P]` int64, how many values were computed; those after them are zero exactly,
            because the block has no more rows or columns that are not zero.
        from_squares: `[..., P]` bool, whether the values are roots of computed squares, so that
            large values are far more accurate than the bound says.
        positions: the P positions.
        window: `(future, past)` if the blocks are `M[i:i+future, i-past:i]`, else None.
        method: how the values were computed: "gram", "svd", "gram+svd", or a structured method.
        reason: why this method.

    Source: the bound is ours; Parnichkun et al., ICML 2025, eq. 2 counts values above a
    tolerance, which means nothing once the tolerance lies below the error.

    Example:
        >>> import torch
        >>> from hf_ess.spectra import block_singular_values
        >>> spectra = block_singular_values(torch.ones(4, 4).tril(), "all")
        >>> (spectra.values[1] > 1e-3).sum()  # a sum of everything before: one number is kept
        tensor(1)
        >>> bool((spectra.error_bound < 1e-6).all())
        True
    """

    values: Tensor
    error_bound: Tensor
    sizes: Tensor
    from_squares: Tensor
    positions: tuple[int, ...]
    window: tuple[int, int] | None = None
    method: str = "svd"
    reason: str = ""

    def value_errors(self) -> Tensor:
        """Bound on the absolute error of each value, `[..., P, K]` float64.

        A square known to bound**2 moves its root s by at most min(bound, bound**2 / s), since
        |a - b| = |a**2 - b**2| / (a + b). Padding is exact.
        """
        bound = self.error_bound[..., None].expand_as(self.values)
        below = torch.where(self.values > bound, bound / self.values, 1.0)
        # Roots are rounded once more where they are no normal numbers.
        of_roots = torch.minimum(bound, bound * below + 2 * LEAST_NUMBER)
        errors = torch.where(self.from_squares[..., None], of_roots, bound)
        return torch.where(self._computed(), errors, 0.0)

    def undecided(self, tolerance: float) -> Tensor:
        """How many values lie so near to a tolerance that rounding decides, `[..., P]` int64.

        A count of the values above the tolerance is exact wherever this is zero.

        Raises:
            InvalidInputError: the tolerance is negative or not finite.

        Example:
            >>> import torch
            >>> from hf_ess.spectra import block_singular_values
            >>> spectra = block_singular_values(torch.ones(6, 6).tril(), [3], method="gram")
            >>> spectra.undecided(1e-3).item(), spectra.undecided(1e-12).item()
            (0, 2)
        """
        if not math.isfinite(tolerance) or tolerance < 0:
            raise InvalidInputError(f"A tolerance must be finite and >= 0, got {tolerance!r}.")
        near = (self.values - tolerance).abs() <= self.value_errors()
        return (near & self._computed()).sum(-1)

    def reshape(self, leading: Sequence[int]) -> Spectra:
        """The same spectra with other leading axes."""
        return replace(
            self,
            values=self.values.reshape(*leading, *self.values.shape[-2:]),
            error_bound=self.error_bound.reshape(*leading, self.error_bound.shape[-1]),
            sizes=self.sizes.reshape(*leading, self.sizes.shape[-1]),
            from_squares=self.from_squares.reshape(*leading, self.from_squares.shape[-1]),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Spectra], dim: int) -> Spectra:
        """Spectra of more operators at the same positions, joined along a leading axis.

        Parts with fewer values per block are padded with zeros.
        """
        if len(parts) == 1:
            return parts[0]
        widest = max(part.values.shape[-1] for part in parts)
        padded = [
            torch.nn.functional.pad(part.values, (0, widest - part.values.shape[-1]))
            for part in parts
        ]
        methods = sorted({name for part in parts for name in part.method.split("+")})
        reasons = sorted({part.reason for part in parts}, key=len)
        return replace(
            parts[0],
            values=torch.cat(padded, dim),
            error_bound=torch.cat([part.error_bound for part in parts], dim),
            sizes=torch.cat([part.sizes for part in parts], dim),
            from_squares=torch.cat([part.from_squares for part in parts], dim),
            method="+".join(methods),
            reason=reasons[-1],
        )

    def _computed(self) -> Tensor:
        index = torch.arange(self.values.shape[-1], device=self.values.device)
        return index < self.sizes[..., None]
