"""Spectra of recurrences from triangular factors, without ever forming M.

`H_i = O_i R_i` with N columns in O and N rows in R. Both factors are carried as their triangular
parts: forward `R_{i+s}' = [R_i' Phi'; W]`, backward `O_i = [V; O_{i+s} Phi]`, each reduced to N
rows by a QR decomposition after s steps. The singular values of `H_i` are those of the product of
two triangles of N rows. Work grows like `L N^2`, memory like `P N^2` for P positions.

Nothing is squared, so small singular values keep what float64 gives them: Gramians multiplied
together would lose everything below 1e-8 of the largest.

Source: Moore, "Principal Component Analysis in Linear Systems", IEEE TAC 1981 (Hankel singular
values from Gramians); Dewilde and van der Veen, 1998, chapter on balanced realizations of
time-varying systems (square-root form). Its use for effective state-size is ours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from hf_ess.errors import MemoryBudgetError, NonFiniteError
from hf_ess.operators.recurrent import RecurrentOperator
from hf_ess.spectra.blocks import block_shape
from hf_ess.spectra.dispatch import (
    formed_block_singular_values,
    operator_block_singular_values,
)
from hf_ess.spectra.engine import DEFAULT_MEMORY_BUDGET, Request
from hf_ess.spectra.factors import Factor, product_singular_values
from hf_ess.spectra.parallel import Task, run_tasks
from hf_ess.spectra.spectra import Spectra

REASON = "a recurrence: exact from the factors of its state, linear in the length"
# Rows of new inputs per QR decomposition, in multiples of the state: fewer waste flops on the
# triangle, more only cost memory.
ROWS_PER_STATE = 4
LEAST_ROWS = 64
# Numbers in the working set of one task, so that it stays in the processor's cache.
CACHED_NUMBERS = 2**17


@operator_block_singular_values.register(RecurrentOperator)
def recurrent_block_singular_values(
    operator: RecurrentOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """Spectra of a recurrence: factored, unless a dense method is asked for by name.

    Args:
        operator: `[B, G, L, L]` with a state of N numbers.
        request: positions, window; a method other than "auto" forms M.
        memory_budget: bytes for the factors and the work on them; the result comes on top.

    Raises:
        MemoryBudgetError: the factors of one group of all samples are larger than the budget.
        NonFiniteError: the state overflows float64.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator
        >>> from hf_ess.spectra import block_singular_values
        >>> keys = torch.randn(1, 8, 256, 4)
        >>> operator = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), keys, keys)
        >>> block_singular_values(operator, "auto").values.shape
        torch.Size([1, 8, 63, 4])
    """
    if request.method != "auto":
        return formed_block_singular_values(operator, request, memory_budget=memory_budget)
    return factored_block_singular_values(operator, request, memory_budget=memory_budget)


def factored_block_singular_values(
    operator: RecurrentOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """Singular values of the blocks of a recurrence, `[B, G, P, K]`, K the largest possible rank.

    The arguments and errors are those of `recurrent_block_singular_values`; the method of the
    request is not looked at.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DiagonalDecay, StateSpaceOperator
        >>> from hf_ess.spectra.engine import Request
        >>> from hf_ess.spectra.factored import factored_block_singular_values
        >>> one = torch.ones(1, 1, 1, 1)
        >>> average = StateSpaceOperator(DiagonalDecay(one), one, one, length=9)
        >>> factored_block_singular_values(average, Request((4,))).values  # the root of 4 * 5
        tensor([[[[4.4721]]]], dtype=torch.float64)
    """
    with torch.inference_mode(False), torch.no_grad():
        solver = _Solver(operator, request)
        run_tasks(list(solver.tasks(memory_budget)), solver.workers)
        return solver.spectra()


def _widest_gap(request: Request, length: int) -> int:
    """The most steps that any factor goes without being asked for."""
    if request.window is not None:
        return min(max(request.window), length)
    return max(b - a for a, b in pairwise((0, *request.positions, length)))


class _Solver:
    """One operator, one request, and the room for the results."""

    def __init__(self, operator: RecurrentOperator, request: Request) -> None:
        self.operator = operator
        self.request = request
        length, rank = operator.length, operator.state_size or operator.width
        self.sizes = [
            min(rank, *block_shape(position, length, request.window))
            for position in request.positions
        ]
        self.block = min(
            max(LEAST_ROWS, ROWS_PER_STATE * operator.width), _widest_gap(request, length)
        )
        self.noisy = operator.mixes
        shape = operator.batch, operator.groups, len(request.positions)
        self.values = torch.zeros(
            *shape, max(self.sizes), dtype=torch.float64, device=operator.device
        )
        self.error = torch.zeros(shape, dtype=torch.float64, device=operator.device)
        self.workers = torch.get_num_threads() if operator.device.type == "cpu" else 1

    def tasks(self, memory_budget: int) -> Iterator[Task]:
        """One task for as many groups as fit into the budget, and into the cache on a CPU."""
        operator = self.operator
        kept = len(self.request.positions) if self.request.window is None else 0
        per_group = operator.factor_bytes_per_group(kept, self.block)
        if per_group > memory_budget:
            raise MemoryBudgetError(
                f"The factors of one group of {operator!r} need {per_group / 2**20:.0f} MiB at "
                f"{kept} positions, the memory budget is {memory_budget / 2**20:.0f} MiB.",
                fix="Raise memory_budget, lower batch_size, or analyse fewer positions.",
            )
        self.workers = min(self.workers, memory_budget // per_group)
        step = memory_budget // (per_group * self.workers)
        if operator.device.type == "cpu":
            numbers = operator.batch * (operator.width + self.block) * operator.width
            fair = -(-operator.groups // (2 * self.workers))
            step = min(step, fair, max(1, CACHED_NUMBERS // numbers))
        for start in range(0, operator.groups, step):
            groups = slice(start, min(start + step, operator.groups))
            yield partial(self._solve, groups)

    def _solve(self, groups: slice, stop: threading.Event) -> None:
        with torch.inference_mode(False), torch.no_grad():
            solve = self._whole if self.request.window is None else self._windows
            for index, past, future in solve(groups):
                self._put(groups, index, past, future)
                if stop.is_set():
                    return

    def _whole(self, groups: slice) -> Iterator[tuple[int, Factor, Factor]]:
        """Factors of past and future at every position, last position first."""
        positions = self.request.positions
        factor, at, pasts = self._none(groups), 0, []
        for position in positions:
            factor = self._forward(factor, groups, at, position)
            pasts.append(factor)
            at = position
        factor, at = self._none(groups), self.operator.length
        for index in reversed(range(len(positions))):
            factor = self._backward(factor, groups, positions[index], at)
            yield index, pasts.pop(), factor
            at = positions[index]

    def _windows(self, groups: slice) -> Iterator[tuple[int, Factor, Factor]]:
        """Factors of the windows before and after every position, each on its own."""
        length = self.operator.length
        for index, position in enumerate(self.request.positions):
            rows, columns = block_shape(position, length, self.request.window)
            past = self._forward(self._none(groups), groups, position - columns, position)
            future = self._backward(self._none(groups), groups, position, position + rows)
            yield index, past, future

    def _none(self, groups: slice) -> Factor:
        return Factor.empty(
            self.operator.batch,
            groups.stop - groups.start,
            self.operator.width,
            noisy=self.noisy,
            device=self.operator.device,
        )

    def _forward(self, factor: Factor, groups: slice, start: int, stop: int) -> Factor:
        for begin in range(start, stop, self.block):
            stretch = self.operator.stretch(groups, begin, min(begin + self.block, stop))
            factor = factor.forward(stretch)
        return factor

    def _backward(self, factor: Factor, groups: slice, start: int, stop: int) -> Factor:
        for end in range(stop, start, -self.block):
            stretch = self.operator.stretch(groups, max(end - self.block, start), end)
            factor = factor.backward(stretch)
        return factor

    def _put(self, groups: slice, index: int, past: Factor, future: Factor) -> None:
        values, error = product_singular_values(future, past, steps=self.operator.length)
        if not torch.isfinite(values).all():
            self._refuse(groups, index, values)
        size = self.sizes[index]
        self.values[:, groups, index, :size] = values[..., :size]
        self.error[:, groups, index] = error if size else 0.0

    def _refuse(self, groups: slice, index: int, values: Tensor) -> None:
        wrong = (~torch.isfinite(values)).any(-1).any(0).nonzero()[0].item()
        raise NonFiniteError(
            f"The state of {self.operator!r} overflows float64 in group {groups.start + wrong} at "
            f"position {self.request.positions[index]}.",
            causes=["decays above one over many steps", "an overflow in the model itself"],
            fix="Check the decays of this layer, or analyse a shorter text.",
        )

    def spectra(self) -> Spectra:
        """The results as spectra `[B, G, P, K]`."""
        sizes = torch.tensor(self.sizes, device=self.error.device)
        return Spectra(
            self.values,
            self.error,
            sizes.expand(self.error.shape).clone(),
            torch.zeros_like(self.error, dtype=torch.bool),
            positions=self.request.positions,
            window=self.request.window,
            method="factored",
            reason=REASON,
        )
