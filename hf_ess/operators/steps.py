"""Transitions of a few consecutive steps in float64, and what they do to rows of factors.

Rows are `[B, g, r, N]`: forward they are rows of `R'` (one row for each input, the state that it
left behind), backward rows of `O` (one row for each output, the state that it will read). One
step sends a forward row x to `x A'` and a backward row x to `x A`. Complex states are carried as
2N real numbers `[Re | Im]`, so that every factor is real and so are the operators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


def planar(vectors: Tensor, *, conjugate: bool = False) -> Tensor:
    """Complex `[..., N]` as real `[..., 2N]`, real parts first; a read vector is conjugated.

    Example:
        >>> import torch
        >>> from hf_ess.operators.steps import planar
        >>> planar(torch.tensor([1 + 2j]), conjugate=True)
        tensor([ 1., -2.])
    """
    imaginary = -vectors.imag if conjugate else vectors.imag
    return torch.cat([vectors.real, imaginary], -1)


def _multiply(rows: Tensor, factors: Tensor, *, conjugate: bool) -> Tensor:
    """Rows times diagonal factors, real or complex (then of planar rows)."""
    if not factors.is_complex():
        return rows * factors
    real, imaginary = rows.chunk(2, -1)
    turned = -factors.imag if conjugate else factors.imag
    return torch.cat(
        [
            real * factors.real - imaginary * turned,
            real * turned + imaginary * factors.real,
        ],
        -1,
    )


class Steps(ABC):
    """Transitions `A_t` of s consecutive steps of some groups.

    A subclass changes rows in place by one step; structure overrides whole stretches.
    """

    # Whether rounding in one number of the state reaches the others.
    mixes = True

    @property
    @abstractmethod
    def length(self) -> int:
        """s, the number of steps."""

    @abstractmethod
    def part(self, start: int, stop: int) -> Steps:
        """The steps start..stop-1 of these."""

    @abstractmethod
    def forward_(self, rows: Tensor, step: int) -> None:
        """`rows @ A'` of one step, in place."""

    @abstractmethod
    def backward_(self, rows: Tensor, step: int) -> None:
        """`rows @ A` of one step, in place."""

    @abstractmethod
    def before(self, read: Tensor) -> Tensor:
        """`C_t A_t` of every step at once, `[B, g, s, N]`."""

    def forward(self, rows: Tensor, write: Tensor) -> Tensor:
        """Rows after all steps, then one for each step's own input, `[B, g, r + s, N]`."""
        known = rows.shape[-2]
        out = _with_room(rows, self.length)
        out[:, :, :known] = rows
        for step in range(self.length):
            self.forward_(out[:, :, : known + step], step)
            out[:, :, known + step] = write[:, :, step]
        return out

    def backward(self, rows: Tensor, read: Tensor) -> Tensor:
        """One row for each step's own output, then rows before all steps, `[B, g, s + r, N]`."""
        out = _with_room(rows, self.length)
        out[:, :, self.length :] = rows
        for step in reversed(range(self.length)):
            self.backward_(out[:, :, step + 1 :], step)
            out[:, :, step] = read[:, :, step]
        return out


def _with_room(rows: Tensor, more: int) -> Tensor:
    """Uninitialised room for rows and so many more."""
    batch, groups, known, width = rows.shape
    return rows.new_empty(batch, groups, known + more, width)


class DiagonalSteps(Steps):
    """`A_t = diag(decay_t)`, decay `[B|1, g|1, s, N|1]`, float64 or complex128."""

    mixes = False

    def __init__(self, decay: Tensor) -> None:
        self.decay = decay

    @property
    def length(self) -> int:
        return self.decay.shape[-2]

    def part(self, start: int, stop: int) -> Steps:
        return DiagonalSteps(self.decay[:, :, start:stop])

    def forward_(self, rows: Tensor, step: int) -> None:
        self._step(rows, step, conjugate=False)

    def backward_(self, rows: Tensor, step: int) -> None:
        self._step(rows, step, conjugate=True)

    def _step(self, rows: Tensor, step: int, *, conjugate: bool) -> None:
        factors = self.decay[:, :, step : step + 1]
        if factors.is_complex():
            rows.copy_(_multiply(rows, factors, conjugate=conjugate))
        else:
            rows.mul_(factors)

    def before(self, read: Tensor) -> Tensor:
        return _multiply(read, self.decay, conjugate=True)

    # Products from either end need no quotients, so that resets (decay 0) need no care.
    def from_start(self) -> Tensor:
        """`decay_0 ... decay_t` for every t, `[B|1, g|1, s, N|1]`."""
        return self.decay.cumprod(-2)

    def to_end(self) -> Tensor:
        """`decay_t ... decay_{s-1}` for every t, `[B|1, g|1, s, N|1]`."""
        return self.decay.flip(-2).cumprod(-2).flip(-2)

    def forward(self, rows: Tensor, write: Tensor) -> Tensor:
        products, known = self.to_end(), rows.shape[-2]
        out = _with_room(rows, self.length)
        out[:, :, :known] = _multiply(rows, products[:, :, :1], conjugate=False)
        out[:, :, known:-1] = _multiply(write[:, :, :-1], products[:, :, 1:], conjugate=False)
        out[:, :, -1] = write[:, :, -1]
        return out

    def backward(self, rows: Tensor, read: Tensor) -> Tensor:
        products, new = self.from_start(), self.length
        out = _with_room(rows, new)
        out[:, :, 0] = read[:, :, 0]
        out[:, :, 1:new] = _multiply(read[:, :, 1:], products[:, :, :-1], conjugate=True)
        out[:, :, new:] = _multiply(rows, products[:, :, -1:], conjugate=True)
        return out


