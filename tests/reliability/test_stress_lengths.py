"""Recurrences from one step to 16384, against factors that are multiplied out step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_ess import block_singular_values
from hf_ess.errors import InvalidInputError
from hf_ess.operators import (
    ConvolutionOperator,
    DeltaRule,
    DenseTransition,
    DiagonalDecay,
    ScalarDecay,
    StateSpaceOperator,
)

PART = "Numbers under stress"
STATES = 3
LENGTHS = [2, 3, 17, 1000, 16384]
WHAT = "Recurrences of 2, 3, 17, 1000 and 16384 steps"


class Steps:
    """Features [L, N] of recurrences whose state is read before it is updated."""

    def __init__(self, length):
        draw = np.random.default_rng(length)
        self.write, self.read = draw.standard_normal((2, length, STATES))
        self.unit = draw.standard_normal((length, STATES))
        self.unit /= np.linalg.norm(self.unit, axis=1, keepdims=True)
        self.share = draw.random(length)
        self.decay = 1 - draw.random((length, STATES)) ** 3 / 10

    def singular_values(self, transitions, position):
        past, product = [], np.eye(STATES)
        for step in reversed(range(position)):
            past.append(product @ self.write[step])
            product = product @ transitions[step]
        future, product = [], np.eye(STATES)
        for step in range(position, len(transitions)):
            future.append(self.read[step] @ product)
            product = transitions[step] @ product
        after, before = (np.linalg.qr(np.array(part), mode="r") for part in (future, past))
        return np.linalg.svd(after @ before.T, compute_uv=False)


def scalar(steps):
    decay = steps.decay[:, :1]
    return ScalarDecay(_group(np.log(decay[:, 0]))), decay[..., None] * np.eye(STATES)


def diagonal(steps):
    return DiagonalDecay(_group(steps.decay)), steps.decay[:, :, None] * np.eye(STATES)


def delta(steps):
    unit, share = steps.unit, steps.share
    outer = unit[:, :, None] * unit[:, None, :]
    return DeltaRule(_group(unit), _group(share)), np.eye(STATES) - share[:, None, None] * outer


def rotation(steps):
    turn = np.linalg.qr(steps.unit[:1].T @ steps.unit[:1] + np.arange(9).reshape(3, 3))[0]
    return DenseTransition(torch.from_numpy(turn)), np.broadcast_to(turn, (len(steps.write), 3, 3))


def _group(features):
    return torch.from_numpy(features)[None, None]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("build", [scalar, diagonal, delta, rotation])
def test_values_of_recurrences(build, length, tried):
    steps = Steps(length)
    transition, transitions = build(steps)
    operator = StateSpaceOperator(
        transition, _group(steps.write), _group(steps.read), reads="before"
    )
    positions = sorted({1, max(1, length // 3), length - 1})
    spectra = block_singular_values(operator, positions)
    attainable = operator.attainable(torch.tensor(positions))[0, 0].tolist()
    for place, position in enumerate(positions):
        true = steps.singular_values(transitions, position)
        count, bound = attainable[place], spectra.error_bound[0, 0, place].item()
        values = spectra.values[0, 0, place].numpy()
        # The oracle's own roundings grow with the steps, too.
        allowed = bound + (64 + length) * 2.0**-52 * true[0]
        assert np.abs(values[: len(true)] - true[: len(values)]).max() <= allowed
        assert bound <= 1e-10 * true[0]
        assert not values[count:].any()
    tried(PART, WHAT, "Values within their bounds, of factors multiplied out", len(positions))


@pytest.mark.parametrize("length", LENGTHS)
def test_known_values(length, tried):
    """A sum of everything carries one number of size sqrt(i (L - i)), a delay one of size 1."""
    one, half = torch.ones(1, 1, 1, 1, dtype=torch.float64), length // 2
    total = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), one, one, length=length)
    spectra = block_singular_values(total, [half])
    assert spectra.values.shape[-1] == 1
    assert spectra.values.item() == pytest.approx(math.sqrt(half * (length - half)), rel=1e-13)
    delay = ConvolutionOperator(torch.tensor([[0.0, 1.0]]), length=length)
    assert block_singular_values(delay, [half]).values.tolist() == [[[[1.0]]]]
    tried(PART, WHAT, "A sum and a delay have exactly the values that are known", 2)


def test_a_single_step_has_no_past(tried):
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    operator = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), one, one)
    assert operator.to_dense().tolist() == [[[[1.0]]]]
    for positions in ("auto", "all", 1, [1]):
        with pytest.raises(InvalidInputError, match="too short"):
            block_singular_values(operator, positions)
    tried(PART, "A recurrence of one step", "A named error: a past and a future need two", 4)
