"""Some groups of an operator are what the whole says of them, by the same route."""

from __future__ import annotations

import pytest
import torch

from hf_ess.analysis.sharding import SomeGroups
from hf_ess.operators import (
    ColumnScaled,
    ConvolutionOperator,
    ConvolvedRecurrence,
    DenseMimoOperator,
    DenseOperator,
    DiagonalDecay,
    DifferentialAttentionOperator,
    RowScaled,
    ScalarDecay,
    SoftmaxAttentionOperator,
    StateSpaceOperator,
)
from hf_ess.operators.groups import some_groups
from hf_ess.spectra import Request
from hf_ess.spectra.dispatch import operator_block_singular_values
from model_adapters import LayerOperator

LENGTH = 40
GROUPS = 6
PART = slice(2, 5)


def random(*shape):
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(*shape, generator=generator)


def recurrence():
    decay = DiagonalDecay(-random(2, GROUPS, LENGTH, 3).abs())
    return StateSpaceOperator(
        decay, random(2, GROUPS, LENGTH, 3), random(2, GROUPS, LENGTH, 3), length=LENGTH
    )


def attention(heads=GROUPS):
    return SoftmaxAttentionOperator(random(2, heads, LENGTH, 4), random(2, heads // 3, LENGTH, 4))


def short_convolution():
    return ConvolutionOperator(random(GROUPS, 4), batch=2, length=LENGTH)


def gated(convolution):
    gates = random(2, GROUPS, LENGTH)
    return RowScaled(ColumnScaled(convolution, gates), gates + 1)


def convolved():
    return ConvolvedRecurrence(recurrence(), random(2, GROUPS, LENGTH), short_convolution())


OPERATORS = {
    "dense": lambda: DenseOperator(random(2, GROUPS, LENGTH, LENGTH).tril()),
    "grouped heads": attention,
    "pairs of heads": lambda: DifferentialAttentionOperator(attention(2 * GROUPS), 0.3),
    "recurrence": recurrence,
    "shared decay": lambda: StateSpaceOperator(
        ScalarDecay(-torch.ones(1, 1, 1)), random(2, GROUPS, LENGTH, 3), random(2, 2, LENGTH, 3)
    ),
    "short convolution": short_convolution,
    "changing taps": lambda: ConvolutionOperator(random(2, 3, LENGTH, 4), groups=GROUPS),
    "long convolution": lambda: ConvolutionOperator(random(GROUPS, LENGTH), length=LENGTH),
    "gated short convolution": lambda: gated(short_convolution()),
    "gated long convolution": lambda: gated(
        ConvolutionOperator(random(GROUPS, LENGTH), batch=2, length=LENGTH)
    ),
    "convolved recurrence": convolved,
}


@pytest.fixture(params=OPERATORS.values(), ids=OPERATORS.keys())
def whole(request):
    return request.param()


@pytest.fixture
def part(whole):
    return some_groups(whole, PART.start, PART.stop)


def test_the_operator(whole, part):
    assert part.shape == (whole.batch, PART.stop - PART.start, LENGTH, LENGTH)
    assert part.state_size == whole.state_size
    assert part.device == whole.device
    torch.testing.assert_close(part.to_dense(), whole.to_dense(PART), rtol=0, atol=0)
    torch.testing.assert_close(part.to_dense(slice(1, 2)), whole.to_dense(slice(3, 4)))
    inputs = random(whole.batch, 3, LENGTH, 2)
    torch.testing.assert_close(part.apply(inputs), whole.apply(inputs, PART))
    rows, columns = slice(5, 9), slice(0, 7)
    block = part.to_dense_block(slice(0, 2), rows, columns)
    torch.testing.assert_close(block, whole.to_dense_block(slice(2, 4), rows, columns))


def test_what_it_can_carry(whole, part):
    positions = torch.tensor([1, 7, 39])
    for name in ("capacity", "attainable"):
        every = getattr(whole, name)(positions)
        expected = every if every.shape[1] == 1 else every[:, PART]
        torch.testing.assert_close(getattr(part, name)(positions), expected)


def test_the_route_and_the_spectra(whole, part):
    request = Request((3, 20, 31), tolerance_floor=1e-3)
    of_whole = operator_block_singular_values(whole, request)
    of_part = operator_block_singular_values(part, request)
    assert of_part.method == of_whole.method
    torch.testing.assert_close(of_part.values, of_whole.values[:, PART], rtol=0, atol=1e-12)
    route = operator_block_singular_values.dispatch
    assert route(type(part)) is route(type(whole))


def layer_of(operator):
    features = torch.ones(operator.batch, operator.groups, operator.length, 1)
    return LayerOperator("layer", 0, "mixer", operator, features, features)


def test_processes_share_the_groups(whole):
    shares = [SomeGroups(rank, 4, 1).groups_of(layer_of(whole)) for rank in range(4)]
    assert [group for share in shares for group in range(GROUPS)[share]] == list(range(GROUPS))


def test_channels_that_mix_stay_together():
    operator = DenseMimoOperator(torch.eye(8).repeat(3, 1, 1), channels_out=2, channels_in=2)
    assert some_groups(operator, 0, 1) is None
    shares = [SomeGroups(rank, 4, 1).groups_of(layer_of(operator)) for rank in range(4)]
    assert shares == [slice(0, 3), None, None, None]


def test_a_route_of_its_own_gets_the_whole_operator():
    class OfAnotherPackage(DenseOperator):
        pass

    @operator_block_singular_values.register(OfAnotherPackage)
    def _(operator, request, *, memory_budget=0):
        raise AssertionError("not measured here")

    operator = OfAnotherPackage(torch.ones(3, 4, 4).tril())
    shares = [SomeGroups(rank, 2, 1).groups_of(layer_of(operator)) for rank in range(2)]
    assert shares == [slice(0, 3), None]
