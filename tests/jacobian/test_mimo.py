"""Operators that mix channels: blocks by tokens, exactly as numpy decomposes them."""

from __future__ import annotations

import pytest
import torch
from jacobian.mixers import S5, assert_spectra, block_values

import hf_ess
from hf_ess import InvalidInputError, InvalidTypeError, NonFiniteError, NotCausalError
from hf_ess.operators import DenseMimoOperator, DenseOperator
from hf_ess.spectra import Request, has_own_route, mimo_block_singular_values

LENGTH = 9


def block_triangular(length, channels_out, channels_in, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(
        length, channels_out, length, channels_in, generator=generator, dtype=torch.float64
    )
    visible = torch.ones(length, length).tril()[:, None, :, None]
    return (matrix * visible).reshape(length * channels_out, length * channels_in).to(**kwargs)


@pytest.mark.parametrize("channels", [(3, 3), (2, 4), (4, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("method", ["auto", "gram", "svd"])
@pytest.mark.parametrize("window", [None, (2, 3)])
def test_every_block_is_as_decomposed_alone(channels, method, window):
    matrix = block_triangular(LENGTH, *channels)
    operator = DenseMimoOperator(matrix, *channels)
    spectra = hf_ess.block_singular_values(operator, "all", method=method, window=window)
    assert spectra.positions == tuple(range(1, LENGTH))
    assert spectra.window == window
    assert_spectra(spectra, matrix, *channels, atol=1e-12 * float(spectra.values.max()))
    widest = max(len(block_values(matrix, i, *channels, window)) for i in range(1, LENGTH))
    assert spectra.values.shape == (1, 1, LENGTH - 1, widest)
    for place, position in enumerate(spectra.positions):
        assert spectra.sizes[0, 0, place] == len(block_values(matrix, position, *channels, window))


@pytest.mark.parametrize("leading", [(), (2,), (2, 1, 3)])
def test_matrices_may_have_any_leading_dimensions(leading):
    matrix = block_triangular(LENGTH, 2, 3)
    formed = matrix.expand(*leading, *matrix.shape)
    values = mimo_block_singular_values(formed, Request((2, 5)), 2, 3).values
    expected = hf_ess.block_singular_values(DenseMimoOperator(matrix, 2, 3), [2, 5]).values
    torch.testing.assert_close(
        values, expected[0, 0].expand(*leading, *expected.shape[2:]), rtol=0, atol=1e-12
    )


def test_a_tight_budget_takes_the_groups_one_by_one():
    matrices = torch.stack([block_triangular(LENGTH, 2, 3, seed) for seed in range(4)])
    operator = DenseMimoOperator(matrices, 2, 3)
    whole = hf_ess.block_singular_values(operator, "all")
    budget = operator.dense_bytes_per_group()
    parts = hf_ess.block_singular_values(operator, "all", memory_budget=budget)
    torch.testing.assert_close(parts.values, whole.values, rtol=0, atol=1e-12)
    with pytest.raises(hf_ess.MemoryBudgetError, match="memory budget"):
        hf_ess.block_singular_values(operator, "all", memory_budget=budget - 1)


def test_a_recurrence_has_the_rank_of_its_state():
    mixer = S5(state=3)
    operator = DenseMimoOperator(mixer.matrix(LENGTH), 4, 2, state_size=3)
    features = torch.randn(1, LENGTH, 2, dtype=torch.float64)
    torch.testing.assert_close(operator.apply(features[:, None])[:, 0], mixer(features))
    spectra = hf_ess.block_singular_values(operator, "all")
    positions = torch.tensor(spectra.positions)
    ranks = hf_ess.tolerance_ess(spectra.values, 1e-10)
    assert ranks[0, 0].tolist() == operator.attainable(positions)[0, 0].tolist()
    assert operator.capacity(positions)[0, 0].tolist() == [2, *[3] * (LENGTH - 2)]


def test_without_a_known_state_the_blocks_bound_it():
    operator = DenseMimoOperator(block_triangular(4, 1, 3), 1, 3)
    positions = torch.arange(1, 4)
    assert operator.capacity(positions)[0, 0].tolist() == [3, 6, 9]
    assert operator.attainable(positions)[0, 0].tolist() == [3, 2, 1]
    assert operator.state_size is None
    assert operator.shape == (1, 1, 4, 12)
    assert has_own_route(operator)


def test_one_channel_is_a_plain_operator():
    matrix = torch.randn(LENGTH, LENGTH, dtype=torch.float64).tril()
    mimo = hf_ess.block_singular_values(DenseMimoOperator(matrix, 1, 1), "all")
    siso = hf_ess.block_singular_values(DenseOperator(matrix), "all")
    assert torch.equal(mimo.values, siso.values)


def test_channels_that_do_not_mix_have_their_own_states():
    """Mixing channels by invertible matrices inside each token changes no rank."""
    siso = torch.stack([torch.randn(LENGTH, LENGTH).double().tril() for _ in range(3)])
    separate = torch.einsum("cts,cd->tcsd", siso, torch.eye(3).double())
    operator = DenseMimoOperator(separate.reshape(3 * LENGTH, 3 * LENGTH), 3, 3)
    together = hf_ess.block_singular_values(operator, "all")
    apart = hf_ess.block_singular_values(DenseOperator(siso), "all")
    joined = apart.values[0].movedim(0, -1).flatten(-2).sort(-1, descending=True).values
    kept = together.values[0, 0]
    torch.testing.assert_close(kept, joined[:, : kept.shape[-1]], rtol=0, atol=1e-12)


def test_what_acts_within_tokens_is_no_memory():
    matrix = torch.block_diag(*[torch.full((2, 3), 1e200, dtype=torch.float64)] * LENGTH)
    past = block_triangular(LENGTH, 2, 3)
    spectra = hf_ess.block_singular_values(DenseMimoOperator(matrix, 2, 3), "all")
    assert not spectra.values.any()
    both = hf_ess.block_singular_values(DenseMimoOperator(matrix + past, 2, 3), [4], method="svd")
    assert_spectra(both, past, 2, 3, atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "channels", "error"),
    [
        ("words", (1, 1), InvalidTypeError),
        (torch.ones(4, 4, dtype=torch.int64), (2, 2), InvalidTypeError),
        (torch.eye(4), (0, 2), InvalidInputError),
        (torch.eye(5), (2, 2), InvalidInputError),
        (torch.eye(4), (1, 2), InvalidInputError),
        (torch.ones(4), (1, 1), InvalidInputError),
        (torch.zeros(0, 0), (1, 1), InvalidInputError),
        (torch.full((4, 4), torch.nan), (2, 2), NonFiniteError),
        (torch.ones(4, 4), (2, 2), NotCausalError),
    ],
)
def test_what_is_no_operator_is_refused(matrix, channels, error):
    with pytest.raises(error):
        DenseMimoOperator(matrix, *channels)


def test_inputs_of_another_shape_are_refused():
    operator = DenseMimoOperator(block_triangular(4, 1, 3), 1, 3)
    with pytest.raises(InvalidInputError, match=r"\[1, 1, 4, 3\]"):
        operator.apply(torch.ones(1, 1, 4, 1))
