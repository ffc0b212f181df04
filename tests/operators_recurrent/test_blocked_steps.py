"""Many low-rank steps at once against the same steps one after another."""

from __future__ import annotations

import pytest
import torch
from operators_recurrent.families import Features

from hf_ess.operators.steps import LowRankSteps, Steps

WIDTH = 5


def unit(vectors):
    return torch.nn.functional.normalize(vectors, dim=-1)


def replacing(decay, x, length):
    """A delta rule: what lies under a key is replaced, beta up to two."""
    key = unit(x.normal(2, 3, length, WIDTH))
    beta = 2 * x.uniform(2, 3, length, 1)
    return LowRankSteps(decay, -beta * key, decay * key)


def moderate(x, length):
    return replacing(0.5 + x.uniform(2, 3, length, WIDTH) / 2, x, length)


def from_fast_to_slow(x, length):
    """Rates from none to a factor of e^-60 in every step, as quotients could not bear."""
    rates = torch.tensor([0.0, 1e-6, 0.1, 5.0, 60.0], dtype=torch.float64)
    return replacing(torch.exp(-rates * x.uniform(2, 3, length, WIDTH)), x, length)


def with_resets(x, length):
    decay = x.uniform(2, 3, length, WIDTH)
    return replacing(torch.where(decay < 0.3, 0.0, decay), x, length)


def growing(x, length):
    return replacing(1.02 + 0.0 * x.uniform(2, 3, length, WIDTH), x, length)


def generalised(x, length):
    decay = x.uniform(2, 3, length, WIDTH)
    direction = unit(x.normal(2, 3, length, WIDTH))
    return LowRankSteps(decay, -direction, direction * x.uniform(2, 3, length, WIDTH))


def one_decay(x, length):
    return replacing(x.uniform(2, 3, length, 1), x, length)


KINDS = [moderate, from_fast_to_slow, with_resets, growing, generalised, one_decay]


def assert_alike(blocked, stepwise):
    """To 1e-12 of the largest number that a row or what joined it has."""
    assert torch.isfinite(blocked).all()
    assert (blocked - stepwise).abs().max() <= 1e-12 * stepwise.abs().max()


@pytest.mark.parametrize("length", [1, 7, 8, 16, 17, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_do_what_the_steps_do(kind, length):
    x = Features(length, seed=length)
    steps = kind(x, length)
    rows, new = x.normal(2, 3, 4, WIDTH), x.normal(2, 3, length, WIDTH)
    assert_alike(steps.forward(rows, new), Steps.forward(steps, rows, new))
    assert_alike(steps.backward(rows, new), Steps.backward(steps, rows, new))
    alone = rows[:, :, :0]
    assert_alike(steps.forward(alone, new), Steps.forward(steps, alone, new))


def test_long_stretches_with_a_decay_per_channel_do_not_go_step_by_step(monkeypatch):
    x = Features(64)
    steps = moderate(x, 64)

    def refuse(*_):
        raise AssertionError("a single step")

    monkeypatch.setattr(LowRankSteps, "forward_", refuse)
    monkeypatch.setattr(LowRankSteps, "backward_", refuse)
    rows, new = x.normal(2, 3, 4, WIDTH), x.normal(2, 3, 64, WIDTH)
    assert steps.forward(rows, new).shape == steps.backward(rows, new).shape == (2, 3, 68, WIDTH)
    with pytest.raises(AssertionError, match="single"):
        steps.part(0, 3).forward(rows, new[:, :, :3])
