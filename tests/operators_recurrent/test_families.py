from __future__ import annotations

import numpy as np
import pytest
import torch
from operators_recurrent.families import FAMILIES, GROUPS, Features
from operators_recurrent.naive import block_values, recurrence_matrices

from hf_ess.operators import StateSpaceOperator
from hf_ess.spectra import block_singular_values

LENGTHS = [1, 2, 3, 17, 64, 129, 256]
TOLERANCE = 1e-10


def build(name, length, dtype=torch.float64):
    return FAMILIES[name](Features(length, seed=length, dtype=dtype))


def naive(example):
    return recurrence_matrices(
        example.transition, example.write, example.read, example.direct, example.reads
    )


def largest(array):
    return max(np.abs(array).max(initial=0), 1e-300)


@pytest.fixture(params=sorted(FAMILIES))
def name(request):
    return request.param


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64])
def test_matrix_and_outputs_are_those_of_the_naive_recurrence(name, length):
    example = build(name, length)
    expected = naive(example)
    dense = example.operator.to_dense()
    assert dense.dtype == torch.float64
    assert np.abs(dense.numpy() - expected).max() <= 1e-13 * largest(expected)
    for channels in (1, 9):
        inputs = Features(length, seed=1).normal(*dense.shape[:3], channels)
        outputs = example.operator.apply(inputs).numpy()
        true = expected @ inputs.numpy()
        assert np.abs(outputs - true).max() <= 1e-12 * largest(true)


@pytest.mark.parametrize("length", [129, 256])
def test_long_outputs_are_those_of_the_matrix(name, length):
    operator = build(name, length).operator
    dense = operator.to_dense()
    for channels in (1, 9):
        inputs = Features(length, seed=1).normal(*dense.shape[:3], channels)
        true = dense @ inputs
        error = (operator.apply(inputs) - true).abs().max()
        assert error <= 1e-12 * dense.abs().max() * inputs.abs().max() * length


@pytest.mark.parametrize("length", LENGTHS)
def test_spectra_are_those_of_dense_blocks(name, length):
    example = build(name, length)
    if length < 2:
        return
    positions = "all" if length <= 64 else [1, 4, length // 2, length - 3]
    checked = (slice(0, 2), slice(1, 3)) if length <= 64 else (slice(1, 2), slice(1, 3))
    dense = example.operator.to_dense().numpy()[checked]
    spectra = block_singular_values(example.operator, positions)
    assert spectra.method == "factored"
    assert not spectra.from_squares.any()
    assert spectra.values.shape[-1] <= example.state_size
    for index, position in enumerate(spectra.positions):
        true = block_values(dense, position)
        size = spectra.sizes[0, 0, index]
        assert size == min(example.state_size, position, length - position)
        values = spectra.values[checked][:, :, index, :size].numpy()
        scale = np.maximum(true[..., :1], 1e-300)
        assert (np.abs(values - true[..., :size]) <= TOLERANCE * scale).all()
        assert (true[..., size:] <= TOLERANCE * scale).all()
        assert (np.diff(values) <= 0).all()


def test_values_lie_within_their_bounds(name):
    operator = build(name, 65).operator
    factored = block_singular_values(operator, "all")
    dense = block_singular_values(operator, "all", method="svd")
    size = factored.values.shape[-1]
    distance = (factored.values - dense.values[..., :size]).abs().amax(-1)
    assert (distance <= factored.error_bound + dense.error_bound).all()
    assert (factored.error_bound <= 1e-12 * factored.values[..., 0].amax()).all()


def test_windows(name):
    example = build(name, 40)
    dense = example.operator.to_dense().numpy()
    spectra = block_singular_values(example.operator, "all", window=(4, 7))
    assert spectra.window == (4, 7)
    for index, position in enumerate(spectra.positions):
        true = block_values(dense, position, (4, 7))
        size = spectra.sizes[0, 0, index]
        values = spectra.values[:, :, index, :size].numpy()
        assert (np.abs(values - true[..., :size]) <= 1e-12 * true[..., :1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_keep_their_dtype_and_are_exact(name, dtype):
    if dtype == torch.bfloat16 and build(name, 2).operator.is_complex:
        dtype = torch.float32  # torch has no complex numbers of half precision
    example = build(name, 20, dtype)
    expected = naive(example)
    assert np.abs(example.operator.to_dense().numpy() - expected).max() <= 1e-13 * largest(expected)


def test_groups_can_be_chosen(name):
    operator = build(name, 20).operator
    whole = operator.to_dense()
    inputs = Features(20).normal(*whole.shape[:3], 2)
    for groups in (slice(1, 2), slice(1, GROUPS), slice(0, 0)):
        assert torch.equal(operator.to_dense(groups), whole[:, groups])
        outputs = operator.apply(inputs[:, groups], groups)
        torch.testing.assert_close(outputs, whole[:, groups] @ inputs[:, groups])


def test_structure(name):
    example = build(name, 20)
    operator = example.operator
    assert isinstance(operator, StateSpaceOperator)
    assert operator.state_size == example.state_size
    assert torch.equal(
        operator.attainable(torch.tensor([1, 10, 19]))[0, 0],
        torch.tensor([1, example.state_size, 1]),
    )
    assert "state_size" in repr(operator)


def test_memory_budgets_do_not_change_the_result(name):
    operator = build(name, 50).operator
    least = operator.factor_bytes_per_group(49, 64)
    small = block_singular_values(operator, "all", memory_budget=least)
    large = block_singular_values(operator, "all")
    torch.testing.assert_close(small.values, large.values, rtol=1e-12, atol=1e-13)
