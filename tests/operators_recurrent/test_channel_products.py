"""Products and distances of the operators of state channels, against dense matrices."""

from __future__ import annotations

import pytest
import torch
from dense_channels import of_channels
from torch import Tensor

import hf_ess
from hf_ess.operators import (
    DeltaRule,
    DiagonalDecay,
    OuterDecay,
    ScalarDecay,
    StateSpaceOperator,
    channel_gram,
    channel_products,
    distance_bound,
)

BATCH, GROUPS, LENGTH, STATE = 2, 3, 70, 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def selective(state: int = STATE, seed: int = 0) -> StateSpaceOperator:
    step = drawn(BATCH, GROUPS, LENGTH, seed=seed).exp() / 9
    rate = -drawn(GROUPS, state, seed=seed + 1).exp()
    write, read = drawn(2, BATCH, 1, LENGTH, state, seed=seed + 2)
    direct = drawn(1, GROUPS, 1, seed=seed + 3)
    return StateSpaceOperator(OuterDecay(rate, step), write, read, write_scale=step, direct=direct)


def gated(state: int = STATE, seed: int = 0) -> StateSpaceOperator:
    write, read, gate = drawn(3, BATCH, GROUPS, LENGTH, state, seed=seed)
    scale = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    return StateSpaceOperator(DiagonalDecay(torch.sigmoid(gate + 2)), write, read, read_scale=scale)


def scalar(state: int = STATE, seed: int = 0) -> StateSpaceOperator:
    write, read = drawn(2, BATCH, 1, LENGTH, state, seed=seed)
    decay = -drawn(1, GROUPS, LENGTH, seed=seed + 1).exp() / 9
    return StateSpaceOperator(ScalarDecay(decay), write, read)


@pytest.mark.parametrize("build", [selective, gated, scalar])
def test_channels_add_up_to_the_operator(build) -> None:
    operator = build()
    direct = operator.channels(slice(None), 0, LENGTH).direct
    whole = of_channels(operator).sum(0) + torch.diag_embed(direct)
    torch.testing.assert_close(whole, operator.to_dense(), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("build", [selective, gated, scalar])
@pytest.mark.parametrize("at_once", [1, 2**25])
def test_the_gram_is_that_of_dense_matrices(build, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(channel_products, "AT_ONCE", at_once)
    operator = build()
    dense = of_channels(operator)
    expected = torch.einsum("nbgij,mbgij->bgnm", dense, dense)
    torch.testing.assert_close(channel_gram(operator), expected, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("build", [selective, gated, scalar])
@pytest.mark.parametrize("at_once", [1, 2**25])
def test_the_distance_is_that_of_dense_matrices(build, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(channel_products, "AT_ONCE", at_once)
    first, second = build(), build(state=2, seed=7)
    true = torch.linalg.matrix_norm(first.to_dense() - second.to_dense())
    bound = distance_bound(first, second)
    assert (bound >= true).all()
    torch.testing.assert_close(bound, true, rtol=1e-8, atol=0.0)


def test_a_tiny_distance_is_bounded_too() -> None:
    first = gated()
    write, read, gate = drawn(3, BATCH, GROUPS, LENGTH, STATE)
    near = StateSpaceOperator(
        DiagonalDecay(torch.sigmoid(gate + 2)),
        write,
        read * (1 + 1e-11),
        read_scale=torch.full((1, 1, 1), 0.3, dtype=torch.float64),
    )
    true = torch.linalg.matrix_norm(first.to_dense() - near.to_dense())
    bound = distance_bound(first, near)
    norms = torch.linalg.matrix_norm(of_channels(first)).sum(0)
    assert (bound >= true).all()
    assert (true > 0).all()
    assert (bound <= 1e-6 * norms).all()


def test_half_precision_is_widened_first() -> None:
    write, read = drawn(2, 1, 1, 8, 2).bfloat16()
    operator = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), write, read)
    dense = of_channels(operator)
    expected = torch.einsum("nbgij,mbgij->bgnm", dense, dense)
    assert channel_gram(operator).dtype == torch.float64
    torch.testing.assert_close(channel_gram(operator), expected, rtol=1e-13, atol=0.0)


def test_other_states_are_refused() -> None:
    key = drawn(1, 1, 5, 2)
    still = torch.zeros(1, 1, 1)
    delta = StateSpaceOperator(DeltaRule(key, key[..., 0].sigmoid()), key, key)
    early = StateSpaceOperator(ScalarDecay(still), key, key, reads="before")
    turning = StateSpaceOperator(DiagonalDecay(torch.ones(1, 1, 1, 2) * 1j), key, key)
    for operator in (delta, early, turning):
        with pytest.raises(hf_ess.UnsupportedMixerError, match="not real and independent"):
            channel_gram(operator)
    with pytest.raises(hf_ess.InvalidInputError, match="have no distance"):
        distance_bound(early, gated())
