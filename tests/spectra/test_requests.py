"""What can be asked for, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from spectra.causal_matrices import peaked_attention, random_causal

from hf_ess.errors import (
    InvalidInputError,
    InvalidTypeError,
    MemoryBudgetError,
    NonFiniteError,
    NotCausalError,
)
from hf_ess.operators import DenseOperator, LinearOperator
from hf_ess.spectra import (
    Spectra,
    block_singular_values,
    has_own_route,
    operator_block_singular_values,
    resolve_positions,
)
from hf_ess.spectra.blocks import region_of


@pytest.mark.parametrize(
    ("positions", "length", "expected"),
    [
        ("auto", 512, tuple(range(8, 512, 8))),
        ("auto", 2, (1,)),
        ("auto", 64, tuple(range(1, 64))),
        ("auto", 65, tuple(range(2, 65, 2))),
        ("all", 4, (1, 2, 3)),
        (3, 10, (3, 6, 9)),
        (np.int64(4), 10, (4, 8)),
        (torch.tensor(4), 10, (4, 8)),
        ([7, 2, 5], 8, (2, 5, 7)),
        (range(1, 4), 4, (1, 2, 3)),
        (np.array([3, 1]), 4, (1, 3)),
        (torch.tensor([3, 1]), 4, (1, 3)),
    ],
)
def test_positions_in_every_form(positions, length, expected):
    resolved = resolve_positions(positions, length)
    assert resolved == expected
    assert all(type(position) is int for position in resolved)


@pytest.mark.parametrize("length", range(2, 300))
def test_auto_positions_are_at_most_64(length):
    assert 1 <= len(resolve_positions("auto", length)) <= 64


@pytest.mark.parametrize(
    ("positions", "length"),
    [
        *[("auto", 1), ("all", 0), ("some", 8), (0, 8), (8, 8), (-1, 8)],
        *[([], 8), ([0], 8), ([8], 8), ([2, 2], 8)],
    ],
)
def test_positions_that_make_no_sense(positions, length):
    with pytest.raises(InvalidInputError):
        resolve_positions(positions, length)


@pytest.mark.parametrize(
    "positions",
    [
        *[True, 1.5, [1.0], [True], None, {1: 2}, torch.tensor([1.0]), np.array([True])],
        *[torch.tensor(True), torch.tensor(2.0), torch.tensor(2j), np.array([2])[:, None]],
    ],
)
def test_positions_of_other_types(positions):
    with pytest.raises(InvalidTypeError):
        resolve_positions(positions, 8)


@pytest.mark.parametrize("window", [0, (0, 3), (1, -1), (1, 2, 3)])
def test_windows_that_make_no_sense(window):
    with pytest.raises(InvalidInputError, match="window"):
        block_singular_values(random_causal(8), "all", window=window)


@pytest.mark.parametrize("window", [1.5, True, "3", (1, 2.0)])
def test_windows_of_other_types(window):
    with pytest.raises(InvalidTypeError, match="window"):
        block_singular_values(random_causal(8), "all", window=window)


def test_an_unknown_method_is_refused_with_the_choices():
    with pytest.raises(InvalidInputError, match="'auto', 'gram', 'svd'"):
        block_singular_values(random_causal(8), "all", method="qr")


@pytest.mark.parametrize("floor", [-1.0, float("nan")])
def test_a_floor_must_be_a_tolerance(floor):
    with pytest.raises(InvalidInputError, match="tolerance_floor"):
        block_singular_values(random_causal(8), "all", tolerance_floor=floor)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_matrices_must_be_finite(bad):
    matrix = random_causal(8)
    matrix[5, 2] = bad
    with pytest.raises(NonFiniteError):
        block_singular_values(matrix, "all")


def test_matrices_must_be_causal():
    with pytest.raises(NotCausalError):
        block_singular_values(torch.ones(4, 4), "all")


@pytest.mark.parametrize(
    "matrix",
    [
        torch.ones(4, 4, dtype=torch.int64),
        torch.ones(2, 2, dtype=torch.complex64),
        np.ones((2, 2), dtype=int),
        np.ones((2, 2), dtype=complex),
        [[1.0]],
        None,
    ],
)
def test_matrices_must_be_real(matrix):
    with pytest.raises(InvalidTypeError):
        block_singular_values(matrix, "all")


@pytest.mark.parametrize("shape", [(4,), (3, 4), (0, 4, 4)])
def test_matrices_must_be_square(shape):
    with pytest.raises(InvalidInputError):
        block_singular_values(torch.zeros(shape), "all")


class FormedOnDemand(LinearOperator):
    """A user's operator: knows nothing but how to be formed."""

    def __init__(self, matrices):
        self.matrices, self.formed = matrices, []

    batch = property(lambda self: self.matrices.shape[0])
    groups = property(lambda self: self.matrices.shape[1])
    length = property(lambda self: self.matrices.shape[2])
    device = property(lambda self: self.matrices.device)

    def to_dense(self, groups=None):
        self.formed.append(groups)
        return self.matrices[:, groups] if groups is not None else self.matrices


