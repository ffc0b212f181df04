"""Conformance of lightning attention (MiniMax)."""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import pytest
import torch
from naive_attention import heads_of, inputs_of
from recurrent_conformance import LENGTH, Case, RecurrentConformance, recorded
from tiny_model_overrides import HEAD_DIM, HEADS, WINDOW
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn
from torch.nn.functional import silu

MIXER = "lightning attention"


def naive_lightning(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`M_ij = (q_i . k_j) exp(-s_h (i - j))`; slopes as in ALiBi, smaller in later layers."""
    operators = []
    layers = model.config.num_hidden_layers
    for module, hidden, _ in inputs_of(model, ids, ".self_attn"):
        if not hasattr(module, "qkv_proj"):
            continue
        features = heads_of(silu(module.qkv_proj(hidden)), 3 * HEAD_DIM)
        query, key = features[..., :HEAD_DIM].double(), features[..., HEAD_DIM : 2 * HEAD_DIM]
        dense = torch.zeros(*query.shape[:3], query.shape[2], dtype=torch.float64)
        factor = 1 - module.layer_idx / (layers - 1 + 1e-5) + 1e-5
        for b, h, i in product(*map(range, query.shape[:3])):
            slope = factor * 2.0 ** (-8 * (h + 1) / HEADS)
            assert math.isclose(slope, float(module.slope_rate[h]), rel_tol=1e-4)
            slope = float(module.slope_rate[h])
            for j in range(i + 1):
                score = float(query[b, h, i] @ key[b, h, j].double())
                dense[b, h, i, j] = score * math.exp(-slope * (i - j))
        operators.append(dense)
    return operators


class TestLightningAttention(RecurrentConformance):
    mixer = MIXER
    cases = (
        Case(
            name="minimax",
            build=partial(build_tiny, "minimax"),
            naive=naive_lightning,
            state_sizes=(HEAD_DIM,),
            # Its experts run in no float64; the oracle takes features as they are.
            naive_dtype=torch.float32,
            receiver="norm",
        ),
    )


@pytest.mark.parametrize("length", [WINDOW - 1, WINDOW, 2 * WINDOW + 1])
def test_around_block_boundaries(length: int) -> None:
    model = build_tiny("minimax")
    layers, _, _ = recorded(model, tiny_input_ids(model, length=length), MIXER, use_cache=False)
    assert TestLightningAttention().largest_residual(layers) <= 1e-5


@pytest.mark.parametrize("padded", [slice(0, 5), slice(LENGTH - 5, LENGTH)])
def test_padding_writes_nothing(padded: slice) -> None:
    model = build_tiny("minimax")
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    mask = torch.ones_like(ids)
    mask[0, padded] = 0
    layers, _, _ = recorded(model, ids, MIXER, attention_mask=mask, use_cache=False)
    assert TestLightningAttention().largest_residual(layers) <= 1e-5
    assert not layers[0].operator.to_dense()[0, ..., padded].any()
