from __future__ import annotations

import pytest
import torch
from operators_recurrent.families import Features

from hf_ess.errors import (
    InvalidInputError,
    InvalidTypeError,
    MemoryBudgetError,
    NonFiniteError,
)
from hf_ess.operators import (
    DeltaRule,
    DenseTransition,
    DiagonalDecay,
    DiagonalPlusLowRank,
    OuterDecay,
    ScalarDecay,
    StateSpaceOperator,
)
from hf_ess.spectra import block_singular_values


def test_a_budget_that_is_too_small_is_refused():
    x = Features(100)
    operator = StateSpaceOperator(ScalarDecay(-x.scalars().abs()), x.vectors(), x.vectors())
    with pytest.raises(MemoryBudgetError, match="factors of one group"):
        block_singular_values(operator, "all", memory_budget=1000)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_named(bad):
    ones = torch.ones(1, 1, 4, 2)
    wrong = ones * bad
    for transition in (DiagonalDecay, lambda d: DiagonalPlusLowRank(d, d, d)):
        with pytest.raises(NonFiniteError, match="decays"):
            transition(wrong)
    with pytest.raises(NonFiniteError, match="keys"):
        DeltaRule(wrong, ones[..., 0])
    with pytest.raises(NonFiniteError, match="rates"):
        OuterDecay(wrong[0, 0], ones[..., 0])
    fine = DiagonalDecay(ones)
    with pytest.raises(NonFiniteError, match="write vectors"):
        StateSpaceOperator(fine, wrong, ones)
    with pytest.raises(NonFiniteError, match="read scales"):
        StateSpaceOperator(fine, ones, ones, read_scale=wrong[..., 0])


def test_shapes_that_do_not_fit_are_refused():
    ones = torch.ones(1, 4, 5, 2)
    decay = DiagonalDecay(ones)
    with pytest.raises(InvalidInputError, match="divide"):
        StateSpaceOperator(decay, torch.ones(1, 3, 5, 2), ones)
    with pytest.raises(InvalidInputError, match="length"):
        StateSpaceOperator(decay, torch.ones(1, 4, 6, 2), ones)
    with pytest.raises(InvalidInputError, match="state"):
        StateSpaceOperator(decay, torch.ones(1, 4, 5, 3), ones)
    with pytest.raises(InvalidInputError, match="samples"):
        StateSpaceOperator(decay, torch.ones(2, 4, 5, 2), torch.ones(3, 4, 5, 2))
    with pytest.raises(InvalidInputError, match="axes"):
        StateSpaceOperator(decay, torch.ones(4, 5, 2), ones)
    with pytest.raises(InvalidInputError, match="reads"):
        StateSpaceOperator(decay, ones, ones, reads="during")
    with pytest.raises(InvalidInputError, match="either"):
        DiagonalDecay(ones, log_decay=ones)
    with pytest.raises(InvalidInputError, match="square"):
        DenseTransition(torch.ones(2, 3))
    with pytest.raises(InvalidInputError, match="rate"):
        OuterDecay(torch.ones(2), torch.ones(1, 2, 3))
    with pytest.raises(InvalidTypeError, match="write vectors"):
        StateSpaceOperator(decay, ones.long(), ones)
    with pytest.raises(InvalidTypeError, match="real states"):
        StateSpaceOperator(DeltaRule(ones, ones[..., 0]), ones + 1j, ones).to_dense()
    with pytest.raises(InvalidInputError, match="maps inputs"):
        StateSpaceOperator(decay, ones, ones).apply(torch.ones(1, 4, 5))
