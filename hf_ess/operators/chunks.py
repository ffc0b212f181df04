"""How much of an operator is formed at a time: groups of whole matrices, or rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hf_ess.errors import MemoryBudgetError

if TYPE_CHECKING:
    from hf_ess.operators.linear_operator import LinearOperator

# Rows that are worked on together: enough for matrix products, little beside a model.
STREAMED_BYTES = 2**26
# With fewer rows at a time, products of matrices turn into products with vectors.
LEAST_ROWS = 16
# The window that is offered where a whole operator does not fit.
OFFERED_WINDOW = 256
MEBIBYTE = 2**20


def slices(length: int, step: int) -> Iterator[slice]:
    """`0..length` in pieces of `step`.

    Example:
        >>> from hf_ess.operators.chunks import slices
        >>> list(slices(5, 3))
        [slice(0, 3, None), slice(3, 5, None)]
    """
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def rows_that_fit(
    cost: Callable[[int], int],
    length: int,
    groups: int = 1,
    *,
    target: int = STREAMED_BYTES,
    most: int | None = None,
) -> int:
    """How many rows to form at a time.

    Halves the number of rows until `groups` of them cost no more than `target`, as long as fewer
    rows cost less. Matrix products want some rows: below `LEAST_ROWS` only `most` counts.

    Args:
        cost: bytes for a number of rows of one group.
        length: L, all rows.
        groups: how many are formed together.
        target: bytes that are aimed at.
        most: bytes that must not be exceeded.

    Example:
        >>> from hf_ess.operators.chunks import rows_that_fit
        >>> rows_that_fit(lambda rows: 10 * rows, 100, target=300)
        25
        >>> rows_that_fit(lambda rows: 1000, 100, target=300)
        100
    """
    rows = length
    while rows > 1:
        bytes_now = groups * cost(rows)
        too_much = most is not None and bytes_now > most
        if not too_much and (bytes_now <= target or rows <= LEAST_ROWS):
            break
        fewer = -(-rows // 2)
        if groups * cost(fewer) >= bytes_now:
            break
        rows = fewer
    return rows


def chunks_of_groups(
    operator: LinearOperator, memory_budget: int, share: int = 1
) -> Iterator[slice]:
    """Slices over the groups, each of which can be formed within a share of the budget.

    Raises:
        MemoryBudgetError: a single group is larger than that.
    """
    per_group = operator.dense_bytes_per_group() * share
    if per_group > memory_budget:
        raise _too_large(operator, per_group, memory_budget, share)
    return slices(operator.groups, memory_budget // per_group)


def _too_large(
    operator: LinearOperator, needed: int, memory_budget: int, share: int
) -> MemoryBudgetError:
    fitting = int(operator.length * math.sqrt(memory_budget / needed))
    causes = ["the text is long"]
    ways = [f"raise memory_budget to {needed} bytes"]
    width = min(OFFERED_WINDOW, operator.length // 4)
    windowed = share * operator.block_bytes_per_group(width, operator.length)
    if windowed < needed / 2:
        ways.append(f"measure windows (window={width} needs about {mebibytes(windowed)})")
    if operator.batch > 1:
        causes.append("many samples are analysed in one batch")
        ways.append("lower batch_size")
    ways.append(f"analyse a text of at most {fitting} tokens")
    return MemoryBudgetError(
        f"One operator of length {operator.length} for {operator.batch} sample(s) needs "
        f"{mebibytes(needed)}, the memory budget is {mebibytes(memory_budget)}.",
        causes=causes,
        fix=f"One of: {'; '.join(ways)}.",
    )


def mebibytes(count: int) -> str:
    """Bytes as text.

    Example:
        >>> from hf_ess.operators.chunks import mebibytes
        >>> mebibytes(3 * 2**20), mebibytes(2**19)
        ('3 MiB', '0.5 MiB')
    """
    return f"{count / MEBIBYTE:.3g} MiB" if count < MEBIBYTE else f"{count / MEBIBYTE:.0f} MiB"
