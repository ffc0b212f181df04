"""Conformance of RG-LRU (RecurrentGemma)."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from naive_attention import inputs_of
from recurrent_conformance import LENGTH, Case, RecurrentConformance, recorded
from tiny_model_overrides import HEADS, HIDDEN
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn
from transformers import DynamicCache

MIXER = "RG-LRU"
build = partial(build_tiny, "recurrent_gemma")


def decays_of(module: nn.Module, activations: Tensor) -> Tensor:
    """`a = sigmoid(Lambda)^(8 r)` with block-diagonal gates r, `[B, L, D]`."""
    gates = torch.zeros_like(activations)
    width = HIDDEN // HEADS
    for head in range(HEADS):
        own = slice(head * width, (head + 1) * width)
        raw = activations[..., own] @ module.recurrent_gate_weight[head]
        gates[..., own] = torch.sigmoid(raw + module.recurrent_gate_bias[head])
    return torch.sigmoid(-module.recurrent_param) ** (8 * gates)


def naive_rg_lru(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`M_ij = a_i ... a_{j+1}`."""
    operators = []
    for module, activations, _ in inputs_of(model, ids, ".rg_lru"):
        decays = decays_of(module, activations).double()
        batch, length, width = decays.shape
        dense = torch.zeros(batch, width, length, length, dtype=torch.float64)
        for i in range(length):
            for j in range(i + 1):
                dense[:, :, i, j] = decays[:, j + 1 : i + 1].prod(1)
        operators.append(dense)
    return operators


class TestRGLRU(RecurrentConformance):
    mixer = MIXER
    cases = (
        Case(
            name="recurrent_gemma",
            build=build,
            naive=naive_rg_lru,
            state_sizes=(1, 1),
            lacks={
                "test_outputs_are_what_the_layer_passes_on": "no submodule receives them",
                "test_calls_that_go_on_from_a_state_are_refused": "results hold no cache",
            },
        ),
    )


def test_later_calls_of_a_cached_text_are_refused() -> None:
    model = build()
    ids = tiny_input_ids(model, length=LENGTH)
    cache = DynamicCache(config=model.config)
    first, recorder, _ = recorded(model, ids, MIXER, past_key_values=cache, use_cache=True)
    assert len(first) == 2
    assert not recorder.refused
    # Some versions of transformers count from 0 again, and with them the text begins anew.
    options = {"past_key_values": cache, "use_cache": True}
    for start, more in ((LENGTH, ids[:, :1]), (LENGTH + 1, ids[:, :5])):
        places = torch.arange(start, start + more.shape[1])[None]
        later, recorder, _ = recorded(model, more, MIXER, position_ids=places, **options)
        assert not later
        reasons = [layer.reason for layer in recorder.refused if layer.mixer == MIXER]
        assert ["earlier state" in reason for reason in reasons] == [True] * 2


def test_a_state_that_the_first_token_forgets() -> None:
    model = build()
    ids = tiny_input_ids(model, length=LENGTH)
    first, _, _ = recorded(model, ids, MIXER, use_cache=True)
    # The module keeps its state between calls; position 0 makes the next one begin anew.
    again, recorder, _ = recorded(model, ids, MIXER, use_cache=True)
    assert not recorder.refused
    assert TestRGLRU().largest_residual(again) <= 1e-5
    for layer, same in zip(again, first, strict=True):
        assert torch.equal(layer.operator.to_dense(), same.operator.to_dense())


@pytest.mark.parametrize("second", [1, 9, LENGTH - 1])
def test_position_zero_forgets_everything(second: int) -> None:
    model = build()
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    positions = torch.cat([torch.arange(second), torch.arange(LENGTH - second)]).expand(2, -1)
    layers, _, _ = recorded(model, ids, MIXER, position_ids=positions, use_cache=False)
    assert TestRGLRU().largest_residual(layers) <= 1e-5
    for layer in layers:
        assert not layer.operator.to_dense()[..., second:, :second].any()
        assert layer.operator.to_dense()[..., : second + 1, second:].any()


def test_decays_that_underflow_as_a_product() -> None:
    model = build()
    for name, parameter in model.named_parameters():
        if name.endswith("recurrent_param"):
            parameter.data.fill_(30.0)
    ids = tiny_input_ids(model, batch=2, length=64)
    layers, _, _ = recorded(model, ids, MIXER, use_cache=False)
    assert TestRGLRU().largest_residual(layers) <= 1e-5
    smallest = min(float(layer.operator.to_dense()[..., -1, 0].max()) for layer in layers)
    assert math.isfinite(smallest)
    assert smallest < 1e-100
