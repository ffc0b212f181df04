"""Operators of every structure whose features reach both ends of float64."""

from __future__ import annotations

import pytest
import torch
from reliability.stress_operators import OTHERS, RECURRENCES, Drawn
from reliability.stress_oracle import (
    assert_within_bounds,
    exact,
    exact_recurrence,
    exact_values,
)

from hf_ess import block_singular_values
from hf_ess.operators import (
    DenseMimoOperator,
    DiagonalDecay,
    JacobianOperator,
    SoftmaxAttentionOperator,
    StateSpaceOperator,
)
from hf_ess.spectra import Request, randomized_block_singular_values

PART = "Numbers under stress"
POSITIONS = [1, 5, 8]
SIZES = {
    "plain": (1.0, 1.0),
    "opposite": (1e290, 1e-290),
    "tiny": (1e-200, 1e-100),
    "subnormal": (1e-160, 1e-160),
    "huge": (1e200, 1e105),
    "float32": (3e38, 3e38),
    "mixed": (10.0 ** (torch.arange(10.0).double()[:, None] * 400 % 540 - 300), 1.0),
}
WITHIN = "Every singular value lies within its stated error of the one in 60 digits"


def check(operator, matrix, **options):
    """The route of the structure against the exact matrix, dense routes against the formed one."""
    truth = exact_values(matrix, POSITIONS, **options)
    spectra = block_singular_values(operator, POSITIONS, **options)
    assert_within_bounds(spectra, truth)
    formed = exact_values(exact(operator.to_dense()[0, 0]), POSITIONS, **options)
    for method in ("svd", "gram"):
        spectra = block_singular_values(operator, POSITIONS, method=method, **options)
        assert_within_bounds(spectra, formed)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RECURRENCES)
def test_recurrences(name, size, tried):
    write, read = SIZES[size]
    operator = RECURRENCES[name](Drawn(write=write, read=read))
    check(operator, exact_recurrence(operator))
    tried(
        PART,
        "A recurrence of any transition with features that are subnormal, huge, of 500 orders of "
        "magnitude, or whose product alone is moderate; factored and formed",
        WITHIN,
        3 * len(POSITIONS),
    )


@pytest.mark.parametrize("size", ["tiny", "huge", "mixed"])
@pytest.mark.parametrize("name", RECURRENCES)
def test_decompositions_in_step(name, size, monkeypatch, tried):
    """As on a GPU; nothing in them needs one."""
    monkeypatch.setattr("hf_ess.spectra.factored._Solver._fast_in_step", lambda _: True)
    write, read = SIZES[size]
    operator = RECURRENCES[name](Drawn(write=write, read=read))
    truth = exact_values(exact_recurrence(operator), POSITIONS)
    assert_within_bounds(block_singular_values(operator, POSITIONS), truth)
    tried(
        PART,
        "Recurrences with features of 1e-200, 1e200, 500 orders apart, decomposed as on a GPU",
        WITHIN,
        len(POSITIONS),
    )


@pytest.mark.parametrize("states", [1, 2, 36])
@pytest.mark.parametrize("name", ["diagonal_decay", "delta_rule", "rotation"])
def test_states_of_any_number_with_units_250_orders_apart(name, states, tried):
    """36 are more than the steps, and than what is decomposed in step."""
    x = Drawn(states=states)
    operator = RECURRENCES[name](x)
    units = 2.0 ** torch.linspace(-400, 430, states).double().round()
    if name == "diagonal_decay":
        operator = StateSpaceOperator(operator.transition, x.write * units, x.read / units)
    check(operator, exact_recurrence(operator), window=(4, 3))
    check(operator, exact_recurrence(operator))
    tried(
        PART,
        "States of 1, 2 and 36 numbers, some in units of 1e-120 and some of 1e130",
        WITHIN,
        6 * len(POSITIONS),
    )


