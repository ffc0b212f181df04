"""Singular values from random products: as the matrix gives them, within their own bound."""

from __future__ import annotations

import math
import re

import pytest
import torch
from jacobian.mixers import S5, Gru, block_values

import hf_ess
from hf_ess.operators import JacobianOperator
from hf_ess.spectra import Request, randomized_block_singular_values

LENGTH, CHANNELS = 12, 4
SIDE = LENGTH * CHANNELS
HALF = LENGTH // 2
TRIALS = 200


def linear(matrix, channels_out=CHANNELS, channels_in=CHANNELS):
    """The Jacobian of `u -> M u`, which is M."""
    length = matrix.shape[-1] // channels_in

    def function(features):
        mixed = features.flatten(1) @ matrix.T
        return mixed.reshape(-1, length, channels_out)

    return JacobianOperator(function, torch.zeros(1, length, channels_in, dtype=torch.float64))


def with_values(values, generator):
    """A causal matrix whose block in the middle has the given singular values."""
    bases = torch.randn(2, SIDE // 2, SIDE // 2, generator=generator, dtype=torch.float64)
    left, right = torch.linalg.qr(bases)[0]
    matrix = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    matrix[SIDE // 2 :, : SIDE // 2] = left @ torch.diag(values) @ right.T
    return matrix


def decaying(rate):
    return torch.exp(-rate * torch.arange(SIDE // 2, dtype=torch.float64))


@pytest.mark.parametrize("floor", [None, 1e-2, 1e-6])
@pytest.mark.parametrize("window", [None, (4, 3)])
def test_it_agrees_with_the_matrix_within_its_bound(floor, window):
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -8, SIDE, dtype=torch.float64)
    matrix = torch.randn(SIDE, SIDE, generator=generator, dtype=torch.float64) * scale
    visible = torch.ones(LENGTH, LENGTH).tril().repeat_interleave(CHANNELS, 0)
    matrix = matrix * visible.repeat_interleave(CHANNELS, 1)
    request = Request(tuple(range(1, LENGTH)), window, "auto", floor)
    spectra = randomized_block_singular_values(linear(matrix), request)
    assert spectra.method == "jacobian (randomized)"
    assert spectra.window == window
    errors = spectra.value_errors()
    for place, position in enumerate(spectra.positions):
        expected = block_values(matrix, position, CHANNELS, CHANNELS, window)
        width = spectra.values.shape[-1]
        padded = torch.nn.functional.pad(expected, (0, max(0, width - len(expected))))
        found = spectra.values[0, 0, place]
        assert ((found - padded[:width]).abs() <= errors[0, 0, place]).all()
        assert (padded[width:] <= spectra.error_bound[0, 0, place]).all()
        if floor is not None:
            assert spectra.error_bound[0, 0, place] <= floor
            count = hf_ess.tolerance_ess(expected, floor)
            undecided = spectra.undecided(floor)[0, 0, place]
            assert (hf_ess.tolerance_ess(found, floor) - count).abs() <= undecided


@pytest.mark.parametrize(("rate", "scale"), [(0.0, 1.0), (0.1, 1.0), (0.5, 1.0), (0.1, 1e-200)])
def test_the_bound_holds_in_every_trial(rate, scale):
    """With few basis vectors, where something is left out; flat spectra are the worst case."""
    values = scale * decaying(rate)
    generator = torch.Generator().manual_seed(1)
    request = Request((HALF,), None, "auto", 1e-12 * scale)
    tightest = math.inf
    for _ in range(TRIALS):
        operator = linear(with_values(values, generator))
        spectra = randomized_block_singular_values(operator, request, most_values=8)
        found, bound = spectra.values[0, 0, 0], spectra.error_bound[0, 0, 0]
        assert found.shape == (8,)
        assert ((found - values[:8]).abs() <= spectra.value_errors()[0, 0, 0]).all()
        assert values[8] <= bound
        tightest = min(tightest, float(bound / values[8]))
    assert 1 <= tightest < 2.5


def test_a_recurrence_needs_a_basis_of_its_state_only():
    mixer = S5(state=3)
    jacobian = JacobianOperator(mixer, torch.zeros(1, 40, 2, dtype=torch.float64))
    request = Request((10, 20, 30), None, "auto", 1e-9)
    spectra = randomized_block_singular_values(jacobian, request)
    assert spectra.values.shape == (1, 1, 3, 16)
    assert (spectra.values > 1e-9).sum(-1).tolist() == [[[3, 3, 3]]]
    assert spectra.error_bound.max() < 1e-9
    assert not spectra.undecided(1e-9).any()


def test_a_budget_below_the_matrix_takes_products():
    torch.manual_seed(0)
    features = torch.randn(2, 16, 32)
    module = Gru()
    exact = JacobianOperator(module, features)
    budget = exact.dense_bytes_per_group() - 1
    positions = [3, 8, 13]
    dense = hf_ess.block_singular_values(exact, positions, method="svd")
    found = hf_ess.block_singular_values(
        JacobianOperator(module, features), positions, memory_budget=budget, tolerance_floor=1e-8
    )
    assert (dense.method, found.method) == ("jacobian", "jacobian (randomized)")
    width = found.values.shape[-1]
    difference = (found.values - dense.values[..., :width]).abs()
    assert (difference <= found.value_errors() + dense.value_errors()[..., :width]).all()
    assert found.error_bound.max() < 1e-8


def test_without_room_for_a_few_vectors_it_says_so():
    jacobian = linear(with_values(decaying(0.1), torch.Generator()))
    with pytest.raises(hf_ess.MemoryBudgetError, match=r"0\.0469 MiB for random") as raised:
        hf_ess.block_singular_values(jacobian, [HALF], memory_budget=20_000)
    enough = int(re.search(r"memory_budget to (\d+) bytes", raised.value.fix)[1])
    request = Request((HALF,))
    assert randomized_block_singular_values(jacobian, request, memory_budget=enough).values.any()
    with pytest.raises(hf_ess.MemoryBudgetError, match="random products"):
        randomized_block_singular_values(jacobian, request, memory_budget=enough - 1)


@pytest.mark.parametrize(
    ("scale", "floor", "width"), [(1.0, 0.1, 16), (1.0, 1e-4, 24), (1e3, 0.1, 24)]
)
def test_the_basis_grows_until_the_tolerance_is_resolved_and_no_longer(scale, floor, width):
    matrix = scale * with_values(decaying(0.5), torch.Generator().manual_seed(3))
    request = Request((HALF,), None, "auto", floor)
    spectra = randomized_block_singular_values(linear(matrix), request)
    assert spectra.values.shape[-1] == width
    assert spectra.error_bound.max() <= floor / 2


def test_the_same_numbers_every_time():
    matrix = with_values(decaying(0.3), torch.Generator().manual_seed(2))
    request = Request((3, HALF), None, "auto", 1e-3)
    first, second = (randomized_block_singular_values(linear(matrix), request) for _ in range(2))
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.error_bound, second.error_bound)


def test_zeros_are_zeros():
    spectra = randomized_block_singular_values(
        linear(torch.zeros(SIDE, SIDE).double()), Request((HALF,))
    )
    assert not spectra.values.any()
    assert spectra.error_bound.max() < 1e-300
