"""One small operator of every structure, with features of any size, and its exact matrix."""

from __future__ import annotations

import torch
from reliability.stress_oracle import exact, exact_recurrence

from hf_ess.operators import (
    ConvolutionOperator,
    ConvolvedRecurrence,
    DeltaRule,
    DenseTransition,
    DiagonalDecay,
    DiagonalPlusLowRank,
    ModalConvolution,
    OuterDecay,
    Product,
    RowScaled,
    ScalarDecay,
    StateSpaceOperator,
    Sum,
)

LENGTH = 10
RECURRENCES, OTHERS = {}, {}


class Drawn:
    """Seeded features [1, G, L, N], writes and reads of a size each."""

    def __init__(self, seed=0, *, states=3, groups=1, length=LENGTH, write=1.0, read=1.0):
        self.generator = torch.Generator().manual_seed(seed)
        self.shape = 1, groups, length, states
        self.length = length
        self.write, self.read = (size * self.normal(*self.shape) for size in (write, read))

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape):
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def steps(self):
        return self.uniform(*self.shape[:3])

    def units(self):
        return torch.nn.functional.normalize(self.normal(*self.shape), dim=-1)

    def recurrence(self, transition, **options):
        return StateSpaceOperator(transition, self.write, self.read, **options)


def recurrence(build):
    RECURRENCES[build.__name__] = build
    return build


def other(build):
    OTHERS[build.__name__] = build
    return build


@recurrence
def scalar_decay(x):
    return x.recurrence(ScalarDecay(-x.steps()))


@recurrence
def diagonal_decay(x):
    return x.recurrence(DiagonalDecay(x.uniform(*x.shape)))


@recurrence
def decay_over_hundreds_of_orders(x):
    return x.recurrence(DiagonalDecay(log_decay=-700 * x.uniform(*x.shape)))


@recurrence
def rates_and_steps(x):
    rates = -x.uniform(*x.shape[1::2])
    return x.recurrence(OuterDecay(rates, x.steps()), reads="before", direct=x.steps())


@recurrence
def delta_rule(x):
    return x.recurrence(DeltaRule(x.units(), 2 * x.steps()))


@recurrence
def gated_delta_rule(x):
    return x.recurrence(DeltaRule(x.units(), 2 * x.steps(), -x.steps()[..., None]))


@recurrence
def diagonal_plus_low_rank(x):
    unit = x.units()
    transition = DiagonalPlusLowRank(x.uniform(*x.shape), -unit, unit * x.steps()[..., None])
    return x.recurrence(transition)


@recurrence
def rotation(x):
    turn = torch.linalg.qr(x.normal(x.shape[-1], x.shape[-1]))[0]
    return x.recurrence(DenseTransition(turn))


@recurrence
def matrix_per_step(x):
    return x.recurrence(DenseTransition(x.normal(*x.shape, x.shape[-1]) / 3))


@recurrence
def complex_decay(x):
    decay = torch.polar(x.uniform(*x.shape), 3 * x.normal(*x.shape))
    return x.recurrence(DiagonalDecay(decay))


@recurrence
def one_direction(x):
    x.write, x.read = (vectors[..., :1].expand(*x.shape).clone() for vectors in (x.write, x.read))
    return x.recurrence(ScalarDecay(torch.zeros(1, 1, 1)))


@recurrence
def never_written(x):
    x.write = torch.zeros(*x.shape, dtype=torch.float64)
    return x.recurrence(ScalarDecay(torch.zeros(1, 1, 1)))


@recurrence
def modes(x):
    poles = torch.polar(x.uniform(x.shape[1], 2), 3 * x.normal(x.shape[1], 2))
    return ModalConvolution(poles, x.read[0, :, 0, :2] * x.write[0, 0, 0, 0], length=x.length)


def _exact_taps(operator):
    return exact(operator.to_dense()[0, 0])  # taps are copied, not computed with


@other
def short_taps(x):
    taps = ConvolutionOperator(x.write[0, :, 0, :3], length=x.length)
    return taps, _exact_taps(taps)


@other
def taps_that_change(x):
    taps = ConvolutionOperator(x.write)
    return taps, _exact_taps(taps)


@other
def long_taps(x):
    taps = ConvolutionOperator(x.write[0, :, :, 0], length=x.length)
    return taps, _exact_taps(taps)


@other
def gated(x):
    core, gate = x.recurrence(DiagonalDecay(x.uniform(*x.shape))), x.normal(*x.shape[:3])
    scales = exact(gate[0, :1])
    matrix = exact_recurrence(core)
    for row in range(x.length):
        matrix[row, :] *= scales[0, row]
    return RowScaled(core, gate), matrix


@other
def side_by_side(x):
    first = StateSpaceOperator(ScalarDecay(-x.steps()), x.write[..., :1], x.read[..., :1])
    second = ConvolutionOperator(x.write[..., :2])
    return Sum(first, second), exact_recurrence(first) + _exact_taps(second)


@other
def one_after_the_other(x):
    first = StateSpaceOperator(ScalarDecay(-x.steps()), x.write[..., :1], x.read[..., :1])
    second = ConvolutionOperator(x.units()[..., :2])
    return Product(first, second), exact_recurrence(first) * _exact_taps(second)


@other
def mixer_with_its_convolution(x):
    core = StateSpaceOperator(ScalarDecay(-x.steps()), x.write[..., :1], x.read[..., :1])
    taps = ConvolutionOperator(x.units()[..., :2])
    whole = ConvolvedRecurrence(core, None, taps)
    return whole, exact_recurrence(core) * _exact_taps(taps)
