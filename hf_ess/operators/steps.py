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

from hf_ess.operators.blocked import (
    LEAST_STEPS,
    MOST_STEPS,
    MOST_STEPS_PER_CHANNEL,
    send_rows,
)
from hf_ess.operators.graphs import before_change, multiply_into, tracked


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


def groups_last(tensor: Tensor) -> Tensor:
    """The same `[B, g, s, N]`, groups next to each other in memory: fast where much is per group.

    Example:
        >>> import torch
        >>> from hf_ess.operators.steps import groups_last
        >>> groups_last(torch.zeros(1, 8, 4, 2)).stride()
        (8, 1, 16, 8)
    """
    return room_for(tensor, *tensor.shape).copy_(tensor)


def room_for(like: Tensor, batch: int, groups: int, steps: int, width: int) -> Tensor:
    """Uninitialised `[B, g, s, N]`, groups next to each other in memory."""
    return like.new_empty(steps, width, batch, groups).permute(2, 3, 0, 1)


def _multiply(out: Tensor, rows: Tensor, factors: Tensor, *, conjugate: bool) -> None:
    """Puts rows times diagonal factors, real or complex (then of planar rows), into `out`."""
    if not factors.is_complex():
        multiply_into(out, rows, factors)
        return
    real, imaginary = rows.chunk(2, -1)
    turned = -factors.imag if conjugate else factors.imag
    products = [
        real * factors.real - imaginary * turned,
        real * turned + imaginary * factors.real,
    ]
    if tracked(*products):
        out.copy_(torch.cat(products, -1))
    else:
        torch.cat(products, -1, out=out)


class Steps(ABC):
    """Transitions `A_t` of s consecutive steps of some groups.

    A subclass changes rows in place by one step; structure overrides whole stretches.
    """

    # Whether rounding in one number of the state reaches the others.
    mixes = True

    @property
    def keeps_triangles(self) -> bool:
        """Whether these are `DiagonalSteps` that only put real factors on the columns of rows."""
        return False

    @property
    def tracked(self) -> bool:
        """Whether autograd follows what the steps do."""
        values = vars(self).values()
        parts = any(value.tracked for value in values if isinstance(value, Steps))
        return parts or tracked(*(value for value in values if isinstance(value, Tensor)))

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


class TransitionSteps(Steps):
    """Steps that can also turn what reads the state after a step into what reads it before."""

    @abstractmethod
    def before(self, read: Tensor) -> Tensor:
        """`C_t A_t` of every step at once, `[B, g, s, N]`."""

    @abstractmethod
    def from_identity(self, state: int) -> Tensor:
        """`|A_t - I|_F` of every step of N = `state` numbers, `[B|1, g|1, s]`; complex ones too."""


def _with_room(rows: Tensor, more: int) -> Tensor:
    """Uninitialised room for rows and so many more."""
    batch, groups, known, width = rows.shape
    return rows.new_empty(batch, groups, known + more, width)


class DiagonalSteps(TransitionSteps):
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
            _multiply(rows, rows.clone(), factors, conjugate=conjugate)
        else:
            rows.mul_(factors)

    def before(self, read: Tensor) -> Tensor:
        return self._times(read, self.decay, conjugate=True)

    def from_identity(self, state: int) -> Tensor:
        change = self.decay - 1
        norm: Tensor = torch.linalg.vector_norm(change.expand(*change.shape[:-1], state), dim=-1)
        return norm

    # Products from either end need no quotients, so that resets (decay 0) need no care.
    def _decay_from_start(self) -> Tensor:
        """`decay_0 ... decay_t` for every t, `[B|1, g|1, s, N|1]`, in the form `_apply` takes."""
        return self.decay.cumprod(-2)

    def _decay_to_end(self) -> Tensor:
        """`decay_t ... decay_{s-1}` for every t, `[B|1, g|1, s, N|1]`."""
        return self.decay.flip(-2).cumprod(-2).flip(-2)

    @property
    def keeps_triangles(self) -> bool:
        """Whether rows stay as they are but for factors on their columns."""
        return not self.decay.is_complex()

    def forward(self, rows: Tensor, write: Tensor) -> Tensor:
        if self.tracked or tracked(rows, write):
            decay = self._decay_to_end()
            sent = self._times(rows, decay[:, :, :1], conjugate=False)
            own = self._times(write[:, :, :-1], decay[:, :, 1:], conjugate=False)
            return torch.cat([sent, own, write[:, :, -1:]], -2)
        out, known = _with_room(rows, self.length), rows.shape[-2]
        self.forward_into(out[:, :, :known], out[:, :, known:], rows, write)
        return out

    def forward_into(self, sent: Tensor, new: Tensor, rows: Tensor, write: Tensor) -> None:
        """Puts what `forward` makes of given rows and of its own into two tensors."""
        decay = self._decay_to_end()
        self._apply(sent, rows, decay[:, :, :1], conjugate=False)
        self._apply(new[:, :, :-1], write[:, :, :-1], decay[:, :, 1:], conjugate=False)
        new[:, :, -1] = write[:, :, -1]

    def backward(self, rows: Tensor, read: Tensor) -> Tensor:
        if self.tracked or tracked(rows, read):
            decay = self._decay_from_start()
            own = self._times(read[:, :, 1:], decay[:, :, :-1], conjugate=True)
            sent = self._times(rows, decay[:, :, -1:], conjugate=True)
            return torch.cat([read[:, :, :1], own, sent], -2)
        out, new = _with_room(rows, self.length), self.length
        self.backward_into(out[:, :, new:], out[:, :, :new], rows, read)
        return out

    def backward_into(self, sent: Tensor, new: Tensor, rows: Tensor, read: Tensor) -> None:
        """Puts what `backward` makes of given rows and of its own into two tensors."""
        decay = self._decay_from_start()
        new[:, :, 0] = read[:, :, 0]
        self._apply(new[:, :, 1:], read[:, :, 1:], decay[:, :, :-1], conjugate=True)
        self._apply(sent, rows, decay[:, :, -1:], conjugate=True)

    def _times(self, rows: Tensor, decay: Tensor, *, conjugate: bool) -> Tensor:
        out = torch.empty_like(rows, memory_format=torch.contiguous_format)
        self._apply(out, rows, decay, conjugate=conjugate)
        return out

    def _apply(self, out: Tensor, rows: Tensor, decay: Tensor, *, conjugate: bool) -> None:
        _multiply(out, rows, decay, conjugate=conjugate)


