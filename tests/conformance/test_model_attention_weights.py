"""A model's own attention function, asked for its weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_ess.operators import SoftmaxAttentionOperator
from model_adapters.exact_attention import ModelAttentionWeights

LENGTH, HEADS = 11, 2
QUERY, KEY = torch.randn(2, 1, HEADS, LENGTH, 4, generator=torch.Generator().manual_seed(0))
BIAS = torch.randn(1, HEADS, LENGTH, LENGTH, generator=torch.Generator().manual_seed(1))
SINKS = torch.randn(1, HEADS, LENGTH, 1, generator=torch.Generator().manual_seed(2))


def plain(module, query, key, value, mask, bias=None, sinks=None, gain=1.0, repeat=False):
    scores = query @ key.transpose(-1, -2) / 2
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if bias is not None:
        scores = scores + bias
    if sinks is not None:
        scores = torch.cat([scores, sinks], -1)
    weights = torch.softmax(scores, -1, dtype=torch.float32)[..., : key.shape[-2]]
    values = value * gain if gain != 1.0 else value
    return torch.matmul(weights, values).transpose(1, 2).contiguous(), None


def operator(query=QUERY, additive=False, **kwargs):
    weights = ModelAttentionWeights(plain, nn.Identity(), HEADS, LENGTH, kwargs, additive=additive)
    return SoftmaxAttentionOperator(query, KEY, weights=weights)


@pytest.fixture
def no_identity(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("an identity was formed")

    monkeypatch.setattr(torch, "eye", refuse)


@pytest.mark.usefixtures("no_identity")
@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("kwargs", [{}, {"bias": BIAS}, {"sinks": SINKS}])
def test_rows_are_those_of_the_matrix(kwargs, additive):
    attention = operator(additive=additive, **kwargs)
    dense = attention.to_dense()
    assert dense.dtype == torch.float64
    assert not dense.triu(1).any()
    for heads in (slice(0, 2), slice(1, 2)):
        for rows in (slice(0, 4), slice(4, 5), slice(6, 11)):
            block = attention.to_dense_block(heads, rows, slice(2, 9))
            expected = dense[:, heads, rows, 2:9]
            torch.testing.assert_close(block, expected, rtol=0, atol=1e-15)
    if not kwargs:
        plain_rule = SoftmaxAttentionOperator(QUERY, KEY).to_dense()
        torch.testing.assert_close(dense, plain_rule, rtol=0, atol=1e-14)


def test_what_else_is_done_with_values_is_seen():
    doubled = operator(gain=2.0)
    expected = 2 * operator().to_dense()
    torch.testing.assert_close(doubled.to_dense(), expected, rtol=0, atol=1e-14)
    block = doubled.to_dense_block(None, slice(3, 7))
    torch.testing.assert_close(block, expected[:, :, 3:7], rtol=0, atol=1e-14)


@pytest.mark.usefixtures("no_identity")
def test_weights_that_are_no_numbers_stay_so():
    broken = QUERY.clone()
    broken[0, 1, 5] = torch.nan
    dense = operator(broken).to_dense()
    assert dense[0, 1, 5].isnan().any()
    assert not dense[0, 0].isnan().any()
