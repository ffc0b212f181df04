"""Rows and columns of an operator, formed on their own, are those of its matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_ess.operators import (
    ColumnScaled,
    ConvolutionOperator,
    DenseOperator,
    DifferentialAttentionOperator,
    LinearOperator,
    PlacedAttentionOperator,
    Product,
    RowScaled,
    ScalarDecay,
    ScoredAttentionOperator,
    SoftmaxAttentionOperator,
    StateSpaceOperator,
    Sum,
    future_share,
)
from hf_ess.operators.attention import SoftmaxWeights
from hf_ess.operators.chunks import STREAMED_BYTES, rows_that_fit, slices
from hf_ess.operators.dense import FutureMeter
from hf_ess.operators.masks import counts_within

LENGTH, BATCH, HEADS = 23, 2, 4
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
PLACES = torch.arange(LENGTH)
RANGES = [(0, LENGTH), (0, 1), (LENGTH - 1, LENGTH), (0, 9), (5, 11), (11, 12), (9, LENGTH)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(mask: Tensor | None = None) -> SoftmaxAttentionOperator:
    query, key = random(BATCH, HEADS, LENGTH, 5), random(BATCH, 2, LENGTH, 5, seed=1)
    return SoftmaxAttentionOperator(query, key, mask)


def recurrence() -> StateSpaceOperator:
    keys, values = random(2, BATCH, HEADS, LENGTH, 3)
    return StateSpaceOperator(ScalarDecay(-random(BATCH, HEADS, LENGTH).abs()), keys, values)


def changing_taps() -> ConvolutionOperator:
    return ConvolutionOperator(random(BATCH, 2, LENGTH, 6), groups=HEADS)


def long_filter() -> ConvolutionOperator:
    return ConvolutionOperator(random(HEADS, 40), random(1, 1, LENGTH), length=LENGTH)


SLOPES = -0.3 * (PLACES[:, None] - PLACES).clamp(min=0) * torch.arange(1, HEADS + 1)[:, None, None]
MAKERS = {
    "causal": attention,
    "sliding window": lambda: attention(CAUSAL.triu(-4)[None, None]),
    "ALiBi": lambda: attention(SLOPES.masked_fill(~CAUSAL, -torch.inf)[None]),
    "bias": lambda: attention(random(1, HEADS, LENGTH, LENGTH).masked_fill(~CAUSAL, -1e30)),
    "one row for all": lambda: attention(torch.ones(BATCH, 1, 1, LENGTH, dtype=torch.bool)),
    "blind rows": lambda: attention(CAUSAL & (PLACES > 4)[:, None]),
    "scored": lambda: ScoredAttentionOperator(
        random(BATCH, HEADS, LENGTH, LENGTH).masked_fill(~CAUSAL, -torch.inf)
    ),
    "differential": lambda: DifferentialAttentionOperator(attention(), 0.3),
    "placed": lambda: PlacedAttentionOperator(attention(), PLACES.roll(1) - (PLACES == 0) * 30),
    "placed by head": lambda: PlacedAttentionOperator(
        attention(), torch.stack([PLACES - number for number in range(HEADS)]).clamp(min=-1)
    ),
    "dense": lambda: DenseOperator(random(BATCH, HEADS, LENGTH, LENGTH).tril()),
    "short filter": lambda: ConvolutionOperator(random(HEADS, 4), length=LENGTH),
    "long filter": long_filter,
    "changing taps": changing_taps,
    "recurrence": recurrence,
    "rows scaled": lambda: RowScaled(attention(), random(BATCH, 1, LENGTH)),
    "columns scaled": lambda: ColumnScaled(long_filter(), random(1, HEADS, LENGTH)),
    "one scale": lambda: RowScaled(attention(), random(1, 1, 1)),
    "sum": lambda: Sum(long_filter(), attention()),
    "product": lambda: Product(RowScaled(attention(), random(1, 1, LENGTH)), changing_taps()),
    "product with a recurrence": lambda: Product(attention(), recurrence()),
}


@pytest.mark.parametrize("groups", [None, slice(1, 2)])
@pytest.mark.parametrize("name", MAKERS)
def test_a_block_is_that_part_of_the_matrix(name: str, groups: slice | None) -> None:
    operator = MAKERS[name]()
    dense = operator.to_dense(groups)
    for top, bottom in RANGES:
        for left, right in RANGES:
            block = operator.to_dense_block(groups, slice(top, bottom), slice(left, right))
            expected = dense[..., top:bottom, left:right]
            assert block.dtype == torch.float64
            assert block.shape == expected.shape
            assert float((block - expected).abs().max()) <= 1e-15 * float(dense.abs().max())


@pytest.mark.parametrize("name", MAKERS)
def test_everything_by_default(name: str) -> None:
    operator = MAKERS[name]()
    torch.testing.assert_close(operator.to_dense_block(), operator.to_dense(), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("name", MAKERS)
def test_few_rows_cost_less_than_the_matrix(name: str) -> None:
    operator = MAKERS[name]()
    assert operator.block_bytes_per_group(2, 4) < operator.dense_bytes_per_group() / 2


@pytest.mark.parametrize("name", ["sliding window", "differential", "placed by head", "scored"])
def test_visible_rows_are_rows_of_what_is_visible(name: str) -> None:
    operator = MAKERS[name]()
    for rows in (slice(0, 5), slice(5, 6), slice(6, LENGTH)):
        assert torch.equal(operator.visible_rows(rows), operator.visible()[..., rows, :])


class SquareOnly:
    """A rule that knows nothing of rows."""

    def __call__(self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice) -> Tensor:
        assert query.shape[-2] == key.shape[-2] == LENGTH
        return SoftmaxWeights(1.0)(query, key, mask, heads)


def test_a_rule_without_rows_is_asked_for_the_whole() -> None:
    query = random(BATCH, HEADS, LENGTH, 5)
    operator = SoftmaxAttentionOperator(query, query, weights=SquareOnly())
    block = operator.to_dense_block(slice(0, 2), slice(3, 5), slice(1, 4))
    assert torch.equal(block, operator.to_dense()[:, :2, 3:5, 1:4])
    assert operator.block_bytes_per_group(1, 1) == operator.dense_bytes_per_group()


class Counting(LinearOperator):
    """Ones on and below the diagonal, which notes the rows that it is asked for."""

    batch = groups = 1
    device = torch.device("cpu")

    def __init__(self, length: int) -> None:
        self._length = length
        self.asked: list[int] = []

    @property
    def length(self) -> int:
        return self._length

    def to_dense(self, groups: slice | None = None) -> Tensor:
        raise AssertionError("the whole matrix was formed")

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        return 2**14 * rows

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Tensor:
        self.asked.append(rows.stop - rows.start)
        numbers = torch.arange(rows.start, rows.stop)[:, None]
        return (torch.arange(self.length)[columns] <= numbers).double()[None, None]


def test_apply_forms_a_few_rows_at_a_time() -> None:
    length = 3 * STREAMED_BYTES // 2**14
    operator = Counting(length)
    sums = operator.apply(torch.ones(1, 1, length, 1))[0, 0, :, 0]
    assert torch.equal(sums, torch.arange(1.0, length + 1).double())
    assert sum(operator.asked) == length
    assert max(operator.asked) * 2**14 <= STREAMED_BYTES


@pytest.mark.parametrize(
    ("cost", "length", "groups", "target", "most", "expected"),
    [
        (lambda rows: rows, 100, 1, 1000, None, 100),
        (lambda rows: rows, 100, 1, 30, None, 25),
        (lambda rows: rows, 100, 2, 60, None, 25),
        (lambda rows: rows, 100, 1, 3, None, 13),
        (lambda rows: rows, 100, 1, 3, 5, 4),
        (lambda _: 50, 100, 1, 3, None, 100),
        (lambda rows: 50 + rows, 100, 1, 3, 3, 1),
    ],
)
def test_rows_at_a_time(cost, length, groups, target, most, expected) -> None:
    assert rows_that_fit(cost, length, groups, target=target, most=most) == expected


@pytest.mark.parametrize(("length", "step"), [(1, 1), (10, 3), (10, 10), (10, 99)])
def test_slices_cover_everything_once(length: int, step: int) -> None:
    pieces = list(slices(length, step))
    assert [n for piece in pieces for n in range(length)[piece]] == list(range(length))
    assert max(piece.stop - piece.start for piece in pieces) <= step


@pytest.mark.parametrize("step", [1, 4, LENGTH])
def test_the_future_of_rows_is_that_of_the_matrix(step: int) -> None:
    matrix = random(3, LENGTH, LENGTH).tril()
    matrix[1, 4, 17] = 0.25
    meter = FutureMeter()
    for rows in slices(LENGTH, step):
        meter.add(matrix[:, rows], rows.start)
    assert meter.share == future_share(matrix) > 0


def test_intervals_are_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    begin = torch.randint(0, 12, (3, 11), generator=generator)
    end = torch.randint(-1, 11, (3, 11), generator=generator)
    counted = counts_within(begin, end)
    for i in range(12):
        assert torch.equal(counted[:, i], ((begin < i) & (i <= end)).sum(-1))
