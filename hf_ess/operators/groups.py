"""Some groups of an operator as an operator of their own, by the same route to its spectra."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.operators.compositions import Composition
from hf_ess.operators.convolution import ConvolutionOperator
from hf_ess.operators.linear_operator import EVERYTHING, LinearOperator
from hf_ess.operators.mimo import MimoOperator
from hf_ess.operators.realizations import RealizableOperator
from hf_ess.operators.recurrent import RecurrentOperator, Stretch


class GroupsOfOperator(LinearOperator):
    """The operators of some neighbouring groups; nothing is copied.

    Args:
        whole: `[B, G, L, L]`.
        start, stop: the groups start..stop-1 of it.
    """

    def __init__(self, whole: LinearOperator, start: int, stop: int) -> None:
        self.whole = whole
        self.start = start
        self.stop = stop

    @property
    def batch(self) -> int:
        return self.whole.batch

    @property
    def groups(self) -> int:
        return self.stop - self.start

    @property
    def length(self) -> int:
        return self.whole.length

    @property
    def device(self) -> torch.device:
        return self.whole.device

    @property
    def state_size(self) -> int | None:
        return self.whole.state_size

    def capacity(self, positions: Tensor) -> Tensor:
        return self._own(self.whole.capacity(positions))

    def attainable(self, positions: Tensor) -> Tensor:
        return self._own(self.whole.attainable(positions))

    def dense_bytes_per_group(self) -> int:
        return self.whole.dense_bytes_per_group()

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        return self.whole.block_bytes_per_group(rows, columns)

    def to_dense(self, groups: slice | None = None) -> Tensor:
        return self.whole.to_dense(self.within(groups))

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        return self.whole.to_dense_block(self.within(groups), rows, columns)

    def apply(self, u: Tensor, groups: slice | None = None) -> Tensor:
        return self.whole.apply(u, self.within(groups))

    def within(self, groups: slice | None) -> slice:
        """Where groups of this operator are in the whole."""
        first, last, _ = (groups or slice(None)).indices(self.groups)
        return slice(self.start + first, self.start + last)

    def _own(self, by_group: Tensor) -> Tensor:
        return by_group if by_group.shape[1] == 1 else by_group[:, self.start : self.stop]


class GroupsOfRecurrence(GroupsOfOperator, RecurrentOperator):
    """Some groups of a recurrence."""

    whole: RecurrentOperator

    @property
    def width(self) -> int:
        return self.whole.width

    def stretch(self, groups: slice, start: int, stop: int) -> Stretch:
        return self.whole.stretch(self.within(groups), start, stop)

    def factor_bytes_per_group(self, kept: int, steps: int) -> int:
        return self.whole.factor_bytes_per_group(kept, steps)


class GroupsOfRealizable(GroupsOfOperator, RealizableOperator):
    """Some groups of an operator that may be a recurrence."""

    whole: RealizableOperator

    def realization(self) -> RecurrentOperator | None:
        recurrence = self.whole.realization()
        if recurrence is None:
            return None
        return GroupsOfRecurrence(recurrence, self.start, self.stop)

    def _apply(self, u: Tensor, groups: slice) -> Tensor:
        return self.whole._apply(u, self.within(groups))


class GroupsOfConvolution(GroupsOfOperator, ConvolutionOperator):
    """Some groups of a convolution."""

    whole: ConvolutionOperator

    @property
    def memory(self) -> int:
        return self.whole.memory

    @property
    def constant(self) -> bool:
        return self.whole.constant

    @property
    def short(self) -> bool:
        return self.whole.short

    def taps(self, groups: slice, start: int, stop: int) -> Tensor:
        return self.whole.taps(self.within(groups), start, stop)

    def diagonal(self, groups: slice, start: int, stop: int) -> Tensor:
        return self.whole.diagonal(self.within(groups), start, stop)


def some_groups(operator: LinearOperator, start: int, stop: int) -> LinearOperator | None:
    """The groups start..stop-1 as an operator, None where groups cannot be told apart.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator
        >>> from hf_ess.operators.groups import some_groups
        >>> some_groups(DenseOperator(torch.ones(4, 3, 3).tril()), 1, 3).shape
        (1, 2, 3, 3)
    """
    if isinstance(operator, MimoOperator):
        return None
    if isinstance(operator, RecurrentOperator):
        return GroupsOfRecurrence(operator, start, stop)
    if isinstance(operator, ConvolutionOperator):
        return GroupsOfConvolution(operator, start, stop)
    if isinstance(operator, Composition):
        return GroupsOfRealizable(operator, start, stop)
    return GroupsOfOperator(operator, start, stop)
