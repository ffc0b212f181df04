"""Triangular factors and their products: bounds, noise, and groups that leave each other alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_ess.errors import NonFiniteError
from hf_ess.operators import (
    ConvolutionOperator,
    DenseTransition,
    DiagonalDecay,
    StateSpaceOperator,
)
from hf_ess.spectra import block_singular_values, factors
from hf_ess.spectra.checkpoints import least_kept, segments_of
from hf_ess.spectra.factors import Factor, factored_error, product_singular_values
from hf_ess.spectra.powers import power_of_two

WIDTH = 5


def rows(seed, noisy):
    """Factors of 2 samples and 3 groups with entries of size one."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, 3, WIDTH + 4, WIDTH, generator=generator, dtype=torch.float64)
    noise = 1e-15 * drawn[:, :, WIDTH:]
    return Factor(drawn[:, :, :WIDTH], noise if noisy else noise[:, :, :0])


def times(factor, scale):
    return Factor(factor.rows * scale, factor.noise * scale)


@pytest.mark.parametrize("noisy", [True, False])
def test_bounds_grow_as_the_factors(noisy):
    future, past = rows(0, noisy), rows(1, noisy)
    error = factored_error(future, past, steps=9)
    assert (error > 2.0**-53).all()
    for scales in ((1, 16.0), (2.0**-20, 1), (8.0, 2.0**-30)):
        scaled = factored_error(times(future, scales[0]), times(past, scales[1]), steps=9)
        torch.testing.assert_close(scaled, error * scales[0] * scales[1], rtol=1e-12, atol=0)


def test_bounds_without_noise_do_not_depend_on_the_units_of_the_state():
    future, past = rows(0, noisy=False), rows(1, noisy=False)
    units = 2.0 ** torch.tensor([0, 30, -30, 5, -5])
    error = factored_error(future, past, steps=9)
    other = factored_error(times(future, units), times(past, 1 / units), steps=9)
    torch.testing.assert_close(other, error, rtol=1e-12, atol=0)


def test_a_group_that_is_not_finite_leaves_the_others_alone():
    future, past = rows(0, noisy=False), rows(1, noisy=False)
    expected, _ = product_singular_values(future, past, steps=9, notes=set())
    past.rows[1, 2, 0, 0] = torch.inf
    values, _ = product_singular_values(future, past, steps=9, notes=set())
    assert values[1, 2].isnan().all()
    values[1, 2] = expected[1, 2]
    assert torch.equal(values, expected)


def mixing_with_a_mode_that_no_input_reaches(length):
    """Along (1, 1, 1) a mode doubles at every step and is read; no input is written along it."""
    transition = (torch.eye(3) + torch.ones(3, 3)).double() / 2
    generator = torch.Generator().manual_seed(0)
    write = torch.randint(1, 9, (1, 1, length, 3), generator=generator, dtype=torch.float64)
    write[..., 2] = -write[..., :2].sum(-1)
    read = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(1, 1, length, 3)
    return StateSpaceOperator(DenseTransition(transition), write, read), write[0, 0, :, 0].numpy()


def test_rounding_in_a_mode_that_grows_unreached_is_in_the_bound():
    operator, written = mixing_with_a_mode_that_no_input_reaches(40)
    spectra = block_singular_values(operator, range(1, 40))
    for place, position in enumerate(spectra.positions):
        later, before = np.arange(40 - position), np.arange(position, 0, -1)
        exact = np.zeros(3)
        exact[0] = np.linalg.norm(0.5**later) * np.linalg.norm(0.5**before * written[:position])
        error = np.abs(spectra.values[0, 0, place].numpy() - exact).max()
        assert error <= float(spectra.error_bound[0, 0, place])
        # Rounding has grown with the mode.
        assert error > 1e-9 or not 15 < position < 25


def test_noise_is_the_same_every_time_and_nobody_elses_random_numbers_change():
    before = torch.get_rng_state()
    first, second = (
        block_singular_values(mixing_with_a_mode_that_no_input_reaches(48)[0], [24]).error_bound
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("width", [1, 5, 32])
def test_noise_begins_with_signs_of_one_size(width):
    signs = factors._signs(width)
    torch.testing.assert_close(signs.norm(dim=-1), torch.ones(factors.PROBES).double())
    assert signs.abs().unique().numel() == 1


@pytest.mark.parametrize(("exponent", "power"), [(2000, 2.0**1023), (1024, 2.0**1023), (-1023, 0)])
def test_powers_beyond_float64_are_its_last(exponent, power):
    assert power_of_two(torch.tensor(exponent)) == power


def test_the_fewest_factors_of_few_positions():
    assert [least_kept(positions) for positions in range(6)] == [0, 1, 2, 3, 3, 4]
    for positions in range(1, 40):
        segments = segments_of(positions, least_kept(positions))
        assert len(segments) - 1 + max(map(len, segments)) <= least_kept(positions)


def test_an_overflow_is_named_by_its_group():
    decays = torch.zeros(1, 3, 1, 2, dtype=torch.float64)
    decays[:, 2] = 20.0
    vectors = torch.ones(2, 3, 80, 2, dtype=torch.float64)
    operator = StateSpaceOperator(DiagonalDecay(log_decay=decays), vectors, vectors)
    with pytest.raises(NonFiniteError, match="in group 2 at position"):
        block_singular_values(operator, [40])


def test_convolutions_of_very_different_units_share_a_batch():
    taps = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    units = torch.tensor([2.0**600, 1.0, 2.0**-600], dtype=torch.float64)
    values = block_singular_values(
        ConvolutionOperator(taps * units[:, None], length=64), [9]
    ).values
    alone = block_singular_values(ConvolutionOperator(taps, length=64), [9]).values
    assert torch.equal(values[0] / units[:, None, None], alone[0].expand(3, -1, -1))
