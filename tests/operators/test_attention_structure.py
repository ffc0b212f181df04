"""What masks say about the state: capacity, attainable size, state size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_ess.operators import ScoredAttentionOperator, SoftmaxAttentionOperator

LENGTH = 23
POSITIONS = torch.arange(1, LENGTH)
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def attention(
    mask: Tensor | None, heads: int = 2, length: int = LENGTH
) -> SoftmaxAttentionOperator:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, heads, length, 16, generator=generator, dtype=torch.float64)
    return SoftmaxAttentionOperator(query, key, mask)


def window(size: int) -> Tensor:
    return CAUSAL.triu(1 - size)


def chunks(size: int) -> Tensor:
    chunk = torch.arange(LENGTH) // size
    return CAUSAL & (chunk[:, None] == chunk[None, :])


def naive_capacity(mask: Tensor, i: int) -> int:
    """Tokens before i that some token from i on may still read."""
    return sum(any(bool(mask[k, j]) for k in range(i, LENGTH)) for j in range(i))


def naive_attainable(mask: Tensor, i: int) -> int:
    """Not more than those tokens, and not more than the tokens that read any of them."""
    readers = sum(any(bool(mask[k, j]) for j in range(i)) for k in range(i, LENGTH))
    return min(naive_capacity(mask, i), readers)


def random_choice(keys: int) -> Tensor:
    """As an indexer does: for each query some earlier keys, chosen by content."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(LENGTH, LENGTH, generator=generator).masked_fill(~CAUSAL, -1.0)
    chosen = torch.zeros_like(CAUSAL).scatter(1, scores.topk(keys, dim=1).indices, True)
    return chosen & CAUSAL


MASKS = {
    **{f"window {size}": window(size) for size in (1, 2, 8, 22, 23, 40)},
    **{f"chunks {size}": chunks(size) for size in (1, 2, 5, 8)},
    "chosen keys": random_choice(4),
    "all": CAUSAL,
    "nothing": torch.zeros_like(CAUSAL),
}


@pytest.mark.parametrize("name", MASKS)
def test_capacity_and_attainable_size_are_those_of_counting(name: str) -> None:
    mask = MASKS[name]
    operator = attention(mask)
    positions = POSITIONS.tolist()
    assert operator.visible().shape == (1, 1, LENGTH, LENGTH)
    assert operator.capacity(POSITIONS)[0, 0].tolist() == [
        naive_capacity(mask, i) for i in positions
    ]
    assert operator.attainable(POSITIONS)[0, 0].tolist() == [
        naive_attainable(mask, i) for i in positions
    ]


@pytest.mark.parametrize("name", MASKS)
def test_rank_reaches_the_attainable_size(name: str) -> None:
    operator = attention(MASKS[name])
    dense = operator.to_dense()
    attainable = operator.attainable(POSITIONS)[0, 0].tolist()
    for i, size in zip(POSITIONS.tolist(), attainable, strict=True):
        block = dense[..., i:, :i]
        ranks = torch.linalg.matrix_rank(block, rtol=1e-13).flatten().tolist()
        assert max(ranks) <= size
        if name.startswith(("window", "chunks", "nothing")):
            assert ranks == [size] * len(ranks)


@pytest.mark.parametrize("size", [1, 2, 8, 21, 22])
def test_sliding_window(size: int) -> None:
    operator = attention(window(size))
    assert operator.state_size == size - 1
    assert operator.capacity(POSITIONS)[0, 0].tolist() == [
        min(i, size - 1) for i in POSITIONS.tolist()
    ]
    assert operator.attainable(POSITIONS)[0, 0].tolist() == [
        min(i, size - 1, LENGTH - i) for i in POSITIONS.tolist()
    ]


@pytest.mark.parametrize("size", [2, 5, 8])
def test_chunks(size: int) -> None:
    operator = attention(chunks(size))
    attainable = operator.attainable(POSITIONS)
    assert operator.state_size == size - 1
    assert operator.capacity(POSITIONS)[0, 0].tolist() == [i % size for i in POSITIONS.tolist()]
    assert int(attainable.max()) == size // 2


@pytest.mark.parametrize("mask", [None, window(23), window(40), CAUSAL])
def test_full_attention_grows(mask: Tensor | None) -> None:
    operator = attention(mask)
    assert operator.state_size is None
    assert operator.capacity(POSITIONS)[0, 0].tolist() == POSITIONS.tolist()
    assert operator.attainable(POSITIONS)[0, 0].tolist() == [
        min(i, LENGTH - i) for i in POSITIONS.tolist()
    ]


def test_keys_chosen_by_content_bound_no_state() -> None:
    for keys in (2, 4, 8):
        assert attention(random_choice(keys)).state_size is None


def test_heads_of_one_layer_may_differ() -> None:
    operator = attention(torch.stack([window(3), CAUSAL])[None])
    capacity = operator.capacity(POSITIONS)
    assert capacity.shape == (1, 2, LENGTH - 1)
    assert int(capacity[0, 0].max()) == 2
    assert capacity[0, 1].tolist() == POSITIONS.tolist()
    assert operator.state_size is None
    assert attention(torch.stack([window(3), window(5)])[None]).state_size == 4


def test_some_positions_only() -> None:
    operator = attention(window(8))
    some = torch.tensor([3, 20, 9])
    assert operator.capacity(some)[0, 0].tolist() == [3, 7, 7]
    assert operator.attainable(some)[0, 0].tolist() == [3, 3, 7]


@pytest.mark.parametrize("length", [1, 2])
def test_shortest_texts(length: int) -> None:
    operator = attention(None, length=length)
    positions = torch.arange(1, length)
    assert operator.state_size is None
    assert operator.capacity(positions).flatten().tolist() == [1] * (length - 1)
    assert operator.attainable(positions).flatten().tolist() == [1] * (length - 1)


def test_uniform_average_needs_one_number() -> None:
    """`M_ij = 1 / (i + 1)`: a running sum is all that is kept."""
    nothing = torch.zeros(1, 2, LENGTH, 4)
    operator = SoftmaxAttentionOperator(nothing, nothing)
    dense = operator.to_dense()
    counts = torch.arange(1, LENGTH + 1, dtype=torch.float64)
    expected = torch.ones(LENGTH, LENGTH, dtype=torch.float64).tril() / counts[:, None]
    torch.testing.assert_close(dense, expected.expand(dense.shape), rtol=0.0, atol=1e-16)
    for i in POSITIONS.tolist():
        assert torch.linalg.matrix_rank(dense[0, 0, i:, :i], rtol=1e-12) == 1
    assert operator.state_size is None


def test_previous_token_head_keeps_one_token() -> None:
    """Each token looks at the one before it: a shift, of rank one everywhere."""
    scores = torch.full((LENGTH, LENGTH), -torch.inf)
    scores[0, 0] = 0.0
    for i in range(1, LENGTH):
        scores[i, i - 1] = 0.0
    operator = ScoredAttentionOperator(scores[None, None])
    dense = operator.to_dense()[0, 0]
    assert torch.equal(dense[1:], torch.eye(LENGTH, dtype=torch.float64)[:-1])
    assert operator.capacity(POSITIONS).flatten().tolist() == [1] * (LENGTH - 1)
    assert operator.attainable(POSITIONS).flatten().tolist() == [1] * (LENGTH - 1)
    assert operator.state_size == 1
    for i in POSITIONS.tolist():
        assert torch.linalg.svdvals(dense[i:, :i]).tolist() == [1.0] + [0.0] * (
            min(i, LENGTH - i) - 1
        )
