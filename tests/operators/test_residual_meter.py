"""The residual that decides whether an operator is verified."""

from __future__ import annotations

import math

import pytest
import torch

from hf_ess import InvalidTypeError
from hf_ess.operators import RESIDUAL_BOUNDS, ResidualMeter, residual_bound, residual_bound_of

GENERATOR = torch.Generator().manual_seed(0)
DENSE = torch.randn(2, 6, 5, 5, generator=GENERATOR, dtype=torch.float64).tril()
INPUTS = torch.randn(2, 6, 5, 3, generator=GENERATOR)
EXACT = DENSE @ INPUTS.double()


def residual(outputs: torch.Tensor, chunk: int = 6) -> torch.Tensor:
    meter = ResidualMeter(2)
    for start in range(0, 6, chunk):
        groups = slice(start, start + chunk)
        meter.add(DENSE[:, groups] @ INPUTS[:, groups].double(), outputs[:, groups])
    return meter.residual()


def test_an_exact_operator_has_none() -> None:
    assert residual(EXACT).tolist() == [0.0, 0.0]


def test_the_largest_error_relative_to_the_largest_output_of_each_sample() -> None:
    outputs = EXACT.clone()
    outputs[1, 4, 2, 1] += 1e-3
    found = residual(outputs)
    assert found[0] == 0.0
    assert float(found[1]) == pytest.approx(1e-3 / float(outputs[1].abs().max()), rel=1e-9)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunks_of_groups_add_up(chunk: int) -> None:
    outputs = EXACT + 1e-4 * torch.randn(EXACT.shape, generator=GENERATOR)
    assert torch.equal(residual(outputs, chunk), residual(outputs))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_does_not_matter(scale: float) -> None:
    outputs = EXACT * 1.01
    meter = ResidualMeter(2)
    meter.add(DENSE * scale @ INPUTS.double(), outputs * scale)
    torch.testing.assert_close(meter.residual(), residual(outputs), rtol=1e-9, atol=0.0)


def test_rounding_of_the_outputs_shows() -> None:
    for dtype, bound in RESIDUAL_BOUNDS.items():
        found = float(residual(EXACT.to(dtype)).max())
        assert found <= bound / 5
        assert (found > 0) == (dtype != torch.float64)


def test_bounds_of_float64_outputs_that_were_computed_in_float32() -> None:
    third = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    assert residual_bound_of(third) == residual_bound(torch.float64)
    assert residual_bound_of(third.float().double()) == residual_bound(torch.float32)
    assert residual_bound_of(third.bfloat16().float()) == residual_bound(torch.float32)
    beyond = torch.tensor([1e300, 0.5], dtype=torch.float64)
    assert residual_bound_of(beyond) == residual_bound(torch.float64)
    with pytest.raises(InvalidTypeError, match=r"torch\.int64"):
        residual_bound_of(torch.ones(2, dtype=torch.int64))


def test_zero_outputs() -> None:
    meter = ResidualMeter(2)
    dense = DENSE.clone()
    dense[0] = 0
    meter.add(dense @ INPUTS.double(), torch.zeros_like(EXACT))
    assert meter.residual().tolist() == [0.0, math.inf]


def test_not_a_number_is_never_small() -> None:
    outputs = EXACT.clone()
    outputs[0, 0, 0, 0] = torch.nan
    found = residual(outputs)
    assert not found[0] <= 1.0
    assert found[1] == 0.0


def test_bounds_of_dtypes() -> None:
    assert residual_bound(torch.float32) == 1e-4
    assert residual_bound(torch.bfloat16) == 2e-2
    assert (
        residual_bound(torch.float64)
        < residual_bound(torch.float32)
        < residual_bound(torch.float16)
        < residual_bound(torch.bfloat16)
    )
    with pytest.raises(InvalidTypeError, match=r"torch\.int64"):
        residual_bound(torch.int64)
