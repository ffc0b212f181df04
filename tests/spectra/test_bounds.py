"""The error bounds hold, and say no less than they must."""

from __future__ import annotations

import math

import pytest
import torch
from spectra.causal_matrices import (
    block_with_values,
    generator,
    peaked_attention,
    uniform_average,
    with_block,
)

from hf_ess.errors import InvalidInputError
from hf_ess.spectra import METHODS, block_singular_values

GRADES = {
    "to 1e-4": lambda n: torch.logspace(0, -4, n, dtype=torch.float64),
    "to 1e-8": lambda n: torch.logspace(0, -8, n, dtype=torch.float64),
    "to 1e-16": lambda n: torch.logspace(0, -16, n, dtype=torch.float64),
    "to 1e-40": lambda n: torch.logspace(0, -40, n, dtype=torch.float64),
    "one large": lambda n: torch.cat([torch.ones(1), torch.full((n - 1,), 1e-6)]).double(),
    "equal": lambda n: torch.ones(n, dtype=torch.float64),
    "a gap": lambda n: torch.where(torch.arange(n) < n // 2, 1.0, 1e-9).double(),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [40, 111])
@pytest.mark.parametrize("grade", GRADES)
def test_graded_values_lie_within_the_bound(grade, rows, method):
    values = GRADES[grade](40)
    matrix = with_block(block_with_values(values, rows))
    spectra = block_singular_values(matrix, [40], method=method)
    # Building the block rounds, too.
    assert ((spectra.values[0] - values).abs() <= spectra.value_errors()[0] + 2e-14).all()


def flat_operators(length):
    ones = torch.ones(length, length, dtype=torch.float64).tril()
    index = torch.arange(1, length + 1, dtype=torch.float64)
    return {
        "uniform": uniform_average(length),
        "third": ones / 3,
        "columns": ones / index,
        "offset": ones / (index[:, None] + 50),
        "rows": ones * torch.rand(length, 1, generator=generator(0), dtype=torch.float64),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("length", [33, 64, 128, 180])
def test_flat_operators_of_rank_one_have_no_second_value_beyond_the_bound(length, stride, method):
    # The worst blocks known: their rounding errors agree in sign and add up.
    for name, matrix in flat_operators(length).items():
        spectra = block_singular_values(matrix, stride, method=method)
        assert (spectra.values[:, 1] <= spectra.error_bound).all(), name


@pytest.mark.parametrize("length", [512, 1024])
def test_flat_operators_of_rank_one_at_full_length(length):
    for name, matrix in flat_operators(length).items():
        spectra = block_singular_values(matrix, [length // 2, length - 3], method="gram")
        assert (spectra.values[:, 1] <= spectra.error_bound).all(), name


@pytest.mark.parametrize("shape", [(13, 107), (62, 499), (171, 1368)])
def test_svd_of_constant_blocks_lies_within_its_bound(shape):
    for entry in (1.0, 1 / 3, 0.37):
        matrix = with_block(torch.full(shape[::-1], entry, dtype=torch.float64))
        spectra = block_singular_values(matrix, [shape[0]], method="svd")
        largest = entry * math.sqrt(shape[0] * shape[1])
        assert abs(spectra.values[0, 0].item() - largest) <= spectra.error_bound[0]
        assert spectra.values[0, 1] <= spectra.error_bound[0]


@pytest.mark.parametrize("method", METHODS)
def test_the_bound_is_small(method):
    spectra = block_singular_values(peaked_attention(128), "all", method=method)
    limit = 1e-12 if method == "svd" else 1.2e-7
    assert (spectra.error_bound <= limit * spectra.values[:, 0]).all()


def test_large_values_are_known_far_better_than_small_ones():
    spectra = block_singular_values(peaked_attention(64), [32], method="gram")
    errors = spectra.value_errors()[0]
    assert errors[0] < 1e-13
    assert (errors.diff() >= 0).all()


def test_values_beyond_the_block_are_exact():
    spectra = block_singular_values(peaked_attention(10), [1, 5], method="gram")
    assert spectra.value_errors()[0].count_nonzero() == 1
    assert spectra.undecided(1e-300).tolist()[0] == 0


def test_undecided_counts_values_next_to_the_tolerance():
    values = torch.tensor([1.0, 0.5, 0.5 + 1e-15, 1e-3, 0.0], dtype=torch.float64)
    matrix = with_block(block_with_values(values, 7))
    spectra = block_singular_values(matrix, [5], method="gram")
    assert spectra.undecided(0.5).item() == 2
    assert spectra.undecided(0.25).item() == 0
    assert spectra.undecided(1e-3).item() == 1
    assert spectra.undecided(1e-9).item() == 1


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_undecided_refuses_what_is_no_tolerance(tolerance):
    with pytest.raises(InvalidInputError, match="tolerance"):
        block_singular_values(peaked_attention(4), [2]).undecided(tolerance)


def test_auto_takes_svd_only_where_the_gram_is_too_coarse():
    matrices = torch.stack([peaked_attention(96), 1e4 * peaked_attention(96)])
    spectra = block_singular_values(matrices, "all", tolerance_floor=1e-5)
    assert spectra.method == "gram+svd"
    assert "tolerance" in spectra.reason
    assert spectra.from_squares[0].all()
    assert not spectra.from_squares[1, 30:60].any()
    assert (spectra.error_bound < 1e-5).all()
    expected = block_singular_values(matrices, "all", method="svd").values
    torch.testing.assert_close(spectra.values, expected, rtol=0, atol=1e-5)


def test_auto_decomposes_short_operators_one_by_one():
    spectra = block_singular_values(peaked_attention(64), "all")
    assert (spectra.method, spectra.reason) == ("svd", "short enough for an SVD of each block")
    assert (spectra.error_bound <= 1e-13 * spectra.values[..., 0]).all()


@pytest.mark.parametrize(("floor", "method"), [(None, "gram"), (1e-3, "gram"), (0.0, "svd")])
def test_auto_names_what_it_did(floor, method):
    spectra = block_singular_values(peaked_attention(80), "all", tolerance_floor=floor)
    assert spectra.method == method
    assert spectra.reason
