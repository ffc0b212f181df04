"""Operators that are a recurrence: everything follows from short stretches of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators.graphs import tracked
from hf_ess.operators.linear_operator import EVERYTHING, FLOAT64_BYTES, LinearOperator
from hf_ess.operators.steps import Steps

# Stretches of `apply`: long enough for matrix products, short enough for the processor's cache.
APPLIED_AT_ONCE = 64
# What of a stretch is computed only where it is asked for.
Late = Callable[[], Tensor]

# From so many channels per group, products of whole stretches beat going step by step.
MANY_CHANNELS = 8


class Stretch:
    """A few steps of a recurrence `y_i = c_i h_{i-1} + d_i u_i`, `h_i = A_i h_{i-1} + b_i u_i`.

    The state is read before it is updated here, so that d alone makes the diagonal and the state
    is never larger than the blocks require.

    Args:
        steps: the transitions `A_i`.
        write: b, float64 `[B, g, s, N]`.
        read: c, float64 `[B, g, s, N]`, or what computes it, called where it is asked for.
        direct: d, float64 `[B, g, s]`, or what computes it.
    """

    def __init__(
        self, steps: Steps, write: Tensor, read: Tensor | Late, direct: Tensor | Late
    ) -> None:
        self.steps = steps
        self.write = write
        self._read = read
        self._direct = direct

    @cached_property
    def read(self) -> Tensor:
        """c, `[B, g, s, N]`."""
        return self._read if isinstance(self._read, Tensor) else self._read()

    @cached_property
    def direct(self) -> Tensor:
        """d, `[B, g, s]`."""
        return self._direct if isinstance(self._direct, Tensor) else self._direct()

    @property
    def length(self) -> int:
        """s, the number of steps."""
        return self.write.shape[-2]

    def part(self, start: int, stop: int) -> Stretch:
        """The steps start..stop-1 of these."""
        return Stretch(
            self.steps.part(start, stop),
            self.write[:, :, start:stop],
            self.read[:, :, start:stop],
            self.direct[:, :, start:stop],
        )

    def written(self) -> Tensor:
        """What each input leaves in the state after the stretch, `[B, g, s, N]`."""
        return self.steps.forward(self.write[:, :, :0], self.write)

    def readings(self) -> Tensor:
        """What each output reads of the state before the stretch, `[B, g, s, N]`."""
        return self.steps.backward(self.read[:, :, :0], self.read)

    def dense(self) -> Tensor:
        """The operator of these steps alone, `[B, g, s, s]`.

        Halves recursively: what connects two halves is a product of their factors.
        """
        if self.tracked:
            return self._joined()
        out = self.write.new_zeros(*self.direct.shape, self.length)
        self._fill(out)
        return out

    @property
    def tracked(self) -> bool:
        """Whether autograd follows what these steps compute."""
        return self.steps.tracked or tracked(self.write, self.read, self.direct)

    def _joined(self) -> Tensor:
        """The same from new tensors: each write into a shared one copies a whole gradient."""
        if self.length == 1:
            return self.direct[..., None]
        middle = self.length // 2
        early, late = self.part(0, middle), self.part(middle, self.length)
        top = torch.nn.functional.pad(early._joined(), (0, self.length - middle))
        return torch.cat(
            [top, torch.cat([late.readings() @ early.written().mT, late._joined()], -1)], -2
        )

    def _fill(self, out: Tensor) -> None:
        if self.length == 1:
            out[..., 0] = self.direct
            return
        middle = self.length // 2
        early, late = self.part(0, middle), self.part(middle, self.length)
        out[:, :, middle:, :middle] = late.readings() @ early.written().mT
        early._fill(out[:, :, :middle, :middle])
        late._fill(out[:, :, middle:, middle:])

    def run(self, state: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs `[B, g, s, C]` and the next state, from a state `[B, g, C, N]` and inputs."""
        if inputs.shape[-1] >= MANY_CHANNELS or self.tracked:
            outputs = self.readings() @ state.mT + self.dense() @ inputs
            carried = self.steps.forward(state, self.write)[:, :, : state.shape[-2]]
            return outputs, carried + inputs.mT @ self.written()
        outputs = self.direct[..., None] * inputs
        state = state.clone()
        for step in range(self.length):
            outputs[:, :, step] += (state @ self.read[:, :, step, :, None])[..., 0]
            self.steps.forward_(state, step)
            state.addcmul_(inputs[:, :, step, :, None], self.write[:, :, step, None])
        return outputs, state


