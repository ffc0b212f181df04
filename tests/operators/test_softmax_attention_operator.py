"""Softmax attention from queries, keys and masks, against loops and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hf_ess.operators import ScoredAttentionOperator, SoftmaxAttentionOperator
from hf_ess.operators.attention import SoftmaxWeights
from hf_ess.operators.masks import additive_mask, visible_pairs

BATCH, HEADS, KEY_HEADS, LENGTH, WIDTH = 2, 4, 2, 9, 3


def features(heads: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, heads, LENGTH, WIDTH, generator=generator).to(dtype)


QUERY, KEY = features(HEADS, 0), features(KEY_HEADS, 1)
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
WINDOW = CAUSAL.triu(-2)
BLIND = WINDOW.clone()
BLIND[:3] = False
BLIND[6] = False
MASKS = {"causal": CAUSAL, "window": WINDOW, "blind rows": BLIND}


def naive(scale: float, mask: Tensor) -> Tensor:
    """Weights number by number; a query that sees nothing has none."""
    weights = torch.zeros(BATCH, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    for b in range(BATCH):
        for h in range(HEADS):
            for i in range(LENGTH):
                seen = [j for j in range(LENGTH) if mask[i, j]]
                products = [
                    sum(
                        float(QUERY[b, h, i, d]) * float(KEY[b, h // 2, j, d]) for d in range(WIDTH)
                    )
                    for j in seen
                ]
                powers = [math.exp(scale * product) for product in products]
                for j, power in zip(seen, powers, strict=True):
                    weights[b, h, i, j] = power / math.fsum(powers)
    return weights


@pytest.mark.parametrize("scale", [None, 0.1, 2.0])
@pytest.mark.parametrize("name", MASKS)
def test_equals_loops(name: str, scale: float | None) -> None:
    mask = MASKS[name]
    dense = SoftmaxAttentionOperator(QUERY, KEY, mask, scale=scale).to_dense()
    expected = naive(WIDTH**-0.5 if scale is None else scale, mask)
    assert dense.dtype == torch.float64
    assert float((dense - expected).abs().max()) <= 1e-14


def test_no_mask_means_causal() -> None:
    without = SoftmaxAttentionOperator(QUERY, KEY).to_dense()
    assert torch.equal(without, SoftmaxAttentionOperator(QUERY, KEY, CAUSAL).to_dense())
    assert not without.triu(1).any()


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("as_numbers", [False, True])
def test_equals_the_fused_attention_of_torch(name: str, as_numbers: bool) -> None:
    mask = MASKS[name]
    given = additive_mask(mask, LENGTH, mask.device) if as_numbers else mask
    identity = torch.eye(LENGTH, dtype=torch.float64).expand(BATCH, HEADS, LENGTH, LENGTH)
    key = KEY.repeat_interleave(HEADS // KEY_HEADS, dim=1)
    fused = functional.scaled_dot_product_attention(QUERY, key, identity, attn_mask=given)
    dense = SoftmaxAttentionOperator(QUERY, KEY, given).to_dense()
    assert float((dense - fused).abs().max()) <= 1e-14


def test_queries_that_see_no_key_give_zeros_and_the_others_sum_to_one() -> None:
    dense = SoftmaxAttentionOperator(QUERY, KEY, BLIND).to_dense()
    sees = BLIND.any(-1)
    assert not dense[:, :, ~sees].any()
    torch.testing.assert_close(
        dense[:, :, sees].sum(-1), torch.ones(BATCH, HEADS, int(sees.sum())).double()
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["causal", "window"])
def test_masks_of_numbers_hide_as_boolean_ones_do(name: str, dtype: torch.dtype) -> None:
    """Models hide pairs by the most negative number of their dtype, some by minus infinity."""
    mask = MASKS[name]
    expected = SoftmaxAttentionOperator(QUERY, KEY, mask)
    zero = torch.zeros(LENGTH, LENGTH, dtype=dtype)
    for hidden in (-torch.inf, torch.finfo(dtype).min):
        operator = SoftmaxAttentionOperator(QUERY, KEY, zero.masked_fill(~mask, hidden))
        assert torch.equal(operator.visible(), expected.visible())
        assert torch.equal(operator.to_dense(), expected.to_dense())


@pytest.mark.parametrize(
    "shape",
    [
        (LENGTH, LENGTH),
        (1, 1, LENGTH, LENGTH),
        (1, LENGTH, LENGTH),
        (HEADS, LENGTH, LENGTH),
        (1, HEADS, LENGTH, LENGTH),
        (BATCH, 1, LENGTH, LENGTH),
        (BATCH, HEADS, LENGTH, LENGTH),
    ],
)
def test_masks_of_any_shape_and_chunks_of_heads(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    bias = torch.randn(shape, generator=generator, dtype=torch.float64).masked_fill(~CAUSAL, -1e300)
    operator = SoftmaxAttentionOperator(QUERY, KEY, bias)
    key = KEY.repeat_interleave(2, dim=1)
    scores = QUERY @ key.transpose(-1, -2) * WIDTH**-0.5 + bias
    whole = operator.to_dense()
    assert float((whole - torch.softmax(scores, -1)).abs().max()) <= 1e-14
    for step in (1, 2, 3):
        parts = [operator.to_dense(slice(at, at + step)) for at in range(0, HEADS, step)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0.0, atol=1e-15)


def test_apply_equals_the_matrix() -> None:
    u = features(HEADS, 3, torch.float32)
    operator = SoftmaxAttentionOperator(QUERY, KEY)
    expected = torch.einsum("bhij,bhjc->bhic", operator.to_dense(), u.double())
    torch.testing.assert_close(operator.apply(u), expected, rtol=0.0, atol=1e-14)
    some = slice(1, 3)
    torch.testing.assert_close(
        operator.apply(u[:, some], some), expected[:, some], rtol=0.0, atol=1e-14
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_features_are_taken_as_they_are(dtype: torch.dtype) -> None:
    query, key = QUERY.to(dtype), KEY.to(dtype)
    operator = SoftmaxAttentionOperator(query, key)
    exact = SoftmaxAttentionOperator(query.double(), key.double())
    assert operator.query.dtype == dtype
    assert torch.equal(operator.to_dense(), exact.to_dense())


def test_scores_of_any_size_do_not_overflow() -> None:
    dense = SoftmaxAttentionOperator(QUERY * 1e4, KEY * 1e4).to_dense()
    assert torch.isfinite(dense).all()
    torch.testing.assert_close(dense.sum(-1), torch.ones(BATCH, HEADS, LENGTH).double())


def test_a_rule_of_the_model_is_asked_with_the_chosen_heads() -> None:
    asked: list[tuple[tuple[int, ...], tuple[int, ...], slice]] = []

    def rule(query: Tensor, key: Tensor, mask: Tensor | None, heads: slice) -> Tensor:
        asked.append((tuple(query.shape), tuple(key.shape), heads))
        assert query.dtype == key.dtype == torch.float64
        return SoftmaxWeights(1.0)(query, key, mask, heads)

    operator = SoftmaxAttentionOperator(QUERY.float(), KEY.float(), weights=rule)
    dense = operator.to_dense(slice(1, 3))
    part = (BATCH, 2, LENGTH, WIDTH)
    assert asked == [(part, part, slice(1, 3))]
    expected = SoftmaxAttentionOperator(QUERY.float(), KEY.float(), scale=1.0).to_dense()
    torch.testing.assert_close(dense, expected[:, 1:3], rtol=0.0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hidden", [-torch.inf, "lowest"])
def test_operator_of_scores(dtype: torch.dtype, hidden: float | str) -> None:
    low = torch.finfo(dtype).min if hidden == "lowest" else hidden
    scores = (QUERY @ KEY.repeat_interleave(2, dim=1).transpose(-1, -2)).to(dtype)
    scores = scores.masked_fill(~WINDOW, low)
    operator = ScoredAttentionOperator(scores)
    assert operator.shape == (BATCH, HEADS, LENGTH, LENGTH)
    assert torch.equal(operator.visible(), WINDOW.expand(operator.shape))
    assert operator.state_size == 2
    dense = operator.to_dense()
    assert dense.dtype == torch.float64
    assert torch.equal(dense, torch.softmax(scores.double(), -1))
    assert torch.equal(operator.to_dense(slice(1, 3)), dense[:, 1:3])


def test_visible_pairs() -> None:
    assert torch.equal(visible_pairs(None, LENGTH, torch.device("cpu"))[0, 0], CAUSAL)
    assert visible_pairs(WINDOW, LENGTH, WINDOW.device) is WINDOW
    slope = torch.zeros(LENGTH, LENGTH) - 1e4 * torch.arange(LENGTH)
    assert visible_pairs(slope, LENGTH, slope.device).all()
