"""Norms and distances of operators against dense matrices, with their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hf_ess
from hf_ess.operators import (
    DeltaRule,
    DenseOperator,
    DiagonalDecay,
    OuterDecay,
    ScalarDecay,
    SoftmaxAttentionOperator,
    StateSpaceOperator,
    squared_distances,
    squared_norm,
)
from hf_ess.operators.channel_squares import bytes_of_channels

BATCH, GROUPS, LENGTH = 2, 3, 130


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def selective(seed: int, state: int = 4) -> StateSpaceOperator:
    step = drawn(BATCH, GROUPS, LENGTH, seed=seed).exp() / 9
    rate = -drawn(GROUPS, state, seed=seed + 1).exp()
    write, read = drawn(2, BATCH, 1, LENGTH, state, seed=seed + 2)
    direct = drawn(1, GROUPS, 1, seed=seed + 3)
    return StateSpaceOperator(OuterDecay(rate, step), write, read, write_scale=step, direct=direct)


def gated(seed: int, state: int = 6) -> StateSpaceOperator:
    write, read, gate = drawn(3, BATCH, GROUPS, LENGTH, state, seed=seed)
    return StateSpaceOperator(DiagonalDecay(torch.sigmoid(gate + 2)), write, read)


def with_resets(seed: int) -> StateSpaceOperator:
    write, read = drawn(2, BATCH, GROUPS, LENGTH, 3, seed=seed)
    logarithms = torch.zeros(1, 1, LENGTH)
    logarithms[..., 70] = -torch.inf
    return StateSpaceOperator(ScalarDecay(logarithms), write, read, reads="before")


def forgetting(seed: int) -> StateSpaceOperator:
    write, read = drawn(2, BATCH, GROUPS, LENGTH, 3, seed=seed)
    decay = torch.full((1, 1, LENGTH, 3), 0.9, dtype=torch.float64)
    decay[..., 70, :] = 0.0
    return StateSpaceOperator(DiagonalDecay(decay), write, read)


def turning(seed: int) -> StateSpaceOperator:
    angles = drawn(1, GROUPS, 1, 2, seed=seed)
    write, read = torch.complex(*drawn(2, 2, BATCH, 1, LENGTH, 2, seed=seed))
    return StateSpaceOperator(DiagonalDecay(0.9 * torch.exp(1j * angles)), write, read)


def delta(seed: int) -> StateSpaceOperator:
    key, read = torch.nn.functional.normalize(drawn(2, BATCH, GROUPS, LENGTH, 4, seed=seed), dim=-1)
    return StateSpaceOperator(DeltaRule(key, key[..., 0].sigmoid()), key, read)


def attention(seed: int) -> SoftmaxAttentionOperator:
    query, key = drawn(2, BATCH, GROUPS, LENGTH, 4, seed=seed)
    return SoftmaxAttentionOperator(query, key)


def matrix(seed: int) -> DenseOperator:
    return DenseOperator(drawn(BATCH, GROUPS, LENGTH, LENGTH, seed=seed).tril())


QUICK = [selective, gated, with_resets, forgetting, turning, attention, matrix]


def distance(first, second, **budget) -> Tensor:
    return torch.cat([part for _, part in squared_distances(first, second, **budget)], 1)


@pytest.mark.parametrize("build", QUICK)
def test_the_norm_is_that_of_the_matrix(build) -> None:
    operator = build(0)
    expected = torch.linalg.matrix_norm(operator.to_dense()).square()
    torch.testing.assert_close(squared_norm(operator), expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("first", "second"),
    [(one, other) for one in (selective, gated, attention) for other in QUICK] + [(gated, delta)],
)
def test_the_distance_is_that_of_the_matrices(first, second) -> None:
    one, other = first(0), second(9)
    expected = torch.linalg.matrix_norm(one.to_dense() - other.to_dense()).square()
    torch.testing.assert_close(distance(one, other), expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("second", "budget"),
    [
        (selective, 2 * bytes_of_channels(BATCH, LENGTH, 10)),
        (with_resets, 2 * 8 * 8 * BATCH * 3 * (81 + 64 * 73)),
    ],
)
def test_the_groups_come_in_parts_within_the_budget(second, budget) -> None:
    one, other = gated(0), second(9)
    parts = list(squared_distances(one, other, memory_budget=budget))
    assert [groups for groups, _ in parts] == [slice(0, 2), slice(2, 3)]
    assert torch.equal(torch.cat([part for _, part in parts], 1), distance(one, other))


@pytest.mark.parametrize("pair", [(gated, selective), (gated, attention)])
def test_too_small_a_budget_is_refused(pair) -> None:
    one, other = (build(0) for build in pair)
    with pytest.raises(hf_ess.MemoryBudgetError, match="the memory budget is") as caught:
        distance(one, other, memory_budget=10_000)
    assert "fewer or shorter texts" in caught.value.fix


@pytest.mark.parametrize("state", [4, 40], ids=["few channels", "many channels"])
def test_states_of_both_sizes(state) -> None:
    one, other = gated(0, state), gated(9, 3)
    expected = torch.linalg.matrix_norm(one.to_dense() - other.to_dense()).square()
    torch.testing.assert_close(distance(one, other), expected, rtol=1e-12, atol=0.0)


def test_an_operator_is_at_no_distance_from_itself() -> None:
    for build in QUICK:
        error = distance(build(3), build(3)).abs() / squared_norm(build(3))
        assert float(error.max()) < 1e-14


@pytest.mark.parametrize("build", [selective, forgetting, with_resets, attention])
def test_gradients_are_those_of_the_dense_matrices(build) -> None:
    teacher = build(5)

    def gradients(by_structure: bool) -> list[Tensor]:
        write, read, gate = drawn(3, BATCH, GROUPS, LENGTH, 3).requires_grad_()
        leaves = [write, read, gate]
        student = StateSpaceOperator(DiagonalDecay(gate.sigmoid()), write, read)
        if by_structure:
            loss = distance(student, teacher).sum()
        else:
            loss = (student.to_dense() - teacher.to_dense()).square().sum()
        return list(torch.autograd.grad(loss, leaves))

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        assert float(found.abs().max()) > 0.1


def test_other_shapes_are_refused() -> None:
    with pytest.raises(hf_ess.InvalidInputError, match="have no distance"):
        squared_distances(gated(0), StateSpaceOperator(*_single()))


def _single():
    key = drawn(1, 1, 5, 2)
    return ScalarDecay(torch.zeros(1, 1, 1)), key, key