class OuterSteps(DiagonalSteps):
    """`A_t = diag(exp(rate * step_t))`, rate `[1, g, 1, N]`, step `[B, g, s, 1]`, float64.

    The sums that the products need run over `[B, g, s, 1]` alone, once for all N states.
    """

    def __init__(self, rate: Tensor, step: Tensor) -> None:
        self.rate = groups_last(rate)
        self.step = groups_last(step)

    @property
    def length(self) -> int:
        return self.step.shape[-2]

    @property
    def decay(self) -> Tensor:  # type: ignore[override]
        return torch.exp(self.rate * self.step)

    @property
    def keeps_triangles(self) -> bool:
        return not self.rate.is_complex()

    def part(self, start: int, stop: int) -> Steps:
        return OuterSteps(self.rate, self.step[:, :, start:stop])

    def _step(self, rows: Tensor, step: int, *, conjugate: bool) -> None:
        factors = torch.exp(self.rate * self.step[:, :, step : step + 1])
        _multiply(rows, rows.clone(), factors, conjugate=conjugate)

    def before(self, read: Tensor) -> Tensor:
        out = room_for(read, *read.shape)
        self._apply(out, read, self.step, conjugate=True)
        return out

    def _decay_from_start(self) -> Tensor:
        return groups_last(self.step.cumsum(-2))

    def _decay_to_end(self) -> Tensor:
        return groups_last(self.step.flip(-2).cumsum(-2).flip(-2))

    def _apply(self, out: Tensor, rows: Tensor, decay: Tensor, *, conjugate: bool) -> None:
        if self.rate.is_complex() or tracked(self.rate, decay, rows):
            _multiply(out, rows, torch.exp(self.rate * decay), conjugate=conjugate)
            return
        # In the room of the result, whose strides the arithmetic keeps to.
        torch.mul(self.rate, decay.expand(*out.shape[:-1], 1), out=out)
        out.exp_().mul_(rows)


class LowRankSteps(TransitionSteps):
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
        share = before_change(rows, along) @ along[:, :, step, :, None]
        rows.mul_(self.diagonal[:, :, step, None]).addcmul_(share, to[:, :, step, None])

    def forward(self, rows: Tensor, write: Tensor) -> Tensor:
        if self.length < LEAST_STEPS:
            return super().forward(rows, write)
        return self._blocked(rows, [write, self.diagonal, self.left, self.right])

    def backward(self, rows: Tensor, read: Tensor) -> Tensor:
        if self.length < LEAST_STEPS:
            return super().backward(rows, read)
        # Time runs the other way, and the last to join comes first.
        reverse = [t.flip(2) for t in (read, self.diagonal, self.right, self.left)]
        return self._blocked(rows.flip(2), reverse).flip(2)

    def _blocked(self, rows: Tensor, tensors: list[Tensor]) -> Tensor:
        """Rows through all steps by matrix products; the tensors are those of `send_rows`."""
        most = MOST_STEPS if self.diagonal.shape[-1] == 1 else MOST_STEPS_PER_CHANNEL
        for start in range(0, self.length, most):
            some = slice(start, start + most)
            rows = send_rows(rows, *(tensor[:, :, some] for tensor in tensors))
        return rows

    def before(self, read: Tensor) -> Tensor:
        share = (read * self.left).sum(-1, keepdim=True)
        return read * self.diagonal + share * self.right

    def from_identity(self, state: int) -> Tensor:
        # |D + a b'|^2 = |D|^2 + 2 a' D b + |a|^2 |b|^2 for a diagonal D.
        change = (self.diagonal - 1).expand_as(self.left)
        cross = (change * self.left * self.right).sum(-1)
        outer = self.left.square().sum(-1) * self.right.square().sum(-1)
        square = (change.square().sum(-1) + 2 * cross + outer).clamp(min=0.0)
        # The root of 0 has an infinite gradient; the norm is least there.
        return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)


class DenseSteps(TransitionSteps):
    """`A_t` as matrices `[B|1, g|1, s, N, N]`, float64."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = matrices

    @property
    def length(self) -> int:
        return self.matrices.shape[2]

    def part(self, start: int, stop: int) -> Steps:
        return DenseSteps(self.matrices[:, :, start:stop])

    def forward_(self, rows: Tensor, step: int) -> None:
        rows.copy_(before_change(rows, self.matrices) @ self.matrices[:, :, step].mT)

    def backward_(self, rows: Tensor, step: int) -> None:
        rows.copy_(before_change(rows, self.matrices) @ self.matrices[:, :, step])

    def before(self, read: Tensor) -> Tensor:
        return (read[..., None, :] @ self.matrices)[..., 0, :]

    def from_identity(self, state: int) -> Tensor:
        identity = torch.eye(state, dtype=self.matrices.dtype, device=self.matrices.device)
        norm: Tensor = torch.linalg.matrix_norm(self.matrices - identity)
        return norm
