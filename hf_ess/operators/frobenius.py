"""`||M||_F^2` and `||M1 - M2||_F^2` of operators, under autograd; of recurrences without forming M.

A stretch of s steps adds to the square of the norm that of its own s x s matrix, and what its
outputs read of the state before it: `|R S'|^2 = tr(R (S'S) R')` for readings R `[s, N]` and the
traces S of all earlier inputs in that state. The N x N Gram `S'S` is all that is carried on. The
difference of two recurrences is one whose state holds both, the second read with a minus.

Source: the Gramian of a system (Moore, 1981) made time-varying; its use here is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_ess.errors import MemoryBudgetError
from hf_ess.operators.channel_products import check_same_shape, difference
from hf_ess.operators.channel_squares import bytes_of_channels, squares_of_channels
from hf_ess.operators.chunks import mebibytes, slices
from hf_ess.operators.linear_operator import FLOAT64_BYTES, LinearOperator
from hf_ess.operators.recurrent import RecurrentOperator, Stretch
from hf_ess.operators.state_space import StateSpaceOperator

# Long enough for matrix products; the matrix of a stretch is formed.
STEPS = 64
# Up to so many channels Grams are cheaper than the turns of a loop for each stretch (measured).
MOST_CHANNELS = 32
# Tensors of the size of a matrix, of features or of a Gram that autograd keeps, about.
KEPT = 8
MEMORY_BUDGET = 2**28


def squared_norm(operator: LinearOperator, *, memory_budget: int = MEMORY_BUDGET) -> Tensor:
    """`||M||_F^2`, float64 `[B, G]`, under autograd.

    Args:
        operator: M; of a recurrence no L x L matrix is formed.
        memory_budget: bytes for one part of the groups.

    Raises:
        MemoryBudgetError: a single group needs more.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator, squared_norm
        >>> one = torch.ones(1, 1, 3, 1)
        >>> squared_norm(StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), one, one))
        tensor([[6.]], dtype=torch.float64)
    """
    return torch.cat([part for _, part in _squares([operator], memory_budget)], 1)


def squared_distances(
    first: LinearOperator, second: LinearOperator, *, memory_budget: int = MEMORY_BUDGET
) -> Iterator[tuple[slice, Tensor]]:
    """`||M1 - M2||_F^2` for some groups at a time, each float64 `[B, g]`, under autograd.

    Differences of sums: below `1e-15 (||M1||_F^2 + ||M2||_F^2)`, roughly, lies rounding, which may
    be negative.

    Args:
        first: M1.
        second: M2; where both are recurrences no L x L matrix is formed.
        memory_budget: bytes for one part of the groups.

    Raises:
        InvalidInputError: the operators are of different shapes.
        MemoryBudgetError: a single group needs more.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator, squared_distances
        >>> one, still = torch.ones(1, 1, 3, 1), ScalarDecay(torch.zeros(1, 1, 1))
        >>> first = StateSpaceOperator(still, one, one)
        >>> second = StateSpaceOperator(still, one, 2 * one)
        >>> next(squared_distances(first, second))
        (slice(0, 1, None), tensor([[6.]], dtype=torch.float64))
    """
    check_same_shape(first, second)
    return _squares([first, second], memory_budget)


def _squares(
    operators: Sequence[LinearOperator], memory_budget: int
) -> Iterator[tuple[slice, Tensor]]:
    """Of the only operator, or of the first less the second."""
    way = _way(operators)
    needed = way.bytes_per_group(operators)
    if needed > memory_budget:
        raise MemoryBudgetError(
            f"The norm of an operator of length {operators[0].length} for {operators[0].batch} "
            f"sample(s) needs {mebibytes(needed)}, the memory budget is "
            f"{mebibytes(memory_budget)}.",
            causes=["the texts are long", "many texts are in one batch"],
            fix=f"Take fewer or shorter texts at a time, or a memory_budget of {needed} bytes.",
        )
    for groups in slices(operators[0].groups, memory_budget // needed):
        yield groups, way.squares(operators, groups)


class _Way(NamedTuple):
    """One way to the squares of norms, and what it takes."""

    squares: Callable[[Any, slice], Tensor]
    bytes_per_group: Callable[[Any], int]


def _way(operators: Sequence[LinearOperator]) -> _Way:
    """By independent channels, stretch by stretch, or from matrices."""
    recurrences = [one for one in operators if isinstance(one, RecurrentOperator)]
    if len(recurrences) < len(operators):
        return _Way(_of_matrices, _dense_bytes)
    few = sum(one.width for one in recurrences) <= MOST_CHANNELS
    if few and all(isinstance(x, StateSpaceOperator) and x.has_channels for x in recurrences):
        return _Way(_of_channels, _channel_bytes)
    return _Way(_of_recurrences, _recurrent_bytes)


def _dense_bytes(operators: Sequence[LinearOperator]) -> int:
    matrices = KEPT * operators[0].batch * operators[0].length ** 2 * FLOAT64_BYTES
    return matrices + sum(one.dense_bytes_per_group() for one in operators)


def _recurrent_bytes(recurrences: Sequence[RecurrentOperator]) -> int:
    batch, length = recurrences[0].batch, recurrences[0].length
    width, stretches = sum(one.width for one in recurrences), -(-length // STEPS)
    per_stretch = width**2 + min(STEPS, length) * (width + min(STEPS, length))
    return KEPT * batch * stretches * per_stretch * FLOAT64_BYTES


def _channel_bytes(recurrences: Sequence[StateSpaceOperator]) -> int:
    width = sum(one.width for one in recurrences)
    return bytes_of_channels(recurrences[0].batch, recurrences[0].length, width)


def _of_channels(recurrences: Sequence[StateSpaceOperator], groups: slice) -> Tensor:
    first, *second = recurrences
    if not second:
        return squares_of_channels(first.channels(groups, 0, first.length))
    return squares_of_channels(difference(first, second[0], groups, 0, first.length))


def _of_matrices(operators: Sequence[LinearOperator], groups: slice) -> Tensor:
    return _less([one.to_dense(groups) for one in operators]).square().sum((-2, -1))


def _of_recurrences(recurrences: Sequence[RecurrentOperator], groups: slice) -> Tensor:
    length = recurrences[0].length
    gram: Tensor | None = None
    squares = []
    for steps in slices(length, STEPS):
        parts = [one.stretch(groups, steps.start, steps.stop) for one in recurrences]
        squares.append(_less([part.dense() for part in parts]).square().sum((-2, -1)))
        if gram is not None:
            read = _read(parts)
            squares.append(((read @ gram) * read).sum((-2, -1)))
        if steps.stop < length:
            gram = _carried(parts, gram)
    return torch.stack(squares).sum(0)


def _less(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else tensors[0] - tensors[1]


def _read(parts: Sequence[Stretch]) -> Tensor:
    """What each output reads of the joint state before the stretch, `[B, g, s, N]`."""
    first, *second = (part.readings() for part in parts)
    return torch.cat([first, *(-readings for readings in second)], -1)


def _carried(parts: Sequence[Stretch], gram: Tensor | None) -> Tensor:
    """The Gram of all traces in the joint state after the stretch, `[B, g, N, N]`."""
    written = torch.cat([part.written() for part in parts], -1)
    own = written.mT @ written
    return own if gram is None else own + _sent(parts, _sent(parts, gram).mT)


def _sent(parts: Sequence[Stretch], rows: Tensor) -> Tensor:
    """Rows of the joint state `[B, g, r, N]` after the stretch."""
    sizes = [part.write.shape[-1] for part in parts]
    sent = [
        part.steps.forward(own, part.write)[:, :, : own.shape[-2]]
        for part, own in zip(parts, torch.split(rows, sizes, -1), strict=True)
    ]
    return torch.cat(sent, -1)