class OuterSteps(DiagonalSteps):
    """`A_t = diag(exp(rate * step_t))`, rate `[1, g, 1, N]`, step `[B, g, s, 1]`, float64.

    The sums that the products need run over `[B, g, s, 1]` alone, once for all N states.
    """

    def __init__(self, rate: Tensor, step: Tensor) -> None:
        self.rate = rate
        self.step = step

    @property
    def length(self) -> int:
        return self.step.shape[-2]

    @property
    def decay(self) -> Tensor:  # type: ignore[override]
        return torch.exp(self.rate * self.step)

    def part(self, start: int, stop: int) -> Steps:
        return OuterSteps(self.rate, self.step[:, :, start:stop])

    def _step(self, rows: Tensor, step: int, *, conjugate: bool) -> None:
        factors = torch.exp(self.rate * self.step[:, :, step : step + 1])
        rows.copy_(_multiply(rows, factors, conjugate=conjugate))

    def from_start(self) -> Tensor:
        return torch.exp(self.rate * self.step.cumsum(-2))

    def to_end(self) -> Tensor:
        return torch.exp(self.rate * self.step.flip(-2).cumsum(-2).flip(-2))


class LowRankSteps(Steps):
    """`A_t = diag(d_t) + a_t b_t'` with d `[.., s, N|1]`, a and b `[.., s, N]`, float64.

    Source: Yang et al., "Parallelizing Linear Transformers with the Delta Rule", NeurIPS 2024
    (delta rules); Peng et al., RWKV-7, 2025 (generalised).
    """

    def __init__(self, diagonal: Tensor, left: Tensor, right: Tensor) -> None:
        self.diagonal = diagonal
        self.left = left
        self.right = right

    @property
    def length(self) -> int:
        return self.left.shape[-2]

    def part(self, start: int, stop: int) -> Steps:
        tensors = self.diagonal, self.left, self.right
        return LowRankSteps(*(tensor[:, :, start:stop] for tensor in tensors))

    def forward_(self, rows: Tensor, step: int) -> None:
        self._step(rows, self.left, self.right, step)

    def backward_(self, rows: Tensor, step: int) -> None:
        self._step(rows, self.right, self.left, step)

    def _step(self, rows: Tensor, to: Tensor, along: Tensor, step: int) -> None:
        share = rows @ along[:, :, step, :, None]
        rows.mul_(self.diagonal[:, :, step, None]).addcmul_(share, to[:, :, step, None])

    def before(self, read: Tensor) -> Tensor:
        share = (read * self.left).sum(-1, keepdim=True)
        return read * self.diagonal + share * self.right


class DenseSteps(Steps):
    """`A_t` as matrices `[B|1, g|1, s, N, N]`, float64."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = matrices

    @property
    def length(self) -> int:
        return self.matrices.shape[2]

    def part(self, start: int, stop: int) -> Steps:
        return DenseSteps(self.matrices[:, :, start:stop])

    def forward_(self, rows: Tensor, step: int) -> None:
        rows.copy_(rows @ self.matrices[:, :, step].mT)

    def backward_(self, rows: Tensor, step: int) -> None:
        rows.copy_(rows @ self.matrices[:, :, step])

    def before(self, read: Tensor) -> Tensor:
        return (read[..., None, :] @ self.matrices)[..., 0, :]


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

    def before(self, read: Tensor) -> Tensor:
        return _shifted(read, -1)


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

    def before(self, read: Tensor) -> Tensor:
        first = self.first.before(read[..., : self.split])
        return torch.cat([first, self.second.before(read[..., self.split :])], -1)

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
        passed = first @ self.read[:, :, step, :, None]
        self.first.forward_(first, step)
        self.second.forward_(second, step)
        second.addcmul_(passed, self.write[:, :, step, None])

    def backward_(self, rows: Tensor, step: int) -> None:
        first, second = rows[..., : self._split], rows[..., self._split :]
        passed = second @ self.write[:, :, step, :, None]
        self.first.backward_(first, step)
        self.second.backward_(second, step)
        first.addcmul_(passed, self.read[:, :, step, None])

    def before(self, read: Tensor) -> Tensor:
        first, second = read[..., : self._split], read[..., self._split :]
        passed = (second * self.write).sum(-1, keepdim=True)
        both = self.first.before(first) + passed * self.read, self.second.before(second)
        return torch.cat(both, -1)
