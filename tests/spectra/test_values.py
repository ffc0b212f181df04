"""The values against a naive oracle, and what they must be for operators known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spectra.causal_matrices import (
    chunked,
    entropy,
    low_rank,
    naive_values,
    orthogonal,
    peaked_attention,
    previous_token,
    random_causal,
    sliding_average,
    uniform_average,
)

from hf_ess.spectra import METHODS, block_singular_values

LENGTHS = [2, 3, 4, 5, 8, 13, 32, 61, 96]
MAKERS = {
    "attention": peaked_attention,
    "random": random_causal,
    "uniform": uniform_average,
    "rank3": lambda length: low_rank(length, 3),
    "sliding": lambda length: sliding_average(length, 5),
    "chunked": lambda length: chunked(length, 7),
    "shift": previous_token,
}


def assert_matches(matrix, spectra, window=None):
    for index, position in enumerate(spectra.positions):
        expected = naive_values(matrix, position, window)
        got = spectra.values[index]
        # The oracle has an error of its own, of LAPACK's size.
        slack = 1e-13 * (1 + float(expected[0]))
        errors = spectra.value_errors()[index, : len(expected)] + slack
        assert ((got[: len(expected)] - expected).abs() <= errors).all(), position
        assert (got[len(expected) :] == 0).all()
        assert entropy(got) == pytest.approx(entropy(expected), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("length", LENGTHS)
def test_values_match_the_oracle_at_all_positions(length, maker, method):
    matrix = MAKERS[maker](length)
    assert_matches(matrix, block_singular_values(matrix, "all", method=method))


@pytest.mark.parametrize("length", [128, 200, 257])
def test_longer_sequences_match_and_keep_their_entropy(length):
    matrix = peaked_attention(length)
    spectra = block_singular_values(matrix, "auto")
    assert_matches(matrix, spectra)
    for index, position in enumerate(spectra.positions):
        expected = entropy(naive_values(matrix, position))
        assert entropy(spectra.values[index]) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("window", [1, 4, (3, 9), (9, 3), (100, 2), (100, 100)])
@pytest.mark.parametrize("maker", ["attention", "sliding", "chunked"])
def test_windows_match_the_oracle(maker, window, method):
    matrix = MAKERS[maker](37)
    pair = window if isinstance(window, tuple) else (window, window)
    spectra = block_singular_values(matrix, "all", window=window, method=method)
    assert spectra.window == pair
    assert spectra.values.shape[-1] == min(*pair, 18)
    assert_matches(matrix, spectra, pair)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-5, 3.0, 1e150])
@pytest.mark.parametrize("method", METHODS)
def test_scaling_the_operator_scales_its_values(method, scale):
    matrix = peaked_attention(40)
    plain = block_singular_values(matrix, 7, method=method)
    scaled = block_singular_values(matrix * scale, 7, method=method)
    assert ((scaled.values - scale * plain.values).abs() <= 2 * scaled.error_bound[:, None]).all()
    torch.testing.assert_close(scaled.error_bound / scale, plain.error_bound)


def test_the_diagonal_does_not_enter():
    matrix = random_causal(20)
    heavy = matrix + 1e200 * torch.eye(20, dtype=torch.float64)
    plain, other = (block_singular_values(m, "all") for m in (matrix, heavy))
    assert torch.equal(plain.values, other.values)
    assert torch.equal(plain.error_bound, other.error_bound)


def test_permuting_operators_permutes_spectra():
    matrices = torch.stack([peaked_attention(33, seed) for seed in range(5)])
    order = torch.tensor([3, 0, 4, 1, 2])
    plain = block_singular_values(matrices, "all").values
    assert torch.equal(block_singular_values(matrices[order], "all").values, plain[order])


@pytest.mark.parametrize("position", [1, 9, 15, 24, 29])
def test_a_change_of_basis_inside_past_and_future_keeps_the_values(position):
    matrix = random_causal(30)
    turned = matrix.clone()
    past, future = orthogonal(position, 1), orthogonal(30 - position, 2)
    turned[position:, :position] = future @ matrix[position:, :position] @ past
    plain, other = (block_singular_values(m, [position]).values for m in (matrix, turned))
    torch.testing.assert_close(plain, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("maker", ["attention", "random", "sliding"])
def test_counts_move_by_at_most_one_between_neighbours(maker):
    values = block_singular_values(MAKERS[maker](60), "all").values
    for tolerance in (1.0, 0.3, 1e-1, 1e-2, 1e-3):
        counts = (values > tolerance).sum(-1)
        assert counts.diff().abs().max() <= 1


def ranks(matrix, spectra):
    return (spectra.values > 2 * spectra.error_bound[:, None]).sum(-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [1, 2, 5, 12])
def test_rank_of_an_operator_of_known_rank(rank, method):
    matrix = low_rank(48, rank)
    spectra = block_singular_values(matrix, "all", method=method)
    expected = [min(rank, i, 48 - i) for i in spectra.positions]
    assert ranks(matrix, spectra).tolist() == expected


@pytest.mark.parametrize("maker", ["shift", "uniform"])
def test_one_number_is_carried(maker):
    matrix = MAKERS[maker](64)
    assert (ranks(matrix, block_singular_values(matrix, "all")) == 1).all()


def test_a_sliding_window_carries_less_than_its_width_exactly():
    spectra = block_singular_values(sliding_average(100, 6), "all")
    assert (spectra.sizes <= 5).all()
    assert spectra.sizes[50] == 5


def test_a_chunked_operator_carries_half_a_chunk_exactly():
    spectra = block_singular_values(chunked(96, 8), "all")
    assert spectra.sizes.tolist() == [min(i % 8, 8 - i % 8) for i in spectra.positions]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_carried_by_zeros(method):
    spectra = block_singular_values(torch.eye(9, dtype=torch.float64), "all", method=method)
    assert not spectra.values.any()
    assert not spectra.error_bound.any()
    assert not spectra.sizes.any()


def test_zero_rows_and_columns_are_no_values():
    matrix = random_causal(30)
    matrix[20:25] = 0
    matrix[:, 3:9] = 0
    spectra = block_singular_values(matrix, "all")
    assert_matches(matrix, spectra)
    assert spectra.sizes[14] == 15 - 6


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f8"])
def test_arrays_of_any_float_are_taken(dtype):
    matrix = peaked_attention(12).numpy().astype(dtype)
    matrix.flags.writeable = False
    spectra = block_singular_values(matrix, "all")
    assert_matches(torch.from_numpy(matrix.astype(np.float64)), spectra)


def test_leading_axes_are_kept():
    matrices = torch.stack([random_causal(11, seed) for seed in range(6)]).reshape(2, 1, 3, 11, 11)
    spectra = block_singular_values(matrices, 3)
    assert spectra.values.shape == (2, 1, 3, 3, 5)
    assert spectra.error_bound.shape == spectra.sizes.shape == (2, 1, 3, 3)
    alone = block_singular_values(matrices[1, 0, 2], 3)
    assert torch.equal(spectra.values[1, 0, 2], alone.values)


def test_the_matrix_is_left_as_it_is_and_gradients_do_not_matter():
    matrix = random_causal(16).requires_grad_()
    before = matrix.detach().clone()
    spectra = block_singular_values(matrix, "all")
    assert torch.equal(matrix, before)
    assert not spectra.values.requires_grad


def test_results_of_inference_mode_are_ordinary_tensors():
    with torch.inference_mode():
        spectra = block_singular_values(torch.stack([random_causal(16)] * 3), "all")
    assert not spectra.values.is_inference()
