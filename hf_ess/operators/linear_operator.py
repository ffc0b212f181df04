"""The abstract causal operator that every mixer is turned into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators.chunks import chunks_of_groups, rows_that_fit, slices

FLOAT64_BYTES = 8
EVERYTHING = slice(None)


class LinearOperator(ABC):
    """A lower-triangular operator `y = M u` for every sample and group.

    `DenseOperator` is the plainest one, `StateSpaceOperator` the form of most recurrences.

    A *group* is a set of channels that share one operator (the value channels of an attention
    head, all channels of a Mamba-2 head). Letters: B samples, G groups, L sequence length,
    C channels of a group.

    A subclass says its shape, how many bytes a dense group costs while it is formed, and how to
    form it; everything else follows. Structure overrides `apply` and `state_size` where it helps.

    Source: Parnichkun et al., ICML 2025, section 3 (input-varying linear operators); the
    operator is called T there.
    """

    @property
    @abstractmethod
    def batch(self) -> int:
        """B, the number of samples."""

    @property
    @abstractmethod
    def groups(self) -> int:
        """G, the number of operators per sample."""

    @property
    @abstractmethod
    def length(self) -> int:
        """L, the sequence length."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the operator's tensors live."""

    @abstractmethod
    def to_dense(self, groups: slice | None = None) -> Tensor:
        """M as float64 `[B, G', L, L]` for the chosen groups (all of them by default)."""

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        """Some rows and columns of M as float64 `[B, G', R, C]`, equal to rounding to the matrix's.

        Here the part is cut out of the whole; an operator that can form rows alone overrides this
        together with `block_bytes_per_group`. Slices have no step.

        Example:
            >>> import torch
            >>> from hf_ess.operators import SoftmaxAttentionOperator
            >>> same = torch.zeros(1, 1, 4, 2)
            >>> SoftmaxAttentionOperator(same, same).to_dense_block(None, slice(1, 3), slice(0, 2))
            tensor([[[[0.5000, 0.5000],
                      [0.3333, 0.3333]]]], dtype=torch.float64)
        """
        return self.to_dense(groups)[..., rows, columns]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(B, G, L, L)`."""
        return self.batch, self.groups, self.length, self.length

    @property
    def state_size(self) -> int | None:
        """Largest state that the structure can carry, None where it grows with the position."""
        return None

    def capacity(self, positions: Tensor) -> Tensor:
        """Theoretically realizable state-size (TSS) at each position, int64 `[B|1, G|1, P]`."""
        size = positions if self.state_size is None else positions.clamp(max=self.state_size)
        return size.to(torch.int64)[None, None, :]

    def attainable(self, positions: Tensor) -> Tensor:
        """`min(TSS_i, i, L - i)`, the largest rank of block H_i, int64 `[B|1, G|1, P]`."""
        room = torch.minimum(positions, self.length - positions)
        return torch.minimum(self.capacity(positions), room.to(torch.int64)[None, None, :])

    def dense_bytes_per_group(self) -> int:
        """Peak bytes needed to form one dense group for all samples, temporaries included."""
        return 3 * self.batch * self.length**2 * FLOAT64_BYTES

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        """Peak bytes to form so many rows and columns of one group, temporaries included."""
        return self.dense_bytes_per_group()

    def group_chunks(self, memory_budget: int, *, share: int = 1) -> Iterator[slice]:
        """Slices over the groups, each of which can be formed within the memory budget.

        Args:
            memory_budget: bytes.
            share: the part of it that forming M may take: one half for 2.

        Raises:
            MemoryBudgetError: a single group is larger than that.
        """
        return chunks_of_groups(self, memory_budget, share)

    def apply(self, u: Tensor, groups: slice | None = None) -> Tensor:
        """`M u` in float64; u and the result are `[B, G', L, C]` for the chosen groups.

        Raises:
            InvalidInputError: u has another shape than the operator.
        """
        chosen = groups if groups is not None else slice(0, self.groups)
        expected = (self.batch, len(range(*chosen.indices(self.groups))), self.length)
        if tuple(u.shape[:-1]) != expected:
            raise InvalidInputError(
                f"The operator maps inputs of shape {[*expected, 'C']}, got {list(u.shape)}."
            )
        rows_at_once = rows_that_fit(
            lambda rows: self.block_bytes_per_group(rows, self.length), self.length, expected[1]
        )
        wide = u.to(torch.float64)
        parts = [
            self.to_dense_block(chosen, rows) @ wide for rows in slices(self.length, rows_at_once)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)

    def __repr__(self) -> str:
        size = "grows" if self.state_size is None else self.state_size
        return f"{type(self).__name__}(shape={list(self.shape)}, state_size={size})"
