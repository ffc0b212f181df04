"""The blocks `M[i:, :i]` of an operator, and the part of them that is not zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.spectra.powers import error_times_powers, times_powers

Window = int | tuple[int, int] | None


def resolve_window(window: Window) -> tuple[int, int] | None:
    """`(future, past)` of a windowed block, from None, one width for both, or the two widths.

    Raises:
        InvalidTypeError: not whole numbers.
        InvalidInputError: a width below one, or not two widths.
    """
    if window is None:
        return None
    widths = window if isinstance(window, tuple | list) else (window, window)
    if any(isinstance(width, bool) or not hasattr(width, "__index__") for width in widths):
        raise InvalidTypeError(
            f"A window must be a whole number or a pair of them, got {window!r}.",
            fix="Pass None, a width, or (future, past).",
        )
    if len(widths) != 2 or min(widths) < 1:
        raise InvalidInputError(
            f"A window needs one or two widths of at least 1, got {window!r}.",
            fix="Pass None, a width, or (future, past).",
        )
    return int(widths[0]), int(widths[1])


def block_shape(position: int, length: int, window: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of the block at a position."""
    future, past = window or (length, length)
    return min(future, length - position), min(past, position)


@dataclass(frozen=True)
class Region:
    """The part of some operators that holds the blocks of one half of the positions.

    The blocks of the later half are those of the earlier half of the operator transposed and
    flipped along both axes, which keeps it causal and moves position i to L - i. A region is
    always an earlier half, so that its blocks have at least as many rows as columns.

    Args:
        matrices: `[n, R, C]` float64, a copy with nothing but entries of blocks, each matrix
            divided by a power of two so that its largest entry lies in [1/2, 1).
        scales: `[n, 2]` float64, two powers of two per matrix, whose product was divided out.
        positions: positions within the region, ascending.
        length: L of the operators.
        window: `(future, past)`, or None for whole blocks; exchanged if flipped.
        last_reader: `[C]`, last row of the operator in which a column is not zero, else -1.
        first_source: `[R]`, first column in which a row is not zero, else L.
    """

    matrices: Tensor
    scales: Tensor
    positions: tuple[int, ...]
    length: int
    window: tuple[int, int] | None
    last_reader: Tensor
    first_source: Tensor

    def span(self, position: int) -> tuple[slice, slice]:
        """Rows and columns of the region that a block takes."""
        rows, columns = block_shape(position, self.length, self.window)
        top = position - self.positions[0]
        return slice(top, top + rows), slice(position - columns, position)

    def used_columns(self, position: int) -> Tensor:
        """Columns of a block, counted from its first, that are read from the position on."""
        _, columns = self.span(position)
        return (self.last_reader[columns] >= position).nonzero()[:, 0]

    def block(self, position: int) -> Tensor:
        """`[n, rows, columns]`: a block without the rows and columns that are zero throughout."""
        rows, columns = self.span(position)
        block = self.matrices[:, rows, columns]
        used_rows = (self.first_source[rows] < position).nonzero()[:, 0]
        used_columns = self.used_columns(position)
        if len(used_rows) < block.shape[1]:
            block = block.index_select(1, used_rows)
        if len(used_columns) < block.shape[2]:
            block = block.index_select(2, used_columns)
        return block

    def used_counts(self) -> tuple[list[int], list[int]]:
        """Rows and columns that are not zero in the whole block of each position."""
        first_row, device = self.positions[0], self.matrices.device
        rows = torch.arange(first_row, self.length, device=device)
        columns = torch.arange(self.positions[-1], device=device)
        at = torch.tensor(self.positions, device=device)
        open_rows = _open_intervals(self.first_source, rows, self.length)
        open_columns = _open_intervals(columns, self.last_reader, self.length)
        return open_rows[at].tolist(), open_columns[at].tolist()

    def unscale(self, values: Tensor) -> Tensor:
        """Singular values `[n, ...]` of the scaled blocks in the units of the operators."""
        return times_powers(values, *self._powers(values.ndim))

    def unscale_error(self, error: Tensor) -> Tensor:
        """Bounds `[n, ...]` on their error in the units of the operators."""
        return error_times_powers(error, *self._powers(error.ndim))

    def _powers(self, axes: int) -> list[Tensor]:
        return [powers.reshape(-1, *[1] * (axes - 1)) for powers in self.scales.unbind(-1)]


def region_of(
    matrices: Tensor,
    positions: tuple[int, ...],
    window: tuple[int, int] | None = None,
    *,
    flipped: bool = False,
) -> Region:
    """Cuts out of `[n, L, L]` what the blocks of ascending positions need, and scales it.

    Args:
        matrices: `[n, L, L]` float64, left as they are.
        positions: ascending; descending positions of the later half if flipped.
        window: `(future, past)` in terms of the operators.
        flipped: whether to transpose and flip, for positions in the later half.
    """
    length = matrices.shape[-1]
    first_row, last_column = min(positions), max(positions)
    part = matrices[:, first_row:, :last_column]
    if flipped:
        part = part.mT.flip(-1, -2)
        positions = tuple(length - position for position in positions)
        window = None if window is None else (window[1], window[0])
    # The diagonal is in no block and must not decide about the scale.
    part = part.tril(positions[0] - 1)
    scales = _scales(part)
    # Before the division, by which small numbers become zeros: those are zeros up to an error.
    last_reader, first_source = _support(part, length)
    part.div_(scales[:, :1, None]).div_(scales[:, 1:, None])
    return Region(part, scales, positions, length, window, last_reader, first_source)


def _support(part: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Last row that reads each column and first column that each row reads, over all matrices."""
    nonzero = (part != 0).any(0)
    read = nonzero.to(torch.uint8)
    last = length - 1 - read.flip(0).argmax(0)
    first = read.argmax(1)
    return torch.where(nonzero.any(0), last, -1), torch.where(nonzero.any(1), first, length)


def _open_intervals(begin: Tensor, end: Tensor, length: int) -> Tensor:
    """How many of the intervals `begin < i <= end` hold each i in 0..L, int64 `[L + 1]`."""
    real = begin < end
    opened = torch.bincount(begin[real] + 1, minlength=length + 2)
    closed = torch.bincount(end[real] + 1, minlength=length + 2)
    return (opened - closed).cumsum(0)


def _scales(part: Tensor) -> Tensor:
    """Two powers of two per matrix, their product just above its largest entry, `[n, 2]`."""
    largest = torch.linalg.vector_norm(part, ord=torch.inf, dim=(-2, -1))
    exponent = torch.frexp(largest).exponent.to(torch.int64)
    half = exponent // 2
    # Put together from their bits: exact, where exp2 may round.
    bits = torch.stack([half, exponent - half], dim=-1) + 1023
    return (bits << 52).view(torch.float64)
