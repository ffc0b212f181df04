"""An operator that is given as its matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError, NonFiniteError, NotCausalError
from hf_ess.operators.linear_operator import EVERYTHING, FLOAT64_BYTES, LinearOperator


def future_share(matrix: Tensor) -> float:
    """Largest |entry| above the diagonal, relative to the largest |entry|.

    Args:
        matrix: `[..., L, L]`.

    Example:
        >>> import torch
        >>> from hf_ess.operators import future_share
        >>> future_share(torch.ones(3, 3).tril())
        0.0
    """
    meter = FutureMeter()
    meter.add(matrix)
    return meter.share


# Rows looked at together, so that little is copied to tell past and future apart.
ROWS_AT_ONCE = 64


class FutureMeter:
    """`future_share` of a matrix of which some rows are seen at a time.

    Example:
        >>> import torch
        >>> from hf_ess.operators.dense import FutureMeter
        >>> meter = FutureMeter()
        >>> meter.add(torch.tensor([[2.0, 0.0]]))
        >>> meter.add(torch.tensor([[1.0, 2.0]]), first_row=1)
        >>> meter.share
        0.0
    """

    def __init__(self) -> None:
        self._future = self._largest = 0.0

    def add(self, rows: Tensor, first_row: int = 0) -> None:
        """Adds rows `[..., R, L]` of the matrix, of which the first is number `first_row`."""
        for start in range(0, rows.shape[-2] if rows.numel() else 0, ROWS_AT_ONCE):
            strip = rows[..., start : start + ROWS_AT_ONCE, :]
            now, end = first_row + start, first_row + start + strip.shape[-2]
            corner = strip[..., now:end].triu(1)
            future = max(_largest(part) for part in (corner, strip[..., end:]) if part.numel())
            self._future = max(self._future, future)
            self._largest = max(self._largest, future, _largest(strip[..., :end]))

    @property
    def share(self) -> float:
        """Largest |entry| above the diagonal, relative to the largest |entry|."""
        return self._future / self._largest if self._largest else 0.0


def _largest(matrix: Tensor) -> float:
    """Largest |entry|, without a copy of the matrix; row by row is far faster than at once."""
    return max(matrix.amax(-1).max().item(), -matrix.amin(-1).min().item())


class DenseOperator(LinearOperator):
    """A causal operator given as a dense matrix.

    Args:
        matrix: `[L, L]`, `[G, L, L]` or `[B, G, L, L]`, real, lower triangular up to rounding.
        state_size: largest rank that the structure behind the matrix allows, None if unknown.

    Raises:
        InvalidTypeError: not a real floating-point tensor.
        InvalidInputError: not square, or empty.
        NonFiniteError: NaN or infinite entries.
        NotCausalError: entries above the diagonal larger than rounding.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator
        >>> DenseOperator(torch.ones(4, 4).tril()).shape
        (1, 1, 4, 4)
    """

    def __init__(self, matrix: Tensor, *, state_size: int | None = None) -> None:
        if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
            raise InvalidTypeError(
                "A dense operator needs a real floating-point torch tensor, got "
                f"{matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__}."
            )
        if (
            matrix.ndim not in (2, 3, 4)
            or matrix.shape[-1] != matrix.shape[-2]
            or not matrix.numel()
        ):
            raise InvalidInputError(
                "A dense operator needs shape [L, L], [G, L, L] or [B, G, L, L], "
                f"got {list(matrix.shape)}."
            )
        if not torch.isfinite(matrix).all():
            raise NonFiniteError("The operator's matrix has NaN or infinite entries.")
        share = future_share(matrix)
        rounding = torch.finfo(matrix.dtype).eps * matrix.shape[-1]
        if share > rounding:
            raise NotCausalError(
                f"The matrix is not lower triangular: entries above the diagonal reach {share:.1e} "
                "of the largest entry.",
                causes=["the mixer is bidirectional", "rows and columns are exchanged"],
                fix="Pass M with outputs in rows and inputs in columns, or matrix.tril().",
            )
        self._matrix = matrix[(None,) * (4 - matrix.ndim)]
        self._state_size = state_size

    @property
    def batch(self) -> int:
        return self._matrix.shape[0]

    @property
    def groups(self) -> int:
        return self._matrix.shape[1]

    @property
    def length(self) -> int:
        return self._matrix.shape[-1]

    @property
    def device(self) -> torch.device:
        return self._matrix.device

    @property
    def state_size(self) -> int | None:
        return self._state_size

    def to_dense(self, groups: slice | None = None) -> Tensor:
        chosen = self._matrix if groups is None else self._matrix[:, groups]
        return chosen.to(torch.float64)

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        chosen = self._matrix if groups is None else self._matrix[:, groups]
        return chosen[..., rows, columns].to(torch.float64)

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        return 2 * self.batch * rows * columns * FLOAT64_BYTES