@pytest.mark.parametrize("size", ["plain", "tiny", "huge", "mixed"])
@pytest.mark.parametrize("name", OTHERS)
def test_convolutions_and_compositions(name, size, tried):
    write, read = SIZES[size]
    operator, matrix = OTHERS[name](Drawn(write=write, read=read))
    check(operator, matrix)
    tried(
        PART,
        "Convolutions, gates, sums and products with features of 1e-200, 1e200, 500 orders apart",
        WITHIN,
        3 * len(POSITIONS),
    )


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 1e3, 1e30])
def test_attention(sharpness, tried):
    """From one value for all blocks, over scores that hide all but one key, to overflow in exp."""
    x = Drawn()
    seen = torch.ones(10, 10, dtype=torch.bool).tril()
    for mask in (seen, seen.triu(-3)):
        operator = SoftmaxAttentionOperator(sharpness * x.write, x.read, mask[None, None])
        matrix = operator.to_dense()
        torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 1, 10).double())
        check(operator, exact(matrix[0, 0]))
    tried(
        PART,
        "Attention and sliding-window attention with scores of 0 to 1e30",
        WITHIN,
        6 * len(POSITIONS),
    )


@pytest.mark.parametrize("channels", [(2, 2), (3, 1)])
@pytest.mark.parametrize("scale", [1.0, 5e-324, 1e305, "mixed"])
def test_operators_that_mix_channels(scale, channels, tried):
    outputs, inputs = channels
    x = Drawn()
    visible = torch.ones(9, 9).tril().repeat_interleave(outputs, 0).repeat_interleave(inputs, 1)
    if scale == "mixed":
        scale = 10.0 ** torch.linspace(-300, 200, 9 * inputs).double()
    matrix = (8 * x.normal(9 * outputs, 9 * inputs)).round() * visible * scale
    operator = DenseMimoOperator(matrix, *channels)
    truth = exact_values(exact(matrix), POSITIONS, channels=channels)
    for method in ("svd", "gram"):
        spectra = block_singular_values(operator, POSITIONS, method=method)
        assert_within_bounds(spectra, truth)
    tried(
        PART,
        "Operators that mix channels, from the least number of float64 to 1e305",
        WITHIN,
        2 * len(POSITIONS),
    )


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300, "mixed"])
def test_jacobians(scale, tried):
    x = Drawn()
    visible = torch.ones(9, 9).tril().repeat_interleave(2, 0).repeat_interleave(2, 1)
    if scale == "mixed":
        scale = 10.0 ** torch.linspace(-90, 90, 18).double()
    matrix = x.normal(18, 18) * visible * scale

    def function(features):
        return (features.flatten(1) @ matrix.T).reshape(-1, 9, 2)

    operator = JacobianOperator(function, torch.zeros(1, 9, 2, dtype=torch.float64))
    truth = exact_values(exact(matrix), POSITIONS, channels=(2, 2))
    assert_within_bounds(block_singular_values(operator, POSITIONS), truth)
    assert_within_bounds(
        randomized_block_singular_values(operator, Request(tuple(POSITIONS))), truth
    )
    tried(
        PART,
        "Jacobians of 1e-300, 1e300, 180 orders apart, from their matrix and from random products",
        WITHIN,
        2 * len(POSITIONS),
    )


@pytest.mark.parametrize("rows", [64, 70])
def test_clusters_that_only_a_long_operator_has(rows, tried):
    """Grams of repeated values: a delay by a third of the text carries 23 equal numbers."""
    third = rows // 3
    decay = torch.zeros(1, 1, rows, 1, dtype=torch.float64)
    shift = torch.eye(rows, dtype=torch.float64).roll(third, 0).tril()
    truth = [[1] * min(position, third, rows - third) for position in (5, rows // 2)]
    for method in ("svd", "gram"):
        spectra = block_singular_values(shift, [5, rows // 2], method=method)
        assert_within_bounds(spectra, truth)
    silent = StateSpaceOperator(DiagonalDecay(decay), decay, decay)
    assert not block_singular_values(silent, "all").values.any()
    tried(PART, "Many equal singular values, and none", WITHIN, 4)
