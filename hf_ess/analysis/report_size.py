"""Whether a report fits into memory, told before hours are spent on measuring it."""

from __future__ import annotations

import math

from hf_ess.errors import MemoryBudgetError
from hf_ess.machine import memory_bytes

# Float64 arrays of a layer beside those of each tolerance, and of those: two, and a bool.
ARRAYS, BYTES_BY_TOLERANCE = 6, 17
# What is measured and what is reported are in memory together while a report is made.
TIMES_WHILE_MADE = 2


def report_bytes(texts: int, positions: int, groups: int, tolerances: int) -> int:
    """Memory that a report takes while it is made, in bytes.

    Args:
        texts: B.
        positions: P.
        groups: G, of all measured layers together.
        tolerances: how many there are.

    Example:
        >>> report_bytes(10_000, 127, 270, 3) // 10**9
        67
    """
    each = 8 * ARRAYS + BYTES_BY_TOLERANCE * tolerances
    return TIMES_WHILE_MADE * each * texts * positions * groups


def check_report_fits(texts: int, positions: int, groups: int, tolerances: int) -> None:
    """Refuses an analysis whose report could not be held.

    Raises:
        MemoryBudgetError: the report needs more memory than the machine has.
    """
    needed, there = report_bytes(texts, positions, groups, tolerances), memory_bytes()
    if there is None or needed <= there:
        return
    most = max(1, texts * there // needed)
    stride = math.ceil(needed / there)
    raise MemoryBudgetError(
        f"The report of {texts} texts at {positions} positions of {groups} heads or groups needs "
        f"{needed / 2**30:.1f} GiB while it is made, this machine has {there / 2**30:.1f} GiB.",
        causes=["every text, head and position has numbers of its own"],
        fix=f"Measure at one in {stride} of these positions, on at most {most} texts, or in fewer "
        "layers.",
    )
