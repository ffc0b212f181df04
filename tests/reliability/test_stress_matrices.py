"""Blocks that break naive arithmetic: every value lies within its bound of 60 digits."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from reliability.stress_oracle import assert_within_bounds, exact, exact_values

from hf_ess import block_singular_values
from hf_ess.errors import NonFiniteError
from hf_ess.metrics import entropy_ess, tolerance_ess
from hf_ess.operators import (
    ConvolutionOperator,
    DenseMimoOperator,
    DiagonalDecay,
    RowScaled,
    StateSpaceOperator,
)
from hf_ess.spectra import certified_metrics

PART = "Numbers under stress"
LENGTH = 14
POSITIONS = [1, 5, 7, 10, 13]
METHODS = ["svd", "gram"]
KINDS = {}


def kind(build):
    KINDS[build.__name__] = build
    return build


class Draw:
    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def exponents(self, low, high, *shape):
        return torch.randint(low, high, shape, generator=self.generator).double()


@kind
def entries_over_600_orders_of_magnitude(x):
    return x.normal(LENGTH, LENGTH) * 10.0 ** x.exponents(-300, 300, LENGTH, LENGTH)


@kind
def entries_around_the_least_normal_number(x):
    return torch.ldexp(x.normal(LENGTH, LENGTH), x.exponents(-1070, -1000, LENGTH, LENGTH))


@kind
def multiples_of_the_least_number(x):
    return x.exponents(0, 9, LENGTH, LENGTH) * 5e-324


@kind
def entries_of_1e306(x):
    return x.normal(LENGTH, LENGTH) * 1e306


@kind
def largest_float32(x):
    return (x.normal(LENGTH, LENGTH).sign() * 3e38).to(torch.float32)


@kind
def outputs_that_fade(x):
    return x.normal(LENGTH, LENGTH) * 10.0 ** torch.linspace(200, -300, LENGTH).double()[:, None]


@kind
def inputs_that_fade(x):
    return x.normal(LENGTH, LENGTH) * 10.0 ** torch.linspace(200, -300, LENGTH).double()


@kind
def inputs_that_grow(x):
    return x.normal(LENGTH, LENGTH) * 10.0 ** torch.linspace(-300, 200, LENGTH).double()


@kind
def rank_one(x):
    return torch.outer(x.normal(LENGTH), x.normal(LENGTH))


@kind
def all_equal(_):
    return torch.full((LENGTH, LENGTH), 1 / 3, dtype=torch.float64)


@kind
def hilbert(_):
    index = torch.arange(1, LENGTH + 1, dtype=torch.float64)
    return 1 / (index[:, None] + index)


@kind
def four_equal_values(_):
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    return torch.nn.functional.pad(torch.kron(two, two), (3, 7, 7, 3))


@kind
def four_nearly_equal_values(x):
    return four_equal_values(x) * (1 + 1e-15 * x.normal(LENGTH, LENGTH))


@kind
def jordan(_):
    """Values of one, and one of 2**-6: the distance to a singular matrix is not on its diagonal."""
    matrix = torch.zeros(LENGTH, LENGTH, dtype=torch.float64)
    matrix[7:, :7] = torch.eye(7, dtype=torch.float64) - 2 * torch.ones(7, 7).double().triu(1)
    return matrix


@kind
def nothing(_):
    return torch.eye(LENGTH, dtype=torch.float64)


@pytest.mark.parametrize("window", [None, (3, 4)], ids=["whole", "window"])
@pytest.mark.parametrize("name", KINDS)
def test_values_lie_within_their_bounds(name, window, tried):
    matrix = KINDS[name](Draw()).tril()
    truth = exact_values(exact(matrix), POSITIONS, window)
    for method in METHODS:
        spectra = block_singular_values(matrix, POSITIONS, window=window, method=method)
        assert_within_bounds(spectra, truth)
    tried(
        PART,
        "A block with values that are subnormal, huge, of 600 orders of magnitude, equal or nearly "
        "equal, or zero, by each dense method",
        "Every singular value lies within its stated error of the one in 60 digits",
        len(METHODS) * len(POSITIONS),
    )


LARGE = torch.full((70, 70), 1.5e308, dtype=torch.float64).tril()
OVERFLOWING = {
    "svd": lambda: block_singular_values(LARGE, [35], method="svd"),
    "gram": lambda: block_singular_values(LARGE, [35], method="gram"),
    "short": lambda: block_singular_values(LARGE[:4, :4], "all"),
    "window": lambda: block_singular_values(LARGE, [35], window=3),
    "convolution": lambda: block_singular_values(
        ConvolutionOperator(LARGE[-1:, :3], length=40), [20]
    ),
    "channels": lambda: block_singular_values(DenseMimoOperator(LARGE, 2, 2), [17]),
    "recurrence": lambda: block_singular_values(
        StateSpaceOperator(
            DiagonalDecay(torch.ones(1, 1, 1, 1)),
            1e200 * LARGE[:1, :1, None, None] / 1.5e308,
            1e108 * torch.ones(1, 1, 1, 1).double(),
            length=9,
        ),
        [4],
    ),
    "certified": lambda: certified_metrics(LARGE[None], range(1, 70), [1.0]),
}


@pytest.mark.parametrize("route", OVERFLOWING)
def test_values_that_float64_cannot_hold_are_refused(route, tried):
    with pytest.raises(NonFiniteError, match="overflow"):
        OVERFLOWING[route]()
    tried(
        PART,
        "A finite operator whose singular values are larger than float64 can hold",
        "A named error says so; no infinite number is returned",
    )


POISONED = {
    "matrix": lambda bad: block_singular_values(_with(LARGE * 0, bad), [35]),
    "window": lambda bad: block_singular_values(_with(LARGE * 0, bad), [35], window=3),
    "certified": lambda bad: certified_metrics(_with(LARGE * 0, bad)[None], [35], [0.1]),
    "taps": lambda bad: ConvolutionOperator(_with(LARGE * 0, bad)[-1:, :3], length=40),
    "scale": lambda bad: RowScaled(
        ConvolutionOperator(LARGE[:1, :3] * 0, length=70), _with(LARGE * 0, bad)[None, -1:]
    ),
    "metrics": lambda bad: (tolerance_ess([1.0, bad], 0.1), entropy_ess([1.0, bad])),
}


def _with(matrix, bad):
    poisoned = matrix.clone()
    poisoned[-1, 0] = bad
    return poisoned


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", POISONED)
def test_numbers_that_are_not_finite_are_refused(where, bad, tried):
    with pytest.raises(NonFiniteError, match=r"NaN|infinite"):
        POISONED[where](bad)
    tried(PART, "NaN or infinity in an operator or a spectrum", "A named error, before any result")


SPECTRA = {
    "a cluster": [1.0, 1.0, 1.0, 1.0],
    "a cluster that rounding split": [1 + 2**-52, 1.0, 1 - 2**-53],
    "the least number": [5e-324] * 5,
    "the largest numbers": [1.7e308] * 5,
    "both ends": [1.7e308, 5e-324],
    "two clusters": [2.0] * 3 + [2e-8] * 3,
    "one of many": [1.0] + [1e-300] * 50,
    "geometric": [2.0**-n for n in range(0, 1074, 30)],
}


@pytest.mark.parametrize("name", SPECTRA)
def test_entropy_of_degenerate_spectra(name, tried):
    values = SPECTRA[name]
    with mpmath.workdps(40):
        shares = [mpmath.mpf(value) / mpmath.fsum(values) for value in values]
        true = float(mpmath.exp(-mpmath.fsum(share * mpmath.log(share) for share in shares)))
    for order in (values, values[::-1]):
        found = entropy_ess(order).item()
        assert found == pytest.approx(true, rel=1e-13)
        assert 1 <= found <= len(values)
    tried(
        PART,
        "Entropy-ESS of equal, nearly equal, subnormal and largest values",
        "That of 40 digits, between one and their number",
    )
