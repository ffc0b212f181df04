from __future__ import annotations

import numpy as np
import pytest
import torch
from operators_recurrent.families import BATCH, FAMILIES, GROUPS, STATES, Features
from operators_recurrent.naive import block_values

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.operators import (
    ColumnScaled,
    ConvolutionOperator,
    DenseOperator,
    ModalConvolution,
    Product,
    RowScaled,
    Sum,
    realization,
)
from hf_ess.spectra import block_singular_values

LENGTH = 48
STRUCTURED = ("factored", "banded")


@pytest.fixture
def x():
    return Features(LENGTH, seed=5)


def core(x, name="mamba1"):
    """A recurrence and its matrix."""
    operator = FAMILIES[name](x).operator
    return operator, operator.to_dense().numpy()


def toeplitz(taps, length):
    """M_ij = taps[i - j], entry by entry; taps [..., K]."""
    matrix = np.zeros((*taps.shape[:-1], length, length))
    for i in range(length):
        for j in range(max(0, i - taps.shape[-1] + 1), i + 1):
            matrix[..., i, j] = taps[..., i - j]
    return matrix


def band(taps):
    """M_ij = taps[i, i - j], entry by entry; taps [..., L, K]."""
    length = taps.shape[-2]
    matrix = np.zeros((*taps.shape[:-2], length, length))
    for i in range(length):
        for j in range(max(0, i - taps.shape[-1] + 1), i + 1):
            matrix[..., i, j] = taps[..., i, i - j]
    return matrix


def assert_is(operator, expected):
    """The operator has this matrix, applies it, and has its spectra at all positions."""
    dense = operator.to_dense()
    assert tuple(dense.shape) == operator.shape == expected.shape
    np.testing.assert_allclose(dense.numpy(), expected, rtol=0, atol=1e-12 * abs(expected).max())
    inputs = Features(operator.length, seed=3).normal(*dense.shape[:3], 3)
    outputs = operator.apply(inputs).numpy()
    np.testing.assert_allclose(outputs, expected @ inputs.numpy(), rtol=0, atol=1e-10)
    for groups in (slice(0, 1), slice(1, operator.groups)):
        part = operator.to_dense(groups)
        torch.testing.assert_close(part, dense[:, groups])
        torch.testing.assert_close(
            operator.apply(inputs[:, groups], groups), part @ inputs[:, groups]
        )
    spectra = block_singular_values(operator, "all")
    for index, position in enumerate(spectra.positions):
        true = block_values(expected, position)
        size = min(true.shape[-1], spectra.values.shape[-1])
        error = np.abs(spectra.values[:, :, index, :size].numpy() - true[..., :size])
        assert (
            error <= spectra.value_errors()[:, :, index, :size].numpy() + 1e-13 * true[..., :1]
        ).all()
        assert (true[..., size:] <= 1e-12 * true[..., :1] + 1e-300).all()
    return spectra


def numeric_rank(spectra, tolerance=1e-11):
    largest = spectra.values[..., 0].amax()
    return int((spectra.values > tolerance * largest).sum(-1).max())


