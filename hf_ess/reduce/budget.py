"""Sharing a budget of state numbers between layers."""

from __future__ import annotations

from collections.abc import Sequence

from hf_ess.errors import InvalidInputError


def tolerances_within(
    numbers: Sequence[Sequence[int]], budget: int, levels: Sequence[float]
) -> list[int]:
    """For each layer which level to take, so that all together keep to the budget.

    Layers begin at the first level. Again and again one layer takes the step to the next level at
    which it needs less: the one that frees most numbers for what the level rises (the first of
    equals). In the end steps that are not needed after all are taken back.

    Args:
        numbers: for each layer the numbers that it needs at each level, none more than before.
        budget: the most numbers of all layers together.
        levels: the tolerances, ascending.

    Raises:
        InvalidInputError: the budget is not met at the last level.

    Example:
        >>> tolerances_within([[90, 40, 10], [50, 45, 40]], 100, [1e-5, 1e-3, 1e-1])
        [1, 0]
    """
    least = sum(row[-1] for row in numbers)
    if least > budget:
        raise InvalidInputError(
            f"A budget of {budget} numbers cannot be met: at the largest tolerance of the report, "
            f"{levels[-1]:g}, the states hold {least}.",
            fix=f"Allow at least {least}, or analyse with a larger tolerance.",
        )
    taken = [0] * len(numbers)
    while _total(numbers, taken) > budget:
        gains = [_gain(row, at, levels) for row, at in zip(numbers, taken, strict=True)]
        best = max(range(len(gains)), key=lambda layer: gains[layer])
        taken[best] = _next(numbers[best], taken[best])
    for layer in sorted(range(len(numbers)), key=lambda one: numbers[one][0] - numbers[one][-1]):
        for level in range(taken[layer]):
            more = numbers[layer][level] - numbers[layer][taken[layer]]
            if _total(numbers, taken) + more <= budget:
                taken[layer] = level
                break
    return taken


def _total(numbers: Sequence[Sequence[int]], taken: Sequence[int]) -> int:
    return sum(row[level] for row, level in zip(numbers, taken, strict=True))


def _next(row: Sequence[int], level: int) -> int:
    """The first later level that needs less, the same level if none does."""
    return next((at for at in range(level + 1, len(row)) if row[at] < row[level]), level)


def _gain(row: Sequence[int], level: int, levels: Sequence[float]) -> float:
    """Numbers that the next step frees for each unit of tolerance, 0 where there is no step."""
    step = _next(row, level)
    return (row[level] - row[step]) / (levels[step] - levels[level]) if step > level else 0.0
