"""Operators that may have a small recurrence behind them, and how recurrences are put together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators.cascades import CascadeSteps, ParallelSteps
from hf_ess.operators.features import Feature, Span
from hf_ess.operators.linear_operator import LinearOperator
from hf_ess.operators.recurrent import RecurrentOperator, Stretch


class RealizableOperator(LinearOperator):
    """An operator that knows whether it is a recurrence with a small state."""

    @abstractmethod
    def realization(self) -> RecurrentOperator | None:
        """The same operator as a recurrence, None if no small one is known."""

    @abstractmethod
    def _apply(self, u: Tensor, groups: slice) -> Tensor:
        """`M u` for float64 `[B, g, L, C]`."""

    def apply(self, u: Tensor, groups: slice | None = None) -> Tensor:
        chosen = groups if groups is not None else slice(0, self.groups)
        expected = (self.batch, len(range(*chosen.indices(self.groups))), self.length)
        if u.ndim != 4 or tuple(u.shape[:-1]) != expected:
            raise InvalidInputError(
                f"The operator maps inputs of shape {[*expected, 'C']}, got {list(u.shape)}."
            )
        return self._apply(u.to(torch.float64), chosen)


def realization(operator: LinearOperator) -> RecurrentOperator | None:
    """The operator as a recurrence, None if it has no small state that is known.

    Args:
        operator: of any structure.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator, ScalarDecay, StateSpaceOperator
        >>> from hf_ess.operators.realizations import realization
        >>> print(realization(DenseOperator(torch.eye(3))))
        None
        >>> ones = torch.ones(1, 1, 5, 2)
        >>> realization(StateSpaceOperator(ScalarDecay(ones[..., 0]), ones, ones)).width
        2
    """
    if isinstance(operator, RecurrentOperator):
        return operator
    return operator.realization() if isinstance(operator, RealizableOperator) else None


def groups_of_part(part: LinearOperator, groups: slice) -> slice:
    """The groups of a part, which may have a single one for all groups of the whole."""
    return groups if part.groups > 1 else slice(0, 1)


class MadeOfParts(LinearOperator):
    """An operator of given samples and groups that is as long as its parts."""

    _batch: int
    _groups: int
    _parts: Sequence[LinearOperator]

    @property
    def batch(self) -> int:
        return self._batch

    @property
    def groups(self) -> int:
        return self._groups

    @property
    def length(self) -> int:
        return self._parts[0].length

    @property
    def device(self) -> torch.device:
        return self._parts[0].device


class _Combination(MadeOfParts, RecurrentOperator):
    """A recurrence made of others; parts may have one sample or one group for all."""

    def __init__(self, *parts: RecurrentOperator, batch: int, groups: int) -> None:
        self._parts: tuple[RecurrentOperator, ...] = parts
        self._batch = batch
        self._groups = groups

    @property
    def width(self) -> int:
        return sum(part.width for part in self._parts)

    @property
    def state_size(self) -> int | None:
        return sum(part.state_size or 0 for part in self._parts)

    def _stretches(self, groups: slice, start: int, stop: int) -> list[Stretch]:
        shape = self._batch, len(range(*groups.indices(self._groups)))
        parts = [p.stretch(groups_of_part(p, groups), start, stop) for p in self._parts]
        return [
            Stretch(
                part.steps,
                part.write.expand(*shape, -1, -1),
                part.read.expand(*shape, -1, -1),
                part.direct.expand(*shape, -1),
            )
            for part in parts
        ]


class ScaledRecurrence(_Combination):
    """Outputs or inputs of a recurrence times a number for each step: folded into its vectors."""

    def __init__(
        self, part: RecurrentOperator, scale: Feature, *, rows: bool, batch: int, groups: int
    ) -> None:
        super().__init__(part, batch=batch, groups=groups)
        self._scale = scale
        self._rows = rows

    def stretch(self, groups: slice, start: int, stop: int) -> Stretch:
        (part,) = self._stretches(groups, start, stop)
        scale = self._scale.widened(Span(groups, self._groups, start, stop))
        write, read = part.write, part.read
        if self._rows:
            read = read * scale[..., None]
        else:
            write = write * scale[..., None]
        return Stretch(part.steps, write, read, part.direct * scale)


class SumRecurrence(_Combination):
    """Two recurrences side by side."""

    def stretch(self, groups: slice, start: int, stop: int) -> Stretch:
        first, second = self._stretches(groups, start, stop)
        return Stretch(
            ParallelSteps(first.steps, second.steps, first.write.shape[-1]),
            torch.cat([first.write, second.write], -1),
            torch.cat([first.read, second.read], -1),
            first.direct + second.direct,
        )


class CascadeRecurrence(_Combination):
    """The outputs of a first recurrence are the inputs of a second.

    With `y1 = c1 h1 + d1 u` and `y = c2 h2 + d2 y1`, both read before the update:
    `A = [[A1, 0], [b2 c1, A2]]`, `b = [b1; b2 d1]`, `c = [d2 c1, c2]`, `d = d2 d1`.
    """

    def stretch(self, groups: slice, start: int, stop: int) -> Stretch:
        first, second = self._stretches(groups, start, stop)
        return Stretch(
            CascadeSteps(first.steps, second.steps, first.read, second.write),
            torch.cat([first.write, second.write * first.direct[..., None]], -1),
            torch.cat([first.read * second.direct[..., None], second.read], -1),
            first.direct * second.direct,
        )