@pytest.mark.parametrize("taps", [1, 2, 4, 12, 13, LENGTH, LENGTH + 9])
@pytest.mark.parametrize("skip", [False, True])
def test_constant_convolutions(x, taps, skip):
    weights = x.normal(GROUPS, taps)
    direct = x.normal(1, GROUPS, 1) if skip else None
    operator = ConvolutionOperator(weights, direct, length=LENGTH, batch=BATCH)
    expected = toeplitz(weights.numpy(), LENGTH)
    if skip:
        expected = expected + direct.numpy()[0, :, :, None] * np.eye(LENGTH)
    spectra = assert_is(operator, np.broadcast_to(expected, (BATCH, *expected.shape)))
    memory = min(taps, LENGTH) - 1
    assert operator.state_size == (memory if memory < LENGTH - 1 else None)
    assert numeric_rank(spectra) == min(memory, LENGTH // 2)
    assert (spectra.method == "banded") == (memory <= LENGTH // 4)


@pytest.mark.parametrize("taps", [1, 2, 4, 30])
def test_convolutions_that_change_in_time(x, taps):
    weights = x.normal(BATCH, 2, LENGTH, taps)
    operator = ConvolutionOperator(weights, groups=GROUPS)
    spectra = assert_is(operator, band(weights.numpy()).repeat(2, axis=1))
    assert numeric_rank(spectra) == min(taps - 1, LENGTH // 2)


def test_short_convolutions_in_windows(x):
    weights = x.normal(BATCH, GROUPS, LENGTH, 5)
    spectra = block_singular_values(ConvolutionOperator(weights), "all", window=(3, 9))
    for index, position in enumerate(spectra.positions):
        true = block_values(band(weights.numpy()), position, (3, 9))
        values = spectra.values[:, :, index, : true.shape[-1]].numpy()
        np.testing.assert_allclose(values, true[..., : values.shape[-1]], atol=1e-13)


@pytest.mark.parametrize("complex_poles", [False, True])
def test_modal_convolutions_have_one_or_two_numbers_per_mode(x, complex_poles):
    poles = 0.9 * x.uniform(GROUPS, STATES)
    residues = x.normal(GROUPS, STATES)
    if complex_poles:
        poles = torch.polar(poles, 3 * x.uniform(GROUPS, STATES))
        residues = x.complex(GROUPS, STATES)
    operator = ModalConvolution(poles, residues, length=LENGTH, batch=BATCH)
    powers = poles.numpy()[..., None] ** np.arange(LENGTH)
    filters = np.real((residues.numpy()[..., None] * powers).sum(1))
    expected = toeplitz(filters, LENGTH)
    spectra = assert_is(operator, np.broadcast_to(expected, (BATCH, *expected.shape)))
    assert (
        operator.state_size == numeric_rank(spectra, 1e-9) == (2 if complex_poles else 1) * STATES
    )


@pytest.mark.parametrize("name", ["mamba1", "gated_delta_rule", "diagonal_state_space"])
def test_gates_keep_the_state(x, name):
    operator, matrix = core(x, name)
    gate, other = x.scalars(), x.normal(1, GROUPS, LENGTH)
    rows = RowScaled(operator, gate)
    spectra = assert_is(rows, gate.numpy()[..., None] * matrix)
    assert spectra.method == "factored"
    assert rows.state_size == operator.state_size
    both = ColumnScaled(rows, other)
    assert_is(both, gate.numpy()[..., None] * matrix * other.numpy()[..., None, :])
    assert realization(both).width == operator.width


def test_gated_long_convolution_is_dense(x):
    taps, x1, x2 = x.normal(GROUPS, LENGTH), x.scalars(), x.scalars()
    skip = x.normal(1, GROUPS, 1)
    hyena = RowScaled(ColumnScaled(ConvolutionOperator(taps, skip, length=LENGTH), x1), x2)
    matrix = toeplitz(taps.numpy(), LENGTH) + skip.numpy()[0, :, :, None] * np.eye(LENGTH)
    spectra = assert_is(hyena, x2.numpy()[..., None] * matrix * x1.numpy()[..., None, :])
    assert spectra.method not in STRUCTURED
    assert hyena.state_size is None
    assert realization(hyena) is None


@pytest.mark.parametrize("name", ["mamba1", "delta_rule", "complex_everywhere"])
def test_sums_add_states(x, name):
    first, matrix = core(x, name)
    second, other = core(x, "mamba2")
    operator = Sum(first, second)
    spectra = assert_is(operator, matrix + other)
    assert operator.state_size == first.state_size + STATES
    assert numeric_rank(spectra) == operator.state_size
    assert torch.equal(
        operator.capacity(torch.tensor([1, 30]))[0, 0], torch.tensor([1, operator.state_size])
    )


@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize(("name", "skips"), [("mamba1", True), ("gated_delta_rule", False)])
def test_convolution_before_a_recurrence_adds_its_taps(x, name, skips, taps):
    """N + K - 1 with a skip, N + K - 2 without: the newest input is then in the state already."""
    operator, matrix = core(x, name)
    weights = x.normal(GROUPS, taps)
    mixer = Product(operator, ConvolutionOperator(weights, length=LENGTH))
    gated = RowScaled(mixer, x.scalars())
    spectra = assert_is(mixer, matrix @ toeplitz(weights.numpy(), LENGTH))
    assert spectra.method == "factored"
    assert mixer.state_size == STATES + taps - 1
    assert numeric_rank(spectra) == STATES + taps - (1 if skips else 2)
    assert numeric_rank(block_singular_values(gated, "all")) == numeric_rank(spectra)


def test_products_of_recurrences(x):
    last, after = core(x, "matrix_per_step")
    first, before = core(x, "diagonal_state_space")
    spectra = assert_is(Product(last, first), after @ before)
    assert spectra.method == "factored"


def test_parts_with_one_sample_or_one_group_serve_all(x):
    operator, matrix = core(x)
    taps = x.normal(1, 3)
    single = ConvolutionOperator(taps, length=LENGTH)
    band_matrix = toeplitz(taps.numpy(), LENGTH)
    assert_is(Sum(operator, single), matrix + band_matrix)
    assert_is(Product(single, operator), band_matrix @ matrix)
    scale = x.scalars()
    expected = np.broadcast_to(band_matrix, matrix.shape) * scale.numpy()[..., None]
    assert_is(RowScaled(single, scale), expected)


def test_dense_parts_make_dense_compositions(x):
    operator, matrix = core(x)
    dense = DenseOperator(torch.ones(LENGTH, LENGTH).tril())
    spectra = assert_is(Product(operator, dense), matrix @ np.tri(LENGTH))
    assert spectra.method not in STRUCTURED


def test_shapes_that_do_not_fit_are_refused(x):
    operator, _ = core(x)
    short = ConvolutionOperator(torch.ones(1, 2), length=LENGTH - 1)
    with pytest.raises(InvalidInputError, match="lengths"):
        Sum(operator, short)
    with pytest.raises(InvalidInputError, match="groups"):
        RowScaled(operator, torch.ones(1, 3, 1))
    with pytest.raises(InvalidInputError, match="length"):
        ConvolutionOperator(torch.ones(1, 2))
    with pytest.raises(InvalidTypeError, match="taps"):
        ConvolutionOperator(torch.ones(1, 2, dtype=torch.int64), length=4)
    with pytest.raises(InvalidInputError, match=r"\[G, S\]"):
        ModalConvolution(torch.ones(2), torch.ones(2), length=4)
    with pytest.raises(InvalidInputError, match="maps inputs"):
        Sum(operator, operator).apply(torch.ones(1, 1, 1, 1))
