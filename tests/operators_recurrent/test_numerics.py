"""Against exact arithmetic, control theory, and everything that overflows or vanishes."""

from __future__ import annotations

import subprocess
import sys

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from operators_recurrent.families import Features

from hf_ess.errors import (
    NonFiniteError,
)
from hf_ess.operators import (
    DeltaRule,
    DenseTransition,
    DiagonalDecay,
    DiagonalPlusLowRank,
    RecurrentOperator,
    ScalarDecay,
    StateSpaceOperator,
)
from hf_ess.spectra import block_singular_values

DIGITS = 120
DIGITS_FOR_BAD_SCALES = 800


def exact_values(operator, positions, digits=DIGITS):
    """Singular values of one group from Gramians in exact arithmetic, a list of floats each.

    Takes the operator's own float64 stretch as given: A_t, b_t, c_t with the state read before.
    """
    stretch = operator.stretch(slice(0, 1), 0, operator.length)
    length, states = operator.length, operator.width
    identity = torch.eye(states, dtype=torch.float64)[None, None]
    transitions = []
    for step in range(length):
        rows = identity.clone()
        stretch.steps.backward_(rows, step)
        transitions.append(mpmath.matrix(rows[0, 0].tolist()))
    with mpmath.workdps(digits):
        past, pasts = mpmath.zeros(states), {}
        for step in range(length):
            write = mpmath.matrix(stretch.write[0, 0, step].tolist())
            past = transitions[step] * past * transitions[step].T + write * write.T
            pasts[step + 1] = past
        future, values = mpmath.zeros(states), {}
        for step in reversed(range(length)):
            read = mpmath.matrix(stretch.read[0, 0, step].tolist())
            future = transitions[step].T * future * transitions[step] + read * read.T
            if step in positions:
                product = pasts[step] * future
                squares = [product[0, 0]]
                if states > 1:
                    squares = mpmath.eig(product, left=False, right=False)
                squares = sorted((mpmath.re(square) for square in squares), reverse=True)
                values[step] = [float(mpmath.sqrt(max(square, 0))) for square in squares]
    return [values[position] for position in positions]


def graded_columns(x):
    scale = 10.0 ** -torch.arange(0.0, 20.0, 5.0, dtype=torch.float64)
    decay = x.uniform(1, 1, x.length, 4) / 5 + 0.8
    vectors = x.normal(1, 1, x.length, 4)
    return StateSpaceOperator(DiagonalDecay(decay), vectors * scale, vectors * scale)


def badly_scaled_states(x):
    scale = 10.0 ** torch.tensor([120.0, -130.0, 40.0, 0.0], dtype=torch.float64)
    decay = x.uniform(1, 1, x.length, 4) / 5 + 0.8
    write, read = x.normal(1, 1, x.length, 4), x.normal(1, 1, x.length, 4)
    return StateSpaceOperator(DiagonalDecay(decay), write * scale, read / scale)


def nearly_equal_decays(x):
    decay = (0.9 + 1e-3 * torch.arange(4.0, dtype=torch.float64)).reshape(1, 1, 1, 4)
    ones = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return StateSpaceOperator(DiagonalDecay(decay), ones, ones, length=x.length)


def running_sum(x):
    ones = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return StateSpaceOperator(DiagonalDecay(ones), ones / 3, ones / 7, length=x.length)


def slow_decay(x):
    ones = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    decay = torch.tensor([0.9999, 0.999], dtype=torch.float64).reshape(1, 1, 1, 2)
    return StateSpaceOperator(DiagonalDecay(decay), ones / 3, ones / 7, length=x.length)


def repeated_replacement(x):
    key = torch.nn.functional.normalize(torch.ones(1, 1, x.length, 4) + x.vectors()[:1, :1, :, :1])
    key = torch.nn.functional.normalize(key.double(), dim=-1)
    beta = torch.full((1, 1, 1), 1.7, dtype=torch.float64)
    read = x.normal(1, 1, x.length, 4)
    return StateSpaceOperator(DeltaRule(key, beta), key, read)


def rotations(x):
    turn, _ = torch.linalg.qr(x.normal(4, 4))
    return StateSpaceOperator(
        DenseTransition(turn), x.normal(1, 1, x.length, 4), x.normal(1, 1, x.length, 4)
    )


def growth_that_nothing_excites(x):
    """Rounding errors fall into the mode that grows and leave s_1 far below |O| |R|."""
    basis, _ = torch.linalg.qr(x.normal(3, 3))
    factors = torch.tensor([1.3, 0.7, 0.2], dtype=torch.float64)
    matrix = basis * factors @ basis.T
    write = x.normal(1, 1, x.length, 2) @ basis[:, 1:].T
    return StateSpaceOperator(DenseTransition(matrix), write, x.normal(1, 1, x.length, 3))


