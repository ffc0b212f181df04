"""Gradients of metrics of spectra, through every structure, against finite differences."""

from __future__ import annotations

import pytest
import torch
from training.structures import LENGTH, STRUCTURES

import hf_ess
from hf_ess.operators import DenseMimoOperator, DenseOperator, ScalarDecay, StateSpaceOperator

POSITIONS = (2, 5, 9)
STEP = 1e-6
METRICS = {
    "entropy": hf_ess.entropy_ess,
    "tolerance": lambda values: hf_ess.soft_tolerance_ess(values, 0.3, width=0.3),
    "sum": lambda values: values.sum(-1),
}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def weighted(metric, operator, *, differentiable, **options):
    """A scalar in which every block has another weight."""
    values = hf_ess.block_singular_values(
        operator, POSITIONS, differentiable=differentiable, **options
    ).values
    numbers = METRICS[metric](values)
    weights = torch.linspace(0.5, 1.5, numbers.numel(), dtype=torch.float64)
    return (numbers * weights.reshape(numbers.shape)).sum()


def along(metric, structure, features, direction, **options):
    """The derivative along a direction of the features, by central differences."""
    ends = [
        weighted(
            metric,
            structure.make(
                *(f + sign * STEP * d for f, d in zip(features, direction, strict=True))
            ),
            differentiable=False,
            **options,
        )
        for sign in (1, -1)
    ]
    return (ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_finite_differences(name, metric):
    structure = STRUCTURES[name]
    features = [f.requires_grad_() for f in structure.features()]
    gradients = torch.autograd.grad(
        weighted(metric, structure.make(*features), differentiable=True), features
    )
    plain = [f.detach() for f in features]
    for changed in range(len(plain)):
        direction = [torch.zeros_like(f) for f in plain]
        direction[changed] = torch.randn(
            plain[changed].shape,
            generator=torch.Generator().manual_seed(changed),
            dtype=torch.float64,
        )
        expected = along(metric, structure, plain, direction)
        got = (gradients[changed] * direction[changed]).sum()
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", STRUCTURES)
def test_windows(name):
    structure = STRUCTURES[name]
    features = [f.requires_grad_() for f in structure.features()]
    loss = weighted("sum", structure.make(*features), differentiable=True, window=(3, 2))
    gradients = torch.autograd.grad(loss, features)
    plain = [f.detach() for f in features]
    direction = [torch.ones_like(f) for f in plain]
    expected = along("sum", structure, plain, direction, window=(3, 2))
    got = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["auto", "svd"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_values_are_those_without_a_graph(name, method):
    structure = STRUCTURES[name]
    operator = structure.make(*(f.requires_grad_() for f in structure.features()))
    plain = hf_ess.block_singular_values(operator, POSITIONS, method=method)
    followed = hf_ess.block_singular_values(operator, POSITIONS, method=method, differentiable=True)
    assert torch.equal(plain.values, followed.values.detach())
    assert followed.values.requires_grad
    assert not plain.values.requires_grad


@pytest.mark.parametrize("name", STRUCTURES)
def test_dense_and_apply_keep_the_graph(name):
    structure = STRUCTURES[name]
    features = [f.requires_grad_() for f in structure.features()]
    dense = structure.make(*features).to_dense()
    inputs = torch.randn(*dense.shape[:3], 2, generator=torch.Generator().manual_seed(3)).double()
    by_matrix = torch.autograd.grad(((dense @ inputs) ** 2).sum(), features)
    applied = structure.make(*features).apply(inputs)
    by_apply = torch.autograd.grad((applied**2).sum(), features)
    for expected, got in zip(by_matrix, by_apply, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", STRUCTURES)
def test_without_a_graph_nothing_is_kept(name):
    structure = STRUCTURES[name]
    features = [f.requires_grad_() for f in structure.features()]
    with torch.no_grad():
        operator = structure.make(*features)
        assert not operator.to_dense().requires_grad
        with_graph = hf_ess.block_singular_values(operator, POSITIONS, differentiable=True)
    assert not with_graph.values.requires_grad


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(12, 12),
        torch.ones(12, 12).tril(),
        torch.eye(12) + torch.eye(12).roll(4, 0).tril(),
        torch.eye(12).double().roll(1, 0).tril() * 1e-200,
        torch.ones(12, 12).double().tril() * 1e150,
    ],
    ids=["zero", "rank one", "equal", "tiny", "huge"],
)
def test_degenerate_blocks_give_finite_gradients(metric, matrix):
    matrix = matrix.double().requires_grad_()
    weighted(metric, DenseOperator(matrix), differentiable=True).backward()
    assert matrix.grad.isfinite().all()


def test_equal_singular_values_have_the_gradient_of_the_spectral_function():
    # The sum of the singular values of an orthogonal block Q moves by trace(Q' dH).
    orthogonal = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    matrix = torch.zeros(8, 8, dtype=torch.float64)
    matrix[4:, :4] = orthogonal
    matrix.requires_grad_()
    spectra = hf_ess.block_singular_values(matrix, [4], differentiable=True)
    spectra.values.sum().backward()
    torch.testing.assert_close(matrix.grad[4:, :4], orthogonal, rtol=1e-12, atol=1e-12)
    assert matrix.grad[:4].abs().max() == 0


def test_the_uniform_spectrum_is_a_maximum_of_entropy():
    matrix = torch.zeros(8, 8, dtype=torch.float64)
    matrix[4:, :4] = 3 * torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    matrix.requires_grad_()
    spectra = hf_ess.block_singular_values(matrix, [4], differentiable=True)
    entropy = hf_ess.entropy_ess(spectra.values)
    entropy.sum().backward()
    assert entropy.item() == pytest.approx(4.0, abs=1e-12)
    assert matrix.grad.abs().max() < 1e-12


def test_rounding_carries_no_gradient():
    # Rank one: what the decomposition makes of the other seven values is rounding.
    vectors = torch.randn(2, 16, dtype=torch.float64)
    matrix = torch.outer(vectors[0], vectors[1]).tril().requires_grad_()
    spectra = hf_ess.block_singular_values(matrix, [8], differentiable=True, method="svd")
    # Its block is u v': the gradient of the sum is u v' / |u| |v|, without noise of order one.
    spectra.values.sum().backward()
    after, before = vectors[0, 8:], vectors[1, :8]
    expected = torch.outer(after, before) / (after.norm() * before.norm())
    torch.testing.assert_close(matrix.grad[8:, :8], expected, rtol=1e-10, atol=1e-10)


def test_a_text_of_more_steps_than_are_worked_on_at_a_time():
    length = 150
    generator = torch.Generator().manual_seed(0)
    key, query = torch.randn(2, 1, 2, length, 4, generator=generator, dtype=torch.float64)
    decay = torch.full((1, 2, length), -0.01, dtype=torch.float64)
    features = [f.requires_grad_() for f in (key, query, decay)]
    operator = StateSpaceOperator(ScalarDecay(decay), key, query)
    by_factors = hf_ess.block_singular_values(operator, [70], differentiable=True)
    formed = hf_ess.block_singular_values(
        operator.to_dense(), [70], differentiable=True, method="svd"
    )
    for metric in METRICS.values():
        expected = torch.autograd.grad(metric(formed.values).sum(), features, retain_graph=True)
        got = torch.autograd.grad(metric(by_factors.values).sum(), features, retain_graph=True)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_mixers_of_many_channels_are_refused():
    matrix = torch.ones(1, 1, 2 * LENGTH, 2 * LENGTH).tril()
    operator = DenseMimoOperator(matrix, channels_out=2, channels_in=2)
    with pytest.raises(hf_ess.NotDifferentiableError, match="MimoOperator"):
        hf_ess.block_singular_values(operator, [4], differentiable=True)
