"""Spectra of recurrences from triangular factors, without ever forming M.

`H_i = O_i R_i` with N columns in O and N rows in R. Both factors are carried as their triangular
parts: forward `R_{i+s}' = [R_i' Phi'; W]`, backward `O_i = [V; O_{i+s} Phi]`, each reduced to N
rows by a QR decomposition after s steps. The singular values of `H_i` are those of the product of
two triangles of N rows. Work grows like `(L + P N) N^2` for P positions.

Factors of the past wait for those of the future at all positions where that fits into the memory
budget. Where it does not, only those at the starts of S segments wait, and the past within a
segment is computed again: `(S - 1 + P / S) N^2` numbers for every group, `2 sqrt(P) N^2` at the
least, whatever the length, for at most half as much work again. The numbers are the same. Besides,
only the features (as the model computed them) and the results grow with L and P.

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
from hf_ess.spectra.checkpoints import least_kept, segments_of
from hf_ess.spectra.dispatch import (
    formed_block_singular_values,
    operator_block_singular_values,
)
from hf_ess.spectra.engine import DEFAULT_MEMORY_BUDGET, Request
from hf_ess.spectra.factors import Factor, LaneFactor, product_singular_values
from hf_ess.spectra.lanes import MOST_COLUMNS
from hf_ess.spectra.parallel import Task, run_tasks
from hf_ess.spectra.products import AnyFactor, ProductQueue
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
        MemoryBudgetError: the least factors of one group of all samples are larger than the budget.
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
        self.few_columns = 1 < operator.width <= MOST_COLUMNS
        self.keeps_triangles = self.few_columns and operator.keeps_triangles
        shape = operator.batch, operator.groups, len(request.positions)
        self.values = torch.zeros(
            *shape, max(self.sizes), dtype=torch.float64, device=operator.device
        )
        self.error = torch.zeros(shape, dtype=torch.float64, device=operator.device)
        self.workers = torch.get_num_threads() if operator.device.type == "cpu" else 1
        self.segments: list[range] = []
        self.queued_bytes = 0
        self.notes: set[str] = set()

    def tasks(self, memory_budget: int) -> Iterator[Task]:
        """One task for as many groups as fit into the budget, and into the cache on a CPU.

        Where factors at all positions would leave fewer groups, fewer are kept.
        """
        operator = self.operator
        # The rest is for products of factors that are being decomposed.
        share = memory_budget - memory_budget // 4
        positions = len(self.request.positions) if self.request.window is None else 0
        least = self._bytes_per_group(least_kept(positions))
        if least > share:
            raise MemoryBudgetError(
                f"The factors of one group of {operator!r} need {least / 2**20:.2g} MiB, "
                f"{share / 2**20:.2g} MiB of the memory budget are for them.",
                causes=["the state is large", "many samples are analysed in one batch"],
                fix="Raise memory_budget or lower batch_size.",
            )
        self.workers = min(self.workers, share // least)
        self.queued_bytes = (memory_budget - share) // self.workers
        room = share // self.workers
        step = min(self._groups_at_once(), room // least)
        without = self._bytes_per_group(0)
        kept = (room // step - without) // (self._bytes_per_group(1) - without)
        self.segments = segments_of(positions, kept)
        for start in range(0, operator.groups, step):
            groups = slice(start, min(start + step, operator.groups))
            yield partial(self._solve, groups)

    def _bytes_per_group(self, kept: int) -> int:
        return self.operator.factor_bytes_per_group(kept, self.block)

    def _groups_at_once(self) -> int:
        """All on a GPU; what the threads share and the cache holds on a CPU."""
        operator = self.operator
        if operator.device.type != "cpu":
            return operator.groups
        numbers = operator.batch * (operator.width + self.block) * operator.width
        fair = -(-operator.groups // self.workers)
        if not self.few_columns:
            # More tasks than threads, since they do not take equally long.
            fair = -(-fair // 2)
        return min(fair, max(1, CACHED_NUMBERS // numbers))

    def _fast_in_step(self) -> bool:
        """Whether to work in step, as on a GPU.

        On a CPU that gains a quarter with one thread and loses with several, and how a lane is
        rounded depends on its place: numbers would change with threads and with shared work.
        """
        return self.operator.device.type != "cpu"

    def _merges_triangles(self) -> bool:
        """Whether the triangles of the factors are reduced in step, too."""
        return self.keeps_triangles and self._fast_in_step()

    def _solve(self, groups: slice, stop: threading.Event) -> None:
        with torch.inference_mode(False), torch.no_grad():
            put, steps, notes = partial(self._put, groups), self.operator.length, self.notes
            queue = ProductQueue(
                put,
                steps=steps,
                memory_budget=self.queued_bytes,
                in_step=self._fast_in_step(),
                notes=notes,
            )
            solve = self._whole if self.request.window is None else self._windows
            for index, past, future in solve(groups):
                if self.few_columns:
                    queue.add(index, future, past)
                elif isinstance(past, Factor) and isinstance(future, Factor):
                    put(index, *product_singular_values(future, past, steps=steps, notes=notes))
                if stop.is_set():
                    return
            queue.flush()
            self._refuse_non_finite(groups)

    def _whole(self, groups: slice) -> Iterator[tuple[int, AnyFactor, AnyFactor]]:
        """Factors of past and future at every position, last position first."""
        positions, none = self.request.positions, self._none(groups)
        starts = [none]
        for segment in self.segments[:-1]:
            *_, last = self._pasts(groups, starts[-1], segment)
            starts.append(last)
        future, at = none, self.operator.length
        for segment in reversed(self.segments):
            pasts = list(self._pasts(groups, starts.pop(), segment))
            for index in reversed(segment):
                future = self._backward(future, groups, positions[index], at)
                yield index, pasts.pop(), future
                at = positions[index]

    def _pasts(self, groups: slice, factor: AnyFactor, segment: range) -> Iterator[AnyFactor]:
        """Factors of the past at the positions of a segment, from that at the one before it."""
        at = self.request.positions[segment.start - 1] if segment.start else 0
        for index in segment:
            position = self.request.positions[index]
            factor = self._forward(factor, groups, at, position)
            yield factor
            at = position

    def _windows(self, groups: slice) -> Iterator[tuple[int, AnyFactor, AnyFactor]]:
        """Factors of the windows before and after every position, each on its own."""
        length = self.operator.length
        for index, position in enumerate(self.request.positions):
            rows, columns = block_shape(position, length, self.request.window)
            past = self._forward(self._none(groups), groups, position - columns, position)
            future = self._backward(self._none(groups), groups, position, position + rows)
            yield index, past, future

    def _none(self, groups: slice) -> AnyFactor:
        batch, width = self.operator.batch, self.operator.width
        count, device = groups.stop - groups.start, self.operator.device
        if self._merges_triangles():
            return LaneFactor.empty(batch, count, width, steps=self.block, device=device)
        return Factor.empty(batch, count, width, noisy=self.noisy, device=device)

    def _forward(self, factor: AnyFactor, groups: slice, start: int, stop: int) -> AnyFactor:
        for begin in range(start, stop, self.block):
            stretch = self.operator.stretch(groups, begin, min(begin + self.block, stop))
            factor = factor.forward(stretch)
        return factor

    def _backward(self, factor: AnyFactor, groups: slice, start: int, stop: int) -> AnyFactor:
        for end in range(stop, start, -self.block):
            stretch = self.operator.stretch(groups, max(end - self.block, start), end)
            factor = factor.backward(stretch)
        return factor

    def _put(self, groups: slice, index: int, values: Tensor, error: Tensor) -> None:
        size = self.sizes[index]
        self.values[:, groups, index, :size] = values[..., :size]
        self.error[:, groups, index] = error if size else 0.0

    def _refuse_non_finite(self, groups: slice) -> None:
        """Looks once for all positions, since a GPU must wait for that."""
        finite = torch.isfinite(self.values[:, groups]).all(-1).all(0)
        if finite.all():
            return
        group, index = (~finite).nonzero()[0].tolist()
        raise NonFiniteError(
            f"The state of {self.operator!r} overflows float64 in group {groups.start + group} at "
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
            reason="; ".join([REASON, *sorted(self.notes)]),
        )
