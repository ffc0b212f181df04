"""Conformance of WKV (RWKV-4)."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from naive_attention import inputs_of
from recurrent_conformance import LENGTH, Case, RecurrentConformance, recorded
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn

import hf_ess

MIXER = "RWKV-4"
build = partial(build_tiny, "rwkv")


def naive_wkv(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Each row is a weighted average; nothing here is stabilised."""
    operators = []
    for module, hidden, _ in inputs_of(model, ids, ".attention"):
        _, key, _, _ = module.extract_key_value(hidden)
        batch, length, width = key.shape
        dense = torch.zeros(batch, width, length, length, dtype=torch.float64)
        for b, c, i in product(range(batch), range(width), range(length)):
            decay, bonus = math.exp(float(module.time_decay[c])), float(module.time_first[c])
            keys = key[b, i if i == 0 else slice(0, i + 1), c].reshape(-1).tolist()
            weights = [math.exp(keys[j] - (i - 1 - j) * decay) for j in range(i)]
            weights.append(math.exp(keys[i] + bonus))
            total = math.fsum(weights)
            for j, weight in enumerate(weights):
                dense[b, c, i, j] = weight / total
        operators.append(dense)
    return operators


class TestRWKV4(RecurrentConformance):
    mixer = MIXER
    cases = (
        Case(
            name="rwkv",
            build=build,
            naive=naive_wkv,
            state_sizes=(1, 1),
            lacks={"test_outputs_are_what_the_layer_passes_on": "no submodule receives them"},
        ),
    )

    def cached(self, model: nn.Module, result: Any) -> dict[str, Any]:
        return {"state": result.state, "use_cache": True}


def test_rows_are_averages() -> None:
    model = build()
    layers, _, _ = recorded(model, tiny_input_ids(model, length=LENGTH), MIXER)
    for layer in layers:
        rows = layer.operator.to_dense().sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("factor", [500.0, -500.0])
def test_keys_that_overflow_without_a_maximum(factor: float) -> None:
    model = build()
    for block in model.rwkv.blocks:
        block.attention.key.weight.data *= factor
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    layers, _, _ = recorded(model, ids, MIXER)
    # The model rounds keys of several thousand to float32.
    assert TestRWKV4().largest_residual(layers) <= 1e-3
    for layer in layers:
        assert layer.operator.to_dense().isfinite().all()


def test_channel_mix_is_named() -> None:
    model = build()
    ids = tiny_input_ids(model, length=LENGTH)
    with pytest.warns(hf_ess.UnverifiedOperatorWarning):
        report = hf_ess.analyze(model, ids, progress=False)
    assert [layer.name for layer in report.layers] == [
        f"rwkv.blocks.{index}.attention" for index in range(2)
    ]
    assert [layer.name.split(".feed_forward")[0] for layer in report.unsupported] == [
        "rwkv.blocks.0",
        "rwkv.blocks.1",
    ]