class RecurrentOperator(LinearOperator):
    """A causal operator that is a linear recurrence with a state of `width` real numbers.

    `StateSpaceOperator` is the form that most have.

    A subclass says its shape, its width and its stretches. Spectra are computed from stretches
    without forming M (`hf_ess.spectra.factored`).

    Source: realizations of causal operators, Dewilde and van der Veen, "Time-Varying Systems and
    Computations", 1998; Parnichkun et al., ICML 2025, section 3.
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """Real numbers in the state as it is carried (2N for N complex ones)."""

    @abstractmethod
    def stretch(self, groups: slice, start: int, stop: int) -> Stretch:
        """Steps start..stop-1 of the chosen groups in float64."""

    @property
    def state_size(self) -> int | None:
        return self.width

    @property
    def mixes(self) -> bool:
        """Whether rounding in one number of the state reaches the others."""
        return self.stretch(slice(0, 1), 0, 1).steps.mixes

    @property
    def keeps_triangles(self) -> bool:
        """Whether transitions only put real factors on the columns of factors."""
        return self.stretch(slice(0, 1), 0, 1).steps.keeps_triangles

    def factor_bytes_per_group(self, kept: int, steps: int) -> int:
        """Peak bytes of the spectra of one group: `kept` factors, and a stretch of `steps`."""
        rows = min(self.width, self.length)
        working = 8 * (rows + steps) * self.width + 4 * self.width**2
        return self.batch * (kept * rows * self.width + working) * FLOAT64_BYTES

    def dense_bytes_per_group(self) -> int:
        factors = 8 * self.batch * self.length * self.width * FLOAT64_BYTES
        return super().dense_bytes_per_group() + factors

    def to_dense(self, groups: slice | None = None) -> Tensor:
        chosen = groups if groups is not None else slice(0, self.groups)
        return self.stretch(chosen, 0, self.length).dense()

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        features = 8 * self.batch * (rows + columns) * self.width * FLOAT64_BYTES
        return 3 * self.batch * rows * max(rows, columns) * FLOAT64_BYTES + features

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        """What the rows read of the state before them, beside the operator of the rows alone."""
        chosen = groups if groups is not None else slice(0, self.groups)
        (top, bottom, _), (left, right, _) = (s.indices(self.length) for s in (rows, columns))
        late = self.stretch(chosen, top, bottom)
        parts = []
        if left < top:
            early = self.stretch(chosen, left, top).written()
            parts.append(late.readings() @ early[..., : right - left, :].mT)
        if right > top:
            own = late.dense()[..., max(left - top, 0) : max(right - top, 0)]
            ahead = right - max(left, bottom)
            parts.append(torch.nn.functional.pad(own, (0, max(ahead, 0))))
        return torch.cat(parts, -1)

    def apply(self, u: Tensor, groups: slice | None = None) -> Tensor:
        chosen = groups if groups is not None else slice(0, self.groups)
        count = len(range(*chosen.indices(self.groups)))
        expected = (self.batch, count, self.length)
        if u.ndim != 4 or tuple(u.shape[:-1]) != expected:
            raise InvalidInputError(
                f"The operator maps inputs of shape {[*expected, 'C']}, got {list(u.shape)}."
            )
        channels = u.shape[-1]
        state = torch.zeros(
            self.batch, count, channels, self.width, dtype=torch.float64, device=u.device
        )
        outputs = torch.empty(u.shape, dtype=torch.float64, device=u.device)
        for start in range(0, self.length, APPLIED_AT_ONCE):
            stop = min(start + APPLIED_AT_ONCE, self.length)
            inputs = u[:, :, start:stop].to(torch.float64)
            outputs[:, :, start:stop], state = self.stretch(chosen, start, stop).run(state, inputs)
        return outputs
