"""What holds of effective state-size whatever the operator: bounds, order, and symmetries."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reliability.stress_operators import OTHERS, RECURRENCES, Drawn
from reliability.test_stress_matrices import KINDS, METHODS, Draw

from hf_ess import block_singular_values, entropy_ess, tolerance_ess
from hf_ess.operators import (
    DeltaRule,
    DenseOperator,
    DenseTransition,
    DiagonalDecay,
    ScalarDecay,
    SoftmaxAttentionOperator,
    StateSpaceOperator,
)

PART = "Numbers under stress"
CASES = 60
TOLERANCES = 12
SAME = "The same singular values, within the errors of both"
often = settings(max_examples=CASES, deadline=None, derandomize=True, database=None)


def dense(x):
    return DenseOperator(x.normal(1, 1, x.length, x.length).tril() * x.write.amax())


def attention(x):
    return SoftmaxAttentionOperator(x.write, x.read)


BUILDERS = RECURRENCES | OTHERS | {"dense": dense, "attention": attention}
operators = st.builds(
    lambda name, **features: _of(name, Drawn(**features)),
    st.sampled_from(sorted(BUILDERS)),
    seed=st.integers(0, 2**20),
    states=st.integers(2, 5),
    length=st.integers(4, 24),
    write=st.sampled_from([1.0, 1e-155, 1e-30, 1e100]),
    read=st.sampled_from([1.0, 1e-155, 1e30, 1e100]),
)


def _of(name, x):
    built = BUILDERS[name](x)
    return built[0] if isinstance(built, tuple) else built


@pytest.fixture(scope="module")
def counted():
    return {"cases": 0}


@often
@given(operator=operators, method=st.sampled_from(["auto", "svd", "gram"]))
def _check(operator, method, counted):
    spectra = block_singular_values(operator, "all", method=method)
    attainable = operator.attainable(torch.tensor(spectra.positions))
    entropy = entropy_ess(spectra.values)
    if method == "auto":
        assert (entropy <= attainable * (1 + 1e-12)).all()
    assert (entropy >= (spectra.values[..., 0] > 0).double()).all()
    # From the stated floor of each block up to its largest value, and above.
    floor, top = spectra.error_bound, 2 * spectra.values[..., 0] + 5e-324
    before = None
    for step in range(TOLERANCES):
        logs = floor.clamp(min=5e-324).log() * (TOLERANCES - step) + top.log() * step
        tolerance = torch.maximum(floor, (logs / TOLERANCES).exp())
        counts = (spectra.values > tolerance[..., None]).sum(-1)
        assert (counts <= attainable).all()
        assert before is None or (counts <= before).all()
        before = counts
    counted["cases"] += 1


def test_counts_and_entropies_stay_within_what_can_be_attained(counted, tried):
    _check(counted=counted)
    assert counted["cases"] >= CASES
    tried(
        PART,
        f"Random operators of every structure, method and size, at {TOLERANCES} tolerances from "
        "the stated floor on",
        "Tolerance-ESS never exceeds the attainable size and never grows with the tolerance; "
        "entropy-ESS is 0, or from 1 to the attainable size",
        counted["cases"],
    )


def _values(operator, method="auto"):
    return block_singular_values(operator, "all", method=method)


def assert_same(first, second):
    """Within both errors."""
    allowed = first.value_errors() + second.value_errors()
    assert ((first.values - second.values).abs() <= allowed).all()


# Made of writes; the others of reads as well.
OF_WRITES = {"short_taps", "taps_that_change", "long_taps", "side_by_side", "dense"}
# Softmax has no scale, and there is no room below what decays by 1e-300 in a step.
SCALED = sorted(set(BUILDERS) - {"attention", "decay_over_hundreds_of_orders"})


@pytest.mark.parametrize("method", ["auto", "svd", "gram"])
@pytest.mark.parametrize("name", SCALED)
def test_powers_of_two_scale_values_and_bounds_exactly(name, method, tried):
    plain = _values(_of(name, Drawn()), method)
    for exponent in (-400, 300):
        power = 2.0**exponent
        changed = {"write" if name in OF_WRITES else "read": power}
        scaled = _values(_of(name, Drawn(**changed)), method)
        assert torch.equal(scaled.values, plain.values * power)
        assert torch.equal(tolerance_ess(scaled.values, power), tolerance_ess(plain.values, 1))
        if plain.values.any():
            bounds = scaled.error_bound / power
            torch.testing.assert_close(bounds, plain.error_bound, rtol=1e-12, atol=0)
    tried(
        PART,
        "Operators of every structure times 2**-400 and 2**300",
        "All singular values are scaled without a changed bit",
        2,
    )


@pytest.mark.parametrize("name", sorted(set(RECURRENCES) - {"modes"}))
def test_signs_of_inputs_and_outputs_do_not_matter(name, tried):
    signs = torch.where(torch.arange(10) % 3 == 1, -1.0, 1.0).double()[:, None]
    for method in METHODS:
        plain = _values(RECURRENCES[name](Drawn()), method)
        turned = _values(RECURRENCES[name](Drawn(write=signs, read=signs.flip(0))), method)
        assert_same(plain, turned)
    tried(PART, "Other signs of inputs and outputs", SAME, len(METHODS))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_past_may_be_read_as_the_future(name, tried):
    matrix = KINDS[name](Draw()).tril()
    for method in METHODS:
        plain, turned = (_values(one, method) for one in (matrix, matrix.T.flip(0, 1)))
        swapped = replace(
            turned,
            values=turned.values.flip(-2),
            error_bound=turned.error_bound.flip(-1),
            sizes=turned.sizes.flip(-1),
            from_squares=turned.from_squares.flip(-1),
        )
        assert_same(plain, swapped)
    tried(PART, "Operators transposed and turned round", SAME, len(METHODS))


@pytest.mark.parametrize("states", [2, 4])
def test_the_basis_of_a_state_may_be_of_any_size(states, tried):
    """Exchanged numbers in units of powers of two: nothing is rounded on the way there."""
    x = Drawn(states=states, length=20)
    matrices = x.normal(*x.shape, states) / 2
    order, units = torch.randperm(states, generator=x.generator), 4.0 ** torch.arange(states)
    basis = torch.diag(units.double())[order]
    inverse = torch.linalg.inv(basis)
    plain = StateSpaceOperator(DenseTransition(matrices), x.write, x.read)
    other = StateSpaceOperator(
        DenseTransition(basis @ matrices @ inverse), x.write @ basis.T, x.read @ inverse
    )
    assert_same(_values(plain), _values(other))
    tried(PART, "Another basis of the state", SAME, 1)


GROWING = {
    "scalar": lambda x, n: StateSpaceOperator(
        ScalarDecay(-x.share[:, :, :n]), x.write[:, :, :n], x.read[:, :, :n]
    ),
    "diagonal": lambda x, n: StateSpaceOperator(
        DiagonalDecay(x.decay[:, :, :n]), x.write[:, :, :n], x.read[:, :, :n]
    ),
    "delta": lambda x, n: StateSpaceOperator(
        DeltaRule(x.unit[:, :, :n], x.share[:, :, :n]), x.unit[:, :, :n], x.read[:, :, :n]
    ),
    "attention": lambda x, n: SoftmaxAttentionOperator(x.write[:, :, :n], x.read[:, :, :n]),
    "dense": lambda x, n: DenseOperator(x.matrix[..., :n, :n]),
}


@pytest.mark.parametrize("name", GROWING)
def test_tokens_that_are_appended_leave_the_past_alone(name, tried):
    """Rows that were there stay: windows do not change, and whole blocks only gain rows."""
    before, after, future = 20, 29, 5
    x = Drawn(length=after)
    x.share, x.decay, x.unit = x.steps(), x.uniform(*x.shape), x.units()
    x.matrix = x.normal(1, 1, after, after).tril()
    short, long = (GROWING[name](x, length) for length in (before, after))
    at = list(range(1, before - future + 1))
    for method in ("auto", *METHODS):
        first, second = (
            block_singular_values(operator, at, window=(future, 8), method=method)
            for operator in (short, long)
        )
        assert_same(first, second)
    shorter, longer = (block_singular_values(one, at).values for one in (short, long))
    for tolerance in (1e-1, 1e-3, 1e-5):
        assert (tolerance_ess(shorter, tolerance) <= tolerance_ess(longer, tolerance)).all()
    tried(
        PART,
        "Tokens appended to a text",
        "ESS of the windows before them stays, tolerance-ESS of whole blocks never falls",
        len(at),
    )