def generalised(x):
    shape = 1, 1, x.length, 4
    decay = 0.9 + 0.1 * x.uniform(*shape)
    direction = torch.nn.functional.normalize(x.normal(*shape), dim=-1)
    transition = DiagonalPlusLowRank(decay, -direction, direction * x.uniform(*shape))
    return StateSpaceOperator(transition, x.normal(*shape), x.normal(*shape))


GRADED = [
    graded_columns,
    badly_scaled_states,
    nearly_equal_decays,
    running_sum,
    slow_decay,
    repeated_replacement,
    rotations,
    growth_that_nothing_excites,
    generalised,
]


@pytest.mark.parametrize("build", GRADED)
@pytest.mark.parametrize("length", [9, 60, 400])
def test_errors_lie_within_their_bounds(build, length):
    operator = build(Features(length, seed=length))
    positions = sorted({2, length // 3, length // 2, length - 3})
    spectra = block_singular_values(operator, positions)
    digits = DIGITS_FOR_BAD_SCALES if build is badly_scaled_states else DIGITS
    for index, true in enumerate(exact_values(operator, positions, digits)):
        values = spectra.values[0, 0, index].numpy()
        error = np.abs(values - np.array(true[: len(values)])).max()
        assert error <= spectra.error_bound[0, 0, index]
        if build is not growth_that_nothing_excites:
            assert spectra.error_bound[0, 0, index] <= 1e-11 * max(true)


@pytest.mark.parametrize("seed", range(3))
def test_hankel_singular_values_of_stable_systems(seed):
    x = Features(1, seed)
    matrix = x.normal(6, 6)
    matrix *= 0.85 / np.abs(np.linalg.eigvals(matrix.numpy())).max()
    write, read = x.normal(6), x.normal(6)
    controllable = scipy.linalg.solve_discrete_lyapunov(matrix.numpy(), np.outer(write, write))
    observable = scipy.linalg.solve_discrete_lyapunov(matrix.numpy().T, np.outer(read, read))
    squares = np.sort(np.linalg.eigvals(controllable @ observable).real)[::-1]
    expected = np.sqrt(squares.clip(0))
    errors = []
    for length in (20, 80, 500):
        operator = StateSpaceOperator(
            DenseTransition(matrix),
            write.reshape(1, 1, 1, 6),
            read.reshape(1, 1, 1, 6),
            reads="before",
            length=length,
        )
        values = block_singular_values(operator, [length // 2]).values[0, 0, 0].numpy()
        errors.append(np.abs(values - expected).max() / expected[0])
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-7


def realization_of(x, states, batch=1):
    shape = batch, 2, x.length, states
    matrices = x.normal(*shape, states) / (2 * states**0.5)
    return matrices, x.normal(*shape), x.normal(*shape)


def test_the_basis_of_the_state_does_not_matter():
    x = Features(60, seed=2)
    matrices, write, read = realization_of(x, 4)
    basis = x.normal(4, 4) + 3 * torch.eye(4, dtype=torch.float64)
    inverse = torch.linalg.inv(basis)
    one = StateSpaceOperator(DenseTransition(matrices), write, read)
    other = StateSpaceOperator(
        DenseTransition(basis @ matrices @ inverse), write @ basis.T, read @ inverse
    )
    first, second = (block_singular_values(operator, "all") for operator in (one, other))
    torch.testing.assert_close(first.values, second.values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dead", ["write", "read"])
def test_a_state_that_is_never_written_or_never_read_adds_nothing(dead):
    x = Features(60, seed=3)
    decay, write, read = x.uniform(1, 2, 60, 4), x.normal(1, 2, 60, 4), x.normal(1, 2, 60, 4)
    (write if dead == "write" else read)[..., 2] = 0
    kept = [0, 1, 3]
    whole = StateSpaceOperator(DiagonalDecay(decay), write, read)
    part = StateSpaceOperator(DiagonalDecay(decay[..., kept]), write[..., kept], read[..., kept])
    large, small = (block_singular_values(operator, "all") for operator in (whole, part))
    torch.testing.assert_close(large.values[..., :3], small.values, rtol=0, atol=1e-13)
    assert large.values[..., 3].max() <= 1e-14 * large.values.max()


@pytest.mark.parametrize("logarithmic", [False, True])
def test_nothing_crosses_a_reset(logarithmic):
    x = Features(40, seed=4)
    decay = x.uniform(1, 2, 40, 3)
    decay[:, :, 20] = 0.0
    given = {"log_decay": decay.log()} if logarithmic else {"decay": decay}
    operator = StateSpaceOperator(
        DiagonalDecay(**given), x.normal(1, 2, 40, 3), x.normal(1, 2, 40, 3)
    )
    spectra = block_singular_values(operator, [19, 20, 21])
    assert (spectra.values[:, :, 1] == 0).all()
    assert (spectra.values[:, :, [0, 2], 0] > 0).all()


@pytest.mark.parametrize("decay", [0.0, -1.0, -50.0, -800.0])
def test_decays_of_any_strength_over_2000_steps(decay):
    x = Features(2000, seed=5)
    operator = StateSpaceOperator(
        ScalarDecay(torch.full((1, 2, 1), decay)), x.normal(1, 2, 2000, 3), x.normal(1, 2, 2000, 3)
    )
    spectra = block_singular_values(operator, "auto")
    assert torch.isfinite(spectra.values).all()
    assert torch.isfinite(spectra.error_bound).all()
    inputs = torch.ones(1, 2, 2000, 1, dtype=torch.float64)
    assert torch.isfinite(operator.apply(inputs)).all()


def test_growing_states_are_measured_as_long_as_they_are_finite():
    x = Features(400, seed=6)
    write, read = x.normal(1, 2, 400, 3), x.normal(1, 2, 400, 3)
    decay = torch.tensor([1.5, 1.4, 0.5], dtype=torch.float64).reshape(1, 1, 1, 3)
    operator = StateSpaceOperator(DiagonalDecay(decay), write, read)
    spectra = block_singular_values(operator, [100, 200, 399])
    dense = operator.to_dense().numpy()
    for index, position in enumerate(spectra.positions):
        true = np.linalg.svd(dense[:, :, position:, :position], compute_uv=False)
        size = min(3, true.shape[-1])
        error = np.abs(spectra.values[:, :, index, :size].numpy() - true[..., :size])
        assert (error <= 1e-10 * true[..., :1]).all()


def test_overflow_is_reported_by_name():
    ones = torch.ones(1, 1, 1, 2)
    operator = StateSpaceOperator(DiagonalDecay(10 * ones), ones, ones, length=800)
    with pytest.raises(NonFiniteError, match=r"StateSpaceOperator.* overflows float64 in group 0"):
        block_singular_values(operator, [400])


@pytest.mark.parametrize("exponent", [-500, 500])
def test_units_of_the_features_do_not_matter(exponent):
    x = Features(50, seed=7)
    decay, write, read = x.uniform(1, 2, 50, 3), x.normal(1, 2, 50, 3), x.normal(1, 2, 50, 3)
    plain = StateSpaceOperator(DiagonalDecay(decay), write, read)
    power = 2.0**exponent
    scaled = StateSpaceOperator(DiagonalDecay(decay), write * power, read)
    opposite = StateSpaceOperator(DiagonalDecay(decay), write * power, read / power)
    expected = block_singular_values(plain, "all").values
    assert torch.equal(block_singular_values(opposite, "all").values, expected)
    assert torch.equal(block_singular_values(scaled, "all").values, expected * power)


def test_one_state_at_extreme_scales():
    x = Features(50, seed=8)
    decay, vectors = x.uniform(1, 2, 50, 1), x.normal(1, 2, 50, 1)
    plain = StateSpaceOperator(DiagonalDecay(decay), vectors, vectors)
    scaled = StateSpaceOperator(DiagonalDecay(decay), vectors * 2.0**-900, vectors * 2.0**900)
    expected = block_singular_values(plain, "all").values
    assert torch.equal(block_singular_values(scaled, "all").values, expected)


def test_the_matrix_is_never_formed(monkeypatch):
    def refuse(*_):
        raise AssertionError("a matrix was formed")

    monkeypatch.setattr(RecurrentOperator, "to_dense", refuse)
    x = Features(100)
    operator = StateSpaceOperator(ScalarDecay(-x.scalars().abs()), x.vectors(), x.vectors())
    assert block_singular_values(operator, "all").method == "factored"
    assert block_singular_values(operator, "all", window=9).method == "factored"
    operator.apply(x.scalars()[..., None])
    with pytest.raises(AssertionError, match="formed"):
        block_singular_values(operator, "all", method="svd")


MEMORY_SCRIPT = """
import resource, torch
from hf_ess.operators import OuterDecay, StateSpaceOperator
from hf_ess.spectra import block_singular_values

def operator(channels, length):
    step = torch.rand(1, channels, length) / 10
    vectors = torch.randn(1, 1, length, 16)
    return StateSpaceOperator(OuterDecay(-torch.rand(channels, 16), step), vectors, vectors)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

block_singular_values(operator(4, 64), "auto")
layer = operator(256, 512)
before = peak()
block_singular_values(layer, "auto")
print(peak() - before)
"""


def test_memory_stays_far_below_that_of_the_matrices():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 256 * 512**2 * 8 / 2**20 / 5


def test_features_that_record_gradients_or_come_from_inference_mode():
    x = Features(30)
    vectors = x.vectors().requires_grad_()
    with torch.inference_mode():
        decay = -x.scalars().abs()
    operator = StateSpaceOperator(ScalarDecay(decay), vectors, vectors)
    spectra = block_singular_values(operator, "all")
    assert not spectra.values.requires_grad
    with torch.inference_mode():
        inside = block_singular_values(operator, "all")
    assert torch.equal(inside.values, spectra.values)
