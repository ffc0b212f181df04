"""Budgets, against all choices of levels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import hf_ess
from hf_ess.reduce.budget import tolerances_within

LEVELS = (1e-5, 1e-3, 1e-1)


@pytest.mark.parametrize("seed", range(20))
def test_budgets_are_met_without_a_step_to_spare(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [sorted(map(int, random.integers(1, 60, 3)), reverse=True) for _ in range(4)]
    least, most = sum(row[-1] for row in rows), sum(row[0] for row in rows)
    for budget in range(least, most + 3, 7):
        taken = tolerances_within(rows, budget, LEVELS)
        total = sum(row[level] for row, level in zip(rows, taken, strict=True))
        assert total <= budget
        for layer, level in enumerate(taken):  # no layer could be given more
            more = [rows[layer][one] - rows[layer][level] for one in range(level)]
            assert all(total + step > budget for step in more)
        feasible = [
            sum(row[level] for row, level in zip(rows, levels, strict=True))
            for levels in product(range(3), repeat=4)
        ]
        assert total <= max(one for one in feasible if one <= budget)


def test_no_step_is_taken_where_none_is_needed() -> None:
    assert tolerances_within([[5, 3, 1], [4, 4, 2]], 9, LEVELS) == [0, 0]
    assert tolerances_within([[5, 3, 1], [4, 4, 2]], 7, LEVELS) == [1, 0]


def test_steps_count_for_what_the_tolerance_rises() -> None:
    assert tolerances_within([[20, 10, 10], [100, 100, 10]], 110, LEVELS) == [1, 0]
    assert tolerances_within([[20, 10, 10], [100, 100, 10]], 109, LEVELS) == [0, 2]


def test_a_step_that_frees_nothing_is_passed_over() -> None:
    assert tolerances_within([[5, 5, 1], [4, 4, 4]], 6, LEVELS) == [2, 0]


def test_what_cannot_be_met() -> None:
    with pytest.raises(hf_ess.InvalidInputError, match=r"(?s)of 2 numbers.*0.1, the states hold 3"):
        tolerances_within([[5, 3, 1], [4, 4, 2]], 2, LEVELS)
