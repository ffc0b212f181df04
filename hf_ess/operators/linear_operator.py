"""The abstract causal operator that every mixer is turned into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, MemoryBudgetError

FLOAT64_BYTES = 8


class LinearOperator(ABC):
    """A lower-triangular operator `y = M u` for every sample and group.

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

    def group_chunks(self, memory_budget: int) -> Iterator[slice]:
        """Slices over the groups, each of which can be formed within `memory_budget` bytes.

        Raises:
            MemoryBudgetError: a single group is larger than the budget.
        """
        per_group = self.dense_bytes_per_group()
        if per_group > memory_budget:
            raise MemoryBudgetError(
                f"One operator of length {self.length} for {self.batch} sample(s) needs "
                f"{per_group / 2**20:.0f} MiB, the memory budget is "
                f"{memory_budget / 2**20:.0f} MiB.",
                causes=["the text is long", "many samples are analysed in one batch"],
                fix="Raise memory_budget, lower batch_size, or analyse a shorter text.",
            )
        step = memory_budget // per_group
        for start in range(0, self.groups, step):
            yield slice(start, min(start + step, self.groups))

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
        return self.to_dense(chosen) @ u.to(torch.float64)

    def __repr__(self) -> str:
        size = "grows" if self.state_size is None else self.state_size
        return f"{type(self).__name__}(shape={list(self.shape)}, state_size={size})"
