"""Operators made of attention weights: of two heads, or of sources in other places."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators.attention import AttentionOperator
from hf_ess.operators.graphs import tracked
from hf_ess.operators.linear_operator import EVERYTHING, FLOAT64_BYTES


class _MadeOfAttention(AttentionOperator):
    """An operator of the size of the attention that it is made of."""

    attention: AttentionOperator

    @property
    def batch(self) -> int:
        return self.attention.batch

    @property
    def groups(self) -> int:
        return self.attention.groups

    @property
    def length(self) -> int:
        return self.attention.length

    @property
    def device(self) -> torch.device:
        return self.attention.device


class DifferentialAttentionOperator(_MadeOfAttention):
    """`M_h = T_h - share * T_{h + H/2}`: two attention maps on the same values.

    Args:
        attention: T, with an even number of heads.
        share: how much of the second map is subtracted.

    Raises:
        InvalidInputError: an odd number of heads.

    Source: Ye et al., "Differential Transformer", ICLR 2025, eq. 1.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DifferentialAttentionOperator, SoftmaxAttentionOperator
        >>> same = torch.zeros(1, 2, 3, 4)
        >>> pair = DifferentialAttentionOperator(SoftmaxAttentionOperator(same, same), 0.5)
        >>> pair.to_dense()[0, 0, 1]
        tensor([0.2500, 0.2500, 0.0000], dtype=torch.float64)
    """

    def __init__(self, attention: AttentionOperator, share: float) -> None:
        if attention.groups % 2:
            raise InvalidInputError(f"{attention.groups} heads do not form pairs.")
        self.attention = attention
        self.share = share

    @property
    def groups(self) -> int:
        return self.attention.groups // 2

    def visible_rows(self, rows: slice) -> Tensor:
        visible = self.attention.visible_rows(rows)
        if visible.shape[1] == 1:
            return visible
        return visible[:, : self.groups] | visible[:, self.groups :]

    def dense_bytes_per_group(self) -> int:
        return 2 * self.attention.dense_bytes_per_group()

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        return 2 * self.attention.block_bytes_per_group(rows, columns)

    def to_dense(self, groups: slice | None = None) -> Tensor:
        return self.to_dense_block(groups)

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        pairs = range(self.groups)[groups or slice(None)]
        first, second = slice(pairs.start, pairs.stop), self.groups
        shifted = slice(pairs.start + second, pairs.stop + second)
        subtracted = self.attention.to_dense_block(shifted, rows, columns) * self.share
        weights = self.attention.to_dense_block(first, rows, columns)
        return weights - subtracted if tracked(weights) else weights.sub_(subtracted)


class PlacedAttentionOperator(_MadeOfAttention):
    """`M_ij = T_{i, source(j)}`: attention to sources that belong to other places of the text.

    A source that is complete at token j (a summary of the tokens up to j), or that repeats token
    j, is a column j of the operator. The inputs are the sources at those places.

    Args:
        attention: T `[B, H, L, S]`, an operator on S sources that need not be L.
        sources: for each place the number of its source, -1 for none, `[L]` or `[H, L]`.

    Raises:
        InvalidInputError: sources of another length than the operator.

    Source: ours.

    Example:
        >>> import torch
        >>> from hf_ess.operators import PlacedAttentionOperator, SoftmaxAttentionOperator
        >>> same = torch.zeros(1, 1, 3, 4)
        >>> of_the_token_before = torch.tensor([1, 2, -1])
        >>> attention = SoftmaxAttentionOperator(same, same)
        >>> PlacedAttentionOperator(attention, of_the_token_before).to_dense()[0, 0, 1]
        tensor([0.5000, 0.0000, 0.0000], dtype=torch.float64)
    """

    def __init__(self, attention: AttentionOperator, sources: Tensor) -> None:
        if sources.shape[-1] != attention.length:
            raise InvalidInputError(
                f"{sources.shape[-1]} places for an operator of length {attention.length}."
            )
        self.attention = attention
        self.sources = sources.to(attention.device).reshape(-1, attention.length)

    def visible_rows(self, rows: slice) -> Tensor:
        return self._placed(self.attention.visible_rows(rows), self.sources)

    def dense_bytes_per_group(self) -> int:
        placed = 2 * self.batch * self.length**2 * FLOAT64_BYTES
        return self.attention.dense_bytes_per_group() + placed

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        placed = 2 * self.batch * rows * columns * FLOAT64_BYTES
        return self.attention.block_bytes_per_group(rows, self.length) + placed

    def to_dense(self, groups: slice | None = None) -> Tensor:
        return self.to_dense_block(groups)

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        sources = self.sources[:, columns]
        if len(sources) > 1:
            sources = sources[groups or EVERYTHING]
        return self._placed(self.attention.to_dense_block(groups, rows), sources)

    @staticmethod
    def _placed(matrix: Tensor, sources: Tensor) -> Tensor:
        """Columns of `[B|1, h|1, R, S]` in their places, `[B|1, h|1, R, C]`."""
        heads = max(matrix.shape[1], len(sources))
        shape = matrix.shape[0], heads, matrix.shape[2], sources.shape[-1]
        index = sources.clamp(min=0)[None, :, None, :].expand(shape)
        columns = matrix.expand(-1, heads, -1, -1).gather(-1, index)
        return columns.masked_fill_((sources < 0)[None, :, None, :], 0)
