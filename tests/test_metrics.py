from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_ess.errors import HfEssError, InvalidInputError, InvalidTypeError, NonFiniteError
from hf_ess.metrics import entropy_ess, tolerance_ess

singular_values = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=12)


def slow_entropy_ess(values):
    total = math.fsum(values)
    if total == 0:
        return 0.0
    shares = [value / total for value in values]
    return math.exp(-math.fsum(p * math.log(p) for p in shares if p > 0))


def slow_tolerance_ess(values, tol, relative=False):
    threshold = tol * max(values, default=0.0) if relative else tol
    return sum(1 for value in values if value > threshold)


@given(singular_values)
def test_entropy_agrees_with_plain_python(values):
    assert float(entropy_ess(values)) == pytest.approx(slow_entropy_ess(values), rel=1e-12)


@given(singular_values, st.floats(1e-8, 1e7), st.booleans())
def test_tolerance_agrees_with_plain_python(values, tol, relative):
    counted = tolerance_ess(values, tol, relative=relative)
    assert counted.dtype == torch.int64
    assert int(counted) == slow_tolerance_ess(values, tol, relative)


@given(singular_values)
def test_entropy_lies_between_one_and_the_rank(values):
    rank = sum(value > 0 for value in values)
    assert min(rank, 1) <= float(entropy_ess(values)) <= rank


@given(singular_values, st.sampled_from([1e-300, 1e-9, 1.0, 1e9, 1e290]))
@settings(max_examples=50)
def test_entropy_does_not_see_the_scale(values, scale):
    scaled = np.array(values) * scale
    assert float(entropy_ess(scaled)) == pytest.approx(float(entropy_ess(values)), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_scale_invariance_at_the_ends_of_float64(scale):
    values = torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    assert float(entropy_ess(values * scale)) == pytest.approx(slow_entropy_ess([3, 2, 1]))
    assert int(tolerance_ess(values * scale, 0.5, relative=True)) == 2


def test_a_sum_that_overflows_is_no_problem():
    assert float(entropy_ess(np.full(4, 1.5e308))) == 4.0
    assert float(entropy_ess(np.full(4, 3e38, dtype=np.float32))) == 4.0


@given(singular_values)
def test_order_and_zero_padding_do_not_matter(values):
    padded = [0.0, *values[::-1], 0.0]
    assert float(entropy_ess(padded)) == pytest.approx(float(entropy_ess(values)), rel=1e-12)
    assert int(tolerance_ess(padded, 0.1)) == int(tolerance_ess(values, 0.1))


def test_last_axis_is_reduced():
    values = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    assert entropy_ess(values).shape == tolerance_ess(values, 0.1).shape == (2, 3, 4)
    assert float(entropy_ess(values)[1, 2, 3]) == pytest.approx(
        slow_entropy_ess(values[1, 2, 3].tolist())
    )


def test_each_block_has_its_own_largest_value():
    values = torch.tensor([[[4.0, 1.0, 3.0], [0.4, 0.1, 0.3]], [[8.0, 8.0, 1.0], [1.0, 0.0, 0.0]]])
    assert tolerance_ess(values, 0.5, relative=True).tolist() == [[2, 2], [2, 1]]


def test_blocks_without_values_keep_their_axes():
    empty = torch.zeros(2, 3, 0)
    for counts in (tolerance_ess(empty, 0.1), tolerance_ess(empty, 0.1, relative=True)):
        assert (counts.shape, counts.dtype) == ((2, 3), torch.int64)
    assert entropy_ess(empty).shape == (2, 3)


@pytest.mark.parametrize("count", [5, 9])
def test_rounding_does_not_step_over_the_number_of_values(count):
    """Of so many equal values the exponential of the entropy is one unit too large."""
    values = torch.ones(2, count + 4, dtype=torch.float64)
    values[0, count:] = 0
    assert entropy_ess(values)[0].item() == count


def test_a_block_of_zeros_and_an_empty_block_have_no_state():
    assert entropy_ess(torch.zeros(2, 3)).tolist() == [0.0, 0.0]
    assert tolerance_ess(torch.zeros(2, 3), 1e-12).tolist() == [0, 0]
    assert entropy_ess(torch.zeros(2, 0)).tolist() == [0.0, 0.0]
    assert tolerance_ess(torch.zeros(2, 0), 0.1, relative=True).tolist() == [0, 0]
    assert entropy_ess(torch.zeros(0, 3)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_comparison_is_strict_in_the_dtype_of_the_values(dtype):
    assert int(tolerance_ess(torch.tensor([0.1], dtype=dtype), 0.1)) == 0
    assert int(tolerance_ess(torch.tensor([1.0, 0.5], dtype=dtype), 0.5, relative=True)) == 1


@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.int64, torch.float64),
    ],
)
def test_dtypes(given_dtype, expected):
    assert entropy_ess(torch.tensor([2, 1], dtype=given_dtype)).dtype == expected


def test_lists_and_numpy_arrays_are_taken_as_float64():
    assert entropy_ess([1, 1]).dtype == torch.float64
    assert float(entropy_ess(np.array([1, 1]))) == 2.0


@pytest.mark.parametrize("tol", [0, -1.0, math.nan, math.inf])
def test_a_tolerance_must_be_positive_and_finite(tol):
    with pytest.raises(InvalidInputError, match="positive and finite"):
        tolerance_ess([1.0], tol)


@pytest.mark.parametrize("tol", ["much", None, [1.0, 2.0]])
def test_a_tolerance_must_be_a_number(tol):
    with pytest.raises(InvalidTypeError):
        tolerance_ess([1.0], tol)


@pytest.mark.parametrize("function", [entropy_ess, lambda values: tolerance_ess(values, 0.1)])
@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([1.0, math.nan], NonFiniteError),
        ([math.inf], NonFiniteError),
        ([1.0, -0.1], InvalidInputError),
        (3.0, InvalidInputError),
        ([1j], InvalidTypeError),
        (torch.tensor([1j]), InvalidTypeError),
        ("abc", InvalidTypeError),
        ([[1.0], [1.0, 2.0]], InvalidTypeError),
    ],
)
def test_what_is_no_spectrum_is_refused(function, values, error):
    with pytest.raises(error) as caught:
        function(values)
    assert isinstance(caught.value, HfEssError)


@pytest.mark.parametrize(
    "values", [[3.0, 2.0, 1.0], [2.0, 2.0, 1.0], [1e-3, 5.0, 5.0], [4.0, 1e-2, 1e-2, 1e-2]]
)
def test_gradient(values):
    leaf = torch.tensor([values, values[::-1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(entropy_ess, (leaf,), eps=1e-7, atol=1e-4)


@pytest.mark.parametrize(
    "values",
    [[0.0, 0.0], [2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [5.0, 5.0], [1e-300, 0.0], [1e300, 1.0]],
)
def test_gradients_are_finite_at_zeros_and_ties(values):
    leaf = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    entropy_ess(leaf).backward()
    assert torch.isfinite(leaf.grad).all()


def test_gradient_descends_towards_fewer_dimensions():
    leaf = torch.tensor([1.0, 0.9, 0.5], dtype=torch.float64, requires_grad=True)
    before = entropy_ess(leaf)
    before.backward()
    assert entropy_ess(leaf.detach() - 1e-3 * leaf.grad) < before