@pytest.fixture
def operators():
    return torch.stack([peaked_attention(24, seed) for seed in range(10)]).reshape(2, 5, 24, 24)


def test_an_operator_is_formed_in_chunks_with_the_same_result(operators):
    whole = FormedOnDemand(operators)
    expected = block_singular_values(whole, "all")
    for groups_at_once in (1, 2, 3):
        operator = FormedOnDemand(operators)
        budget = operator.dense_bytes_per_group() * groups_at_once
        spectra = block_singular_values(operator, "all", memory_budget=budget)
        assert len(operator.formed) == -(-5 // groups_at_once)
        assert torch.equal(spectra.values, expected.values)
        assert torch.equal(spectra.error_bound, expected.error_bound)
    assert len(whole.formed) == 1
    assert expected.values.shape == (2, 5, 23, 12)


def test_an_operator_beyond_the_budget_is_refused(operators):
    with pytest.raises(MemoryBudgetError):
        block_singular_values(DenseOperator(operators), "all", memory_budget=1000)


def test_an_operator_that_forms_nan_is_refused(operators):
    broken = operators.clone()
    broken[1, 2, 3, 1] = torch.nan
    with pytest.raises(NonFiniteError, match="1 of 10"):
        block_singular_values(FormedOnDemand(broken), "all")


def test_a_registered_route_is_taken_and_nothing_is_formed(operators):
    class Structured(FormedOnDemand):
        pass

    @operator_block_singular_values.register(Structured)
    def _(operator, request, *, memory_budget=0):
        shape = operator.batch, operator.groups, len(request.positions)
        return Spectra(
            values=torch.ones(*shape, 1, dtype=torch.float64),
            error_bound=torch.zeros(shape, dtype=torch.float64),
            sizes=torch.ones(shape, dtype=torch.int64),
            from_squares=torch.zeros(shape, dtype=torch.bool),
            positions=request.positions,
            window=request.window,
            method="structured",
        )

    operator = Structured(operators)
    assert block_singular_values(operator, 5).method == "structured"
    assert operator.formed == []
    assert block_singular_values(FormedOnDemand(operators), 5).method == "svd"
    assert has_own_route(operator)
    assert not has_own_route(FormedOnDemand(operators))


def test_spectra_of_other_sizes_are_joined_with_zeros():
    short, tall = (block_singular_values(random_causal(9)[None], p) for p in ([1], [4]))
    joined = Spectra.concatenate([short, tall], dim=0)
    assert joined.values.shape == (2, 1, 4)
    assert joined.sizes.tolist() == [[1], [4]]


def test_the_longest_reason_of_the_parts_stays():
    spectra = block_singular_values(random_causal(5), [2])
    parts = [replace(spectra, reason=reason) for reason in ("z: short", "a: short, with a note")]
    assert Spectra.concatenate(parts, 0).reason == "a: short, with a note"


def test_operators_of_very_different_units_share_a_region():
    matrices = torch.stack([random_causal(6) * 2.0**500, random_causal(6, 1) * 2.0**-500])
    numbers = torch.ones(1, 4, 3, dtype=torch.float64)
    together = region_of(matrices, (3,)).unscale(numbers.expand(2, -1, -1))
    alone = [region_of(matrix[None], (3,)).unscale(numbers) for matrix in matrices]
    assert torch.equal(together, torch.cat(alone))
    assert together[0, 0, 0] > 1e100 > 1e-100 > together[1, 0, 0]
