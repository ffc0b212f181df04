"""The smooth count of singular values above a tolerance."""

from __future__ import annotations

import math

import pytest
import torch

import hf_ess

VALUES = torch.tensor([[3.0, 0.2, 1e-4, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("tol", [1e-3, 0.1, 1.0])
def test_the_limit_is_the_count(tol):
    soft = hf_ess.soft_tolerance_ess(VALUES, tol, width=1e-3)
    assert torch.equal(soft.round().long(), hf_ess.tolerance_ess(VALUES, tol))
    torch.testing.assert_close(soft, soft.round(), rtol=0, atol=1e-12)


def test_each_value_counts_as_documented():
    width, tol = 0.2, 0.1
    values = [tol * math.exp(steps * width) for steps in (-2, 0, 2)]
    counts = [hf_ess.soft_tolerance_ess([value], tol, width=width).item() for value in values]
    powers = [1 / (1 + (tol / value) ** (1 / width)) for value in values]
    assert counts == pytest.approx(powers, rel=1e-12)
    assert counts == pytest.approx([0.1192, 0.5, 0.8808], abs=1e-4)


@pytest.mark.parametrize("width", [1e-3, 0.25, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_zero_and_far_away(width, dtype):
    values = torch.tensor([1e30, 1.0, 1e-30, 0.0], dtype=dtype, requires_grad=True)
    hf_ess.soft_tolerance_ess(values, 1e-3, width=width).backward()
    assert values.grad.isfinite().all()
    assert (values.grad >= 0).all()
    assert values.grad[-1] == 0


def test_gradient_against_differences():
    values = torch.tensor([0.5, 0.2, 0.05], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: hf_ess.soft_tolerance_ess(v, 0.2, width=0.3), values)


@pytest.mark.parametrize("width", [0, -0.1, 1.5, math.nan, math.inf])
def test_widths_out_of_range_are_refused(width):
    with pytest.raises(hf_ess.InvalidInputError, match="width"):
        hf_ess.soft_tolerance_ess(VALUES, 0.1, width=width)


@pytest.mark.parametrize("width", ["wide", True, None])
def test_widths_that_are_no_numbers_are_refused(width):
    with pytest.raises(hf_ess.InvalidTypeError, match="width"):
        hf_ess.soft_tolerance_ess(VALUES, 0.1, width=width)


def test_other_arguments_are_checked_as_for_the_count():
    with pytest.raises(hf_ess.InvalidInputError, match="tolerance"):
        hf_ess.soft_tolerance_ess(VALUES, 0.0)
    with pytest.raises(hf_ess.NonFiniteError):
        hf_ess.soft_tolerance_ess([math.nan], 0.1)
    assert hf_ess.soft_tolerance_ess(torch.zeros(3, 0), 0.1).tolist() == [0, 0, 0]
