"""Spectra of windows `M[i:i+f, i-p:i]` from rows of M as they are formed, never from all of M.

A window at position i takes f rows and p columns, so that a band of M is all that is ever kept.
The blocks of many positions and operators are decomposed as one batch. Methods and error bounds
are those of whole blocks (`engine.py`, `bounds.py`). (Ours.)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, MemoryBudgetError
from hf_ess.operators import LinearOperator
from hf_ess.operators.chunks import STREAMED_BYTES, mebibytes, rows_that_fit, slices
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.spectra.batched import BlockBatch
from hf_ess.spectra.engine import DEFAULT_MEMORY_BUDGET, Request, Store, refuse_non_finite
from hf_ess.spectra.parallel import Task, run_tasks
from hf_ess.spectra.spectra import Spectra

# A future of more than this share of the text leaves little to save.
SHORT_SHARE = 0.25
# Blocks that one thread decomposes together, so that they stay in its cache.
CACHED_BYTES = 2**22
# Rows that the band takes at once, at least.
LEAST_ROWS = 64
# A batch of blocks with all that is made of them, as multiples of the blocks.
WORK_PER_BLOCK = 6


def streams(length: int, request: Request) -> bool:
    """Whether spectra are taken from rows as they come: windows that are short for the text.

    Example:
        >>> from hf_ess.spectra import Request
        >>> from hf_ess.spectra.windowed import streams
        >>> [streams(length, Request((1,), window=(8, 8))) for length in (16, 64)]
        [False, True]
    """
    return request.window is not None and request.window[0] <= SHORT_SHARE * length


def windowed_block_singular_values(
    operator: LinearOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """Spectra of windows, `[B, G, P, K]`; forms the rows that windows take, a few at a time.

    Args:
        operator: `[B, G, L, L]`.
        request: positions, method, and a window `(f, p)`.
        memory_budget: bytes for rows, blocks and the work on them; the result comes on top.

    Raises:
        MemoryBudgetError: one row of one operator with the band of its window is larger.
        NonFiniteError: NaN or infinite entries.

    Source: ours; the error bounds are those of `dense_block_singular_values`.

    Example:
        >>> import torch
        >>> from hf_ess.operators import SoftmaxAttentionOperator
        >>> from hf_ess.spectra import Request
        >>> from hf_ess.spectra.windowed import windowed_block_singular_values
        >>> same = torch.zeros(1, 1, 256, 2)
        >>> average = SoftmaxAttentionOperator(same, same)
        >>> spectra = windowed_block_singular_values(average, Request((100,), window=(2, 3)))
        >>> spectra.values.shape, bool(spectra.values[..., 1] < spectra.error_bound)
        (torch.Size([1, 1, 1, 2]), True)
    """
    plan = RowPlan.of(operator, request, memory_budget, whole_rows=False)
    parts = []
    for groups in slices(operator.groups, plan.groups):
        solver = WindowedSolver(operator, groups, request)
        for rows in solver.rows_to_form(plan.rows):
            columns = slice(solver.first_column, rows.stop)
            solver.add(operator.to_dense_block(groups, rows, columns), rows.start, columns.start)
        parts.append(solver.spectra())
    return Spectra.concatenate(parts, dim=1)


@dataclass(frozen=True)
class RowPlan:
    """How many groups and rows are formed at a time."""

    groups: int
    rows: int

    @classmethod
    def of(
        cls,
        operator: LinearOperator,
        request: Request,
        memory_budget: int,
        *,
        whole_rows: bool,
        share: int = 1,
    ) -> RowPlan:
        """What fits the budget; few rows on a CPU, as many as fit on a GPU.

        Args:
            operator: whose rows are formed.
            request: with a window.
            memory_budget: bytes for the rows and the spectra of their windows.
            whole_rows: whether all L columns are formed, or those of windows.
            share: the part of the budget that may be taken: one half for 2.

        Raises:
            MemoryBudgetError: one row of one group, with its band, is larger than the budget.
        """
        length = operator.length
        future, past = _widths(length, request)
        kept = _working_bytes(operator, request)

        def cost(rows: int) -> int:
            columns = length if whole_rows else min(length, rows + future + past)
            return share * (kept + operator.block_bytes_per_group(rows, columns))

        on_cpu = operator.device.type == "cpu"
        target = min(memory_budget, share * STREAMED_BYTES) if on_cpu else memory_budget
        rows = rows_that_fit(cost, length, target=target, most=memory_budget)
        if cost(rows) > memory_budget:
            raise MemoryBudgetError(
                f"Windows of {future} x {past} on one operator of length {length} for "
                f"{operator.batch} sample(s) need {mebibytes(cost(rows))}, the memory budget "
                f"is {mebibytes(memory_budget)}.",
                causes=["the budget is small", "the window is wide", "the text is long"],
                fix=f"Raise memory_budget to {cost(rows)} bytes, choose a smaller window, lower "
                "batch_size, or analyse a shorter text.",
            )
        return cls(min(operator.groups, max(1, target // cost(rows))), rows)


def _widths(length: int, request: Request) -> tuple[int, int]:
    """`(f, p)`, no wider than the blocks of a text can be."""
    future, past = request.window or (length, length)
    return min(future, length - 1), min(past, length - 1)


def _working_bytes(operator: LinearOperator, request: Request) -> int:
    """What the solver of one group holds at its peak: a band twice, and blocks with their work."""
    future, past = _widths(operator.length, request)
    height = future + min(operator.length, max(LEAST_ROWS, future))
    band = 2 * operator.batch * height * (height + past) * FLOAT64_BYTES
    block = future * past * FLOAT64_BYTES
    at_once, workers = _blocks_at_once(operator.device, block), _workers(operator.device)
    blocks = min(at_once * workers, operator.batch * len(request.positions))
    return band + WORK_PER_BLOCK * blocks * block


def _blocks_at_once(device: torch.device, block_bytes: int) -> int:
    return max(1, (CACHED_BYTES if device.type == "cpu" else STREAMED_BYTES) // block_bytes)


def _operators_at_once(device: torch.device, count: int) -> int:
    return 1 if device.type == "cpu" else count


def _workers(device: torch.device) -> int:
    return torch.get_num_threads() if device.type == "cpu" else 1


class WindowedSolver:
    """The windows of some operators, decomposed as soon as their rows have come.

    Args:
        operator: `[B, G, L, L]`, of which only sizes are looked at.
        groups: the groups whose rows will come.
        request: with a window.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator
        >>> from hf_ess.spectra import Request
        >>> from hf_ess.spectra.windowed import WindowedSolver
        >>> shift = torch.eye(9, dtype=torch.float64).roll(1, 0).tril()
        >>> operator = DenseOperator(shift)
        >>> solver = WindowedSolver(operator, slice(0, 1), Request((4,), window=(2, 2)))
        >>> solver.add(shift[None, None, :5], 0)
        >>> solver.add(shift[None, None, 5:], 5)
        >>> solver.spectra().values
        tensor([[[[1., 0.]]]], dtype=torch.float64)
    """

    def __init__(self, operator: LinearOperator, groups: slice, request: Request) -> None:
        self.length = operator.length
        self.request = request
        self._leading = operator.batch, len(range(*groups.indices(operator.groups)))
        self._future, self._past = _widths(self.length, request)
        self._next = 0
        count = self._leading[0] * self._leading[1]
        with torch.inference_mode(False):
            self._band = torch.zeros(count, 0, 0, dtype=torch.float64, device=operator.device)
            self._store = Store.empty(count, self.length, operator.device, request)

    @property
    def first_column(self) -> int:
        """First column that a window still takes."""
        positions = self.request.positions
        return max(0, positions[min(self._next, len(positions) - 1)] - self._past)

    def rows_to_form(self, at_once: int) -> Iterator[slice]:
        """The rows that windows take, ascending, not more than `at_once` at a time."""
        start = stop = self.request.positions[0]
        for position in (*self.request.positions, self.length + self._future):
            if position > stop:
                for rows in slices(stop - start, at_once):
                    yield slice(start + rows.start, start + rows.stop)
                start = position
            stop = min(position + self._future, self.length)

    def add(self, rows: Tensor, first_row: int, first_column: int = 0) -> None:
        """Takes the next rows.

        Args:
            rows: `[B, g, R, C]` float64, rows of M from `first_row` on; none may be left out that
                a window takes.
            first_row: number of the first.
            first_column: number of their first column, not above the solver's own.

        Raises:
            InvalidInputError: rows or columns of a window are left out.
            NonFiniteError: NaN or infinite entries.
        """
        with torch.inference_mode(False), torch.no_grad():
            flat = rows.detach().flatten(0, 1)
            refuse_non_finite(flat)
            # The band must not grow with the number of rows that came together.
            for part in slices(flat.shape[1], max(LEAST_ROWS, self._future)):
                if self._next < len(self.request.positions):
                    self._add(flat[:, part], first_row + part.start, first_column)

    def spectra(self) -> Spectra:
        """The results `[B, g, P, K]`, once all rows have come."""
        return self._store.spectra(self._leading, self.request, self.length)

    def _add(self, rows: Tensor, first_row: int, first_column: int) -> None:
        top, stop = self.request.positions[self._next], first_row + rows.shape[1]
        if stop <= top:
            return
        self._extend(rows, first_row, first_column, top, stop)
        ready = self._next
        while ready < len(self.request.positions) and (
            stop == self.length or self.request.positions[ready] + self._future <= stop
        ):
            ready += 1
        if ready > self._next:
            self._solve(range(self._next, ready), top)
            self._next = ready
            following = (*self.request.positions, stop)[ready]
            passed = min(following, stop) - top
            self._band = self._band[:, passed:, passed:]

    def _extend(self, rows: Tensor, first_row: int, first_column: int, top: int, stop: int) -> None:
        """The band: rows from `top` on, columns from `top - p` on, zeros before the first."""
        height, left = stop - top, top - self._past
        band = rows.new_zeros(len(rows), height, height + self._past - 1)
        kept = self._band.shape[1]
        if first_row > top + kept or first_column > max(0, left):
            raise InvalidInputError(
                f"Windows take row {top + kept} and column {max(0, left)}, which did not come: "
                f"rows begin with {first_row}, columns with {first_column}."
            )
        band[:, :kept, : self._band.shape[2]] = self._band
        begin, end = max(left, first_column), min(stop - 1, first_column + rows.shape[2])
        new = rows[:, top + kept - first_row :, begin - first_column : end - first_column]
        band[:, kept:, begin - left : end - left] = new
        self._band = band

    def _solve(self, indices: range, top: int) -> None:
        """Decomposes windows of which all rows are in the band, or the text has ended."""
        positions = [self.request.positions[index] for index in indices]
        missing = positions[-1] - top + self._future - self._band.shape[1]
        band = torch.nn.functional.pad(self._band, (0, 0, 0, max(0, missing)))
        # A window begins at every place of the diagonal: all of them as a view, [n, S, f, p].
        windows = band.unfold(1, self._future, 1).unfold(2, self._past, 1)
        windows = windows.diagonal(0, 1, 2).movedim(-1, 1)
        places = torch.tensor(positions, device=band.device) - top
        tasks = list(self._tasks(windows, places, indices))
        run_tasks(tasks, _workers(band.device))

    def _tasks(self, windows: Tensor, places: Tensor, indices: range) -> Iterator[Task]:
        """On a CPU a few windows of one operator; on a GPU many windows of all."""
        count, device = len(windows), windows.device
        operators = _operators_at_once(device, count)
        block_bytes = operators * self._future * self._past * FLOAT64_BYTES
        at_once = _blocks_at_once(device, block_bytes)
        for chosen in slices(count, operators):
            for part in slices(len(places), at_once):
                stored = slice(indices.start + part.start, indices.start + part.stop)
                yield partial(self._decompose, windows[chosen], places[part], chosen, stored)

    def _decompose(
        self,
        windows: Tensor,
        places: Tensor,
        chosen: slice,
        stored: slice,
        stop: threading.Event,
    ) -> None:
        if stop.is_set():
            return
        with torch.inference_mode(False), torch.no_grad():
            blocks = windows[:, places]
            shape = blocks.shape[:2]
            solved = BlockBatch.of(blocks.flatten(0, 1)).solved(self.request, self.length)
            width = min(solved.values.shape[1], self._store.values.shape[2])
            values = solved.values[:, :width].reshape(*shape, width)
            self._store.values[chosen, stored, :width] = values
            self._store.error[chosen, stored] = solved.error.reshape(shape)
            self._store.sizes[chosen, stored] = solved.sizes.reshape(shape)
            self._store.from_squares[chosen, stored] = solved.from_squares.reshape(shape)
