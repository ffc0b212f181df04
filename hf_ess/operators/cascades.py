"""Steps of recurrences that are put together: shifts of inputs, states side by side, cascades."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.operators.graphs import before_change
from hf_ess.operators.steps import Steps


class ShiftSteps(Steps):
    """The state is the last N inputs, newest first: every step moves them on by one."""

    mixes = False

    def __init__(self, length: int) -> None:
        self._length = length

    @property
    def length(self) -> int:
        return self._length

    def part(self, start: int, stop: int) -> Steps:
        return ShiftSteps(stop - start)

    def forward_(self, rows: Tensor, step: int) -> None:
        rows.copy_(_shifted(rows, 1))

    def backward_(self, rows: Tensor, step: int) -> None:
        rows.copy_(_shifted(rows, -1))


def _shifted(rows: Tensor, by: int) -> Tensor:
    out = rows.roll(by, -1)
    out[..., 0 if by > 0 else -1] = 0
    return out


class ParallelSteps(Steps):
    """Two states that do not touch: `A = diag(A1, A2)`, the first of `split` numbers."""

    def __init__(self, first: Steps, second: Steps, split: int) -> None:
        self.first = first
        self.second = second
        self.split = split
        self.mixes = first.mixes or second.mixes

    @property
    def length(self) -> int:
        return self.first.length

    def part(self, start: int, stop: int) -> Steps:
        first, second = self.first.part(start, stop), self.second.part(start, stop)
        return ParallelSteps(first, second, self.split)

    def forward_(self, rows: Tensor, step: int) -> None:
        self.first.forward_(rows[..., : self.split], step)
        self.second.forward_(rows[..., self.split :], step)

    def backward_(self, rows: Tensor, step: int) -> None:
        self.first.backward_(rows[..., : self.split], step)
        self.second.backward_(rows[..., self.split :], step)

    def forward(self, rows: Tensor, write: Tensor) -> Tensor:
        first = self.first.forward(rows[..., : self.split], write[..., : self.split])
        second = self.second.forward(rows[..., self.split :], write[..., self.split :])
        return torch.cat([first, second], -1)

    def backward(self, rows: Tensor, read: Tensor) -> Tensor:
        first = self.first.backward(rows[..., : self.split], read[..., : self.split])
        second = self.second.backward(rows[..., self.split :], read[..., self.split :])
        return torch.cat([first, second], -1)


class CascadeSteps(Steps):
    """The first state feeds the second: `A = [[A1, 0], [b2 c1, A2]]`.

    Args:
        first, second: steps of the two states.
        read: c1 `[B, g, s, N1]`, what the first reads of its state before each step.
        write: b2 `[B, g, s, N2]`, how the second writes what the first read.
    """

    def __init__(self, first: Steps, second: Steps, read: Tensor, write: Tensor) -> None:
        self.first = first
        self.second = second
        self.read = read
        self.write = write
        self._split = read.shape[-1]

    @property
    def length(self) -> int:
        return self.first.length

    def part(self, start: int, stop: int) -> Steps:
        return CascadeSteps(
            self.first.part(start, stop),
            self.second.part(start, stop),
            self.read[:, :, start:stop],
            self.write[:, :, start:stop],
        )

    def forward_(self, rows: Tensor, step: int) -> None:
        first, second = rows[..., : self._split], rows[..., self._split :]
        passed = before_change(first, self.read) @ self.read[:, :, step, :, None]
        self.first.forward_(first, step)
        self.second.forward_(second, step)
        second.addcmul_(passed, self.write[:, :, step, None])

    def backward_(self, rows: Tensor, step: int) -> None:
        first, second = rows[..., : self._split], rows[..., self._split :]
        passed = before_change(second, self.write) @ self.write[:, :, step, :, None]
        self.first.backward_(first, step)
        self.second.backward_(second, step)
        first.addcmul_(passed, self.read[:, :, step, None])
