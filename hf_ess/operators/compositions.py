"""Operators made of operators: gates, sums and products.

A gated convolution is `RowScaled(ColumnScaled(convolution, x1), x2)`; a Mamba mixer with its
activations a and gates g held fixed is `RowScaled(Product(core, RowScaled(convolution, a)), g)`.
Parts may have a single sample or a single group, which then serves all. Where every part is a
recurrence, so is the result, and its spectra never form M.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators.features import Feature, Span, common_size
from hf_ess.operators.linear_operator import EVERYTHING, FLOAT64_BYTES, LinearOperator
from hf_ess.operators.realizations import (
    CascadeRecurrence,
    MadeOfParts,
    RealizableOperator,
    ScaledRecurrence,
    SumRecurrence,
    groups_of_part,
    realization,
)
from hf_ess.operators.recurrent import RecurrentOperator


class Composition(MadeOfParts, RealizableOperator):
    """An operator made of others, of the size of the largest."""

    def __init__(self, *parts: LinearOperator, batch: int = 1, groups: int = 1) -> None:
        self.parts = self._parts = parts
        names = [f"part {number}" for number in range(len(parts))]

        def sizes(axis: int, given: int) -> dict[str, int]:
            shown = dict(zip(names, (part.shape[axis] for part in parts), strict=True))
            return shown | {"scale": given}

        self._batch = common_size(sizes(0, batch), "samples")
        self._groups = common_size(sizes(1, groups), "groups")
        if len({part.length for part in parts}) > 1:
            raise InvalidInputError(
                f"The parts have different lengths: {[part.length for part in parts]}."
            )

    @property
    def state_size(self) -> int | None:
        sizes = [part.state_size for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def capacity(self, positions: Tensor) -> Tensor:
        """What the parts can carry together, at most everything before."""
        first, *others = (part.capacity(positions) for part in self.parts)
        for other in others:
            first = first + other
        return torch.minimum(first, positions.to(first))

    def dense_bytes_per_group(self) -> int:
        return super().dense_bytes_per_group() + sum(p.dense_bytes_per_group() for p in self.parts)

    def realization(self) -> RecurrentOperator | None:
        realized = [realization(part) for part in self.parts]
        recurrences = [part for part in realized if part is not None]
        return self._combined(recurrences) if len(recurrences) == len(realized) else None

    @abstractmethod
    def _combined(self, parts: list[RecurrentOperator]) -> RecurrentOperator:
        """The recurrence that follows from those of the parts."""

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        own = 3 * self.batch * rows * columns * FLOAT64_BYTES
        return own + sum(part.block_bytes_per_group(rows, columns) for part in self.parts)

    def to_dense(self, groups: slice | None = None) -> Tensor:
        return self.to_dense_block(groups)

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        chosen = groups if groups is not None else slice(0, self._groups)
        bounds = (slice(*part.indices(self.length)[:2]) for part in (rows, columns))
        matrix = self._block(chosen, *bounds)
        count = len(range(*chosen.indices(self._groups)))
        return matrix.expand(self._batch, count, -1, -1)

    @abstractmethod
    def _block(self, groups: slice, rows: slice, columns: slice) -> Tensor:
        """Rows and columns of M, `[B|1, g|1, R, C]`."""

    def _blocks_of_parts(self, groups: slice, rows: slice, columns: slice) -> list[Tensor]:
        return [
            part.to_dense_block(groups_of_part(part, groups), rows, columns) for part in self.parts
        ]


def apply_part(part: LinearOperator, u: Tensor, groups: slice) -> Tensor:
    """`M u` of a part that may have one sample or one group for all of `[B, g, L, C]`."""
    batch, count, length, channels = u.shape
    samples = batch if part.batch == 1 else 1
    repeats = count if part.groups == 1 else 1
    # Samples and groups that share an operator are channels to it.
    split = u.reshape(batch // samples, samples, count // repeats, repeats, length, channels)
    order = (0, 2, 4, 1, 3, 5)
    folded = split.permute(order).reshape(batch // samples, count // repeats, length, -1)
    out = part.apply(folded, groups_of_part(part, groups))
    shape = [split.shape[axis] for axis in order]
    return out.reshape(shape).permute(0, 3, 1, 4, 2, 5).reshape(u.shape)


class _Scaled(Composition):
    """A part and one number for each of its rows or columns."""

    _rows: bool

    def __init__(self, operator: LinearOperator, scale: Tensor) -> None:
        feature = Feature("scale", scale, 3)
        super().__init__(operator, batch=scale.shape[0], groups=scale.shape[1])
        common_size({"operator": operator.length, "scale": scale.shape[2]}, "length")
        self._scale = feature

    def capacity(self, positions: Tensor) -> Tensor:
        return self.parts[0].capacity(positions)

    def attainable(self, positions: Tensor) -> Tensor:
        return self.parts[0].attainable(positions)

    def scale(self, groups: slice | None = None, tokens: slice = EVERYTHING) -> Tensor:
        """The numbers of some tokens in float64, `[B|1, g|1, s|1]`."""
        chosen = groups if groups is not None else slice(0, self._groups)
        start, stop, _ = tokens.indices(self.length)
        return self._scale.widened(Span(chosen, self._groups, start, stop))

    def _combined(self, parts: list[RecurrentOperator]) -> RecurrentOperator:
        return ScaledRecurrence(
            parts[0], self._scale, rows=self._rows, batch=self._batch, groups=self._groups
        )


class RowScaled(_Scaled):
    """`diag(a) T`: a gate on the outputs, or a normaliser of rows.

    Args:
        operator: T.
        scale: a, `[B|1, G|1, L|1]`.

    Raises:
        InvalidInputError: shapes that do not fit together.
        NonFiniteError: NaN or infinite numbers.

    Source: Parnichkun et al., ICML 2025, section 3 (gated convolutions, `C_i h_{i-j} B_j`).

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator, RowScaled
        >>> sums = ConvolutionOperator(torch.ones(1, 2), length=2)
        >>> RowScaled(sums, torch.tensor([[[1.0, 10.0]]])).to_dense()[0, 0]
        tensor([[ 1.,  0.],
                [10., 10.]], dtype=torch.float64)
    """

    _rows = True

    def _block(self, groups: slice, rows: slice, columns: slice) -> Tensor:
        (block,) = self._blocks_of_parts(groups, rows, columns)
        return block * self.scale(groups, rows)[..., :, None]

    def _apply(self, u: Tensor, groups: slice) -> Tensor:
        return apply_part(self.parts[0], u, groups) * self.scale(groups)[..., None]


class ColumnScaled(_Scaled):
    """`T diag(b)`: a gate on the inputs. Errors and source as for `RowScaled`.

    Args:
        operator: T.
        scale: b, `[B|1, G|1, L|1]`.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ColumnScaled, ConvolutionOperator
        >>> sums = ConvolutionOperator(torch.ones(1, 2), length=2)
        >>> ColumnScaled(sums, torch.tensor([[[1.0, 10.0]]])).to_dense()[0, 0]
        tensor([[ 1.,  0.],
                [ 1., 10.]], dtype=torch.float64)
    """

    _rows = False

    def _block(self, groups: slice, rows: slice, columns: slice) -> Tensor:
        (block,) = self._blocks_of_parts(groups, rows, columns)
        return block * self.scale(groups, columns)[..., None, :]

    def _apply(self, u: Tensor, groups: slice) -> Tensor:
        return apply_part(self.parts[0], u * self.scale(groups)[..., None], groups)


class Sum(Composition):
    """`T1 + T2`: mixers in parallel; the states lie side by side.

    Args:
        first: an operator.
        second: one of the same length; one sample or group of either may serve all of the other.

    Raises:
        InvalidInputError: shapes that do not fit together.

    Source: ours; parallel connection of realizations.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator, Sum
        >>> Sum(DenseOperator(torch.eye(2)), DenseOperator(torch.eye(2))).to_dense()[0, 0]
        tensor([[2., 0.],
                [0., 2.]], dtype=torch.float64)
    """

    def __init__(self, first: LinearOperator, second: LinearOperator) -> None:
        super().__init__(first, second)

    def _block(self, groups: slice, rows: slice, columns: slice) -> Tensor:
        first, second = self._blocks_of_parts(groups, rows, columns)
        return first + second

    def _apply(self, u: Tensor, groups: slice) -> Tensor:
        return apply_part(self.parts[0], u, groups) + apply_part(self.parts[1], u, groups)

    def _combined(self, parts: list[RecurrentOperator]) -> RecurrentOperator:
        return SumRecurrence(*parts, batch=self._batch, groups=self._groups)


class Product(Composition):
    """`T2 T1`: a mixer after another, such as a short convolution before a recurrence.

    Args:
        last: T2, applied second.
        first: T1, applied first. Operators of the same length; one sample or group may serve all.

    Raises:
        InvalidInputError: shapes that do not fit together.

    Source: ours; cascade of realizations. The rank of a block is at most the sum of both.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator, Product
        >>> delay = ConvolutionOperator(torch.tensor([[0.0, 1.0]]), length=3)
        >>> Product(delay, delay).to_dense()[0, 0, 2]
        tensor([1., 0., 0.], dtype=torch.float64)
    """

    def __init__(self, last: LinearOperator, first: LinearOperator) -> None:
        super().__init__(last, first)

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        """What lies between: the tokens from the first column to the last row."""
        between = min(self.length, rows + columns)
        last, first = self.parts
        own = self.batch * rows * columns * FLOAT64_BYTES
        return (
            own
            + last.block_bytes_per_group(rows, between)
            + first.block_bytes_per_group(between, columns)
        )

    def _block(self, groups: slice, rows: slice, columns: slice) -> Tensor:
        # Both are causal: a token before the columns or after the rows carries nothing between.
        between = slice(min(columns.start, rows.start), rows.stop)
        last, first = self.parts
        return last.to_dense_block(
            groups_of_part(last, groups), rows, between
        ) @ first.to_dense_block(groups_of_part(first, groups), between, columns)

    def _apply(self, u: Tensor, groups: slice) -> Tensor:
        return apply_part(self.parts[0], apply_part(self.parts[1], u, groups), groups)

    def _combined(self, parts: list[RecurrentOperator]) -> RecurrentOperator:
        last, first = parts
        return CascadeRecurrence(first, last, batch=self._batch, groups=self._groups)
