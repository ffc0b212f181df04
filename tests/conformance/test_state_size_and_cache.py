"""State sizes of operators against what models really keep when they go on from a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recording_checks import LENGTH
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn
from transformers import DynamicCache

import hf_ess
from model_adapters import LayerOperator

RECURRENT = (
    "mamba", "falcon_mamba", "jamba", "zamba", "mamba2", "bamba", "falcon_h1", "zamba2",
    "nemotron_h", "granitemoehybrid", "qwen3_next", "qwen3_5_text", "olmo_hybrid", "kimi_linear",
    "bailing_hybrid",
)  # fmt: skip
ATTENTION = ("llama", "gpt2", "jamba", "qwen3_next", "mistral", "kimi_linear")


@torch.no_grad()
def recorded(model: nn.Module, ids: Tensor, **kwargs) -> tuple[list[LayerOperator], Any]:
    layers: list[LayerOperator] = []
    with hf_ess.record_operators(model, layers.append) as recorder:
        result = model(input_ids=ids, use_cache=True, **kwargs)
    assert not recorder.refused
    return layers, result


def cache_of(result: Any) -> Any:
    cache = getattr(result, "past_key_values", None)
    return result.cache_params if cache is None else cache


def kept_layers(result: Any) -> list[tuple[int, Any]]:
    return list(enumerate(cache_of(result).layers))


def channels_of(layers: list[LayerOperator]) -> int:
    """Heads times channels of a head, over all calls of one module."""
    return sum(layer.inputs.shape[1] * layer.inputs.shape[-1] for layer in layers)


@pytest.mark.parametrize("model_type", RECURRENT)
def test_recurrent_states(model_type: str) -> None:
    model = build_tiny(model_type)
    layers, result = recorded(model, tiny_input_ids(model, length=LENGTH))
    compared = 0
    for number, kept in kept_layers(result):
        state = getattr(kept, "recurrent_states", {}).get(0)
        if state is None:
            continue
        mine = [x for x in layers if x.index == number and x.operator.state_size is not None]
        (size,) = {layer.operator.state_size for layer in mine}
        assert state[0].numel() == size * channels_of(mine)
        compared += 1
    assert compared >= 1


@pytest.mark.parametrize("model_type", ["mamba", "mamba2", "qwen3_next", "kimi_linear"])
def test_convolutions_that_mixers_include(model_type: str) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, length=LENGTH)
    wide: list[LayerOperator] = []
    with torch.no_grad(), hf_ess.record_operators(model, wide.append, scope="mixer"):
        model(input_ids=ids, use_cache=False)
    layers, result = recorded(model, ids)
    (kept,) = {
        layer.conv_states[0].shape[-1]
        for _, layer in kept_layers(result)
        if hasattr(layer, "conv_states")
    }
    for core, layer in zip(layers, wide, strict=True):
        if layer.scope == "mixer":
            # The cache has room for the present input too; a direct path needs all the others.
            shared = int(core.operator.writes_before_reading)
            assert layer.operator.state_size == core.operator.state_size + kept - 1 - shared


@pytest.mark.parametrize("model_type", ["lfm2", "lfm2_moe"])
def test_short_convolutions(model_type: str) -> None:
    model = build_tiny(model_type)
    layers, result = recorded(model, tiny_input_ids(model, length=LENGTH))
    for number, kept in kept_layers(result):
        if hasattr(kept, "conv_states"):
            (layer,) = (layer for layer in layers if layer.index == number)
            # The cache has room for the present input too.
            assert layer.operator.state_size == kept.conv_states[0].shape[-1] - 1


@pytest.mark.parametrize("model_type", ATTENTION)
def test_attention_keeps_every_token(model_type: str) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, length=LENGTH)
    layers, _ = recorded(model, ids)
    for position in (3, 5, LENGTH // 2):
        _, result = recorded(model, ids[:, :position])
        kept = dict(kept_layers(result))
        mine = [layer for layer in layers if layer.mixer == "softmax attention"]
        assert mine
        for layer in mine:
            capacity = layer.operator.capacity(torch.tensor([position]))
            assert int(capacity.max()) == kept[layer.index].keys.shape[-2]


def test_rg_lru() -> None:
    model = build_tiny("recurrent_gemma")
    ids = tiny_input_ids(model, length=LENGTH)
    cache = DynamicCache(config=model.config)
    layers, _ = recorded(model, ids, past_key_values=cache)
    mine = [layer for layer in layers if layer.mixer == "RG-LRU"]
    assert len(mine) == 2
    for layer in mine:
        state = model.get_submodule(layer.name).recurrent_states
        assert state[0].numel() == layer.operator.state_size * channels_of([layer])


def test_rwkv() -> None:
    model = build_tiny("rwkv")
    layers, result = recorded(model, tiny_input_ids(model, length=LENGTH))
    # Of the five states, those of index 2 and 3 are sums over the past, the fifth their exponent.
    numerator, denominator = result.state[2:4]
    for number, layer in enumerate(layers):
        assert layer.operator.state_size == 1
        for state in (numerator, denominator):
            assert state[0, :, number].numel() == channels_of([layer])


def test_lightning_attention() -> None:
    model = build_tiny("minimax")
    layers, result = recorded(model, tiny_input_ids(model, length=LENGTH))
    states = [state for state in cache_of(result).linear_cache if isinstance(state, Tensor)]
    mine = [layer for layer in layers if layer.mixer == "lightning attention"]
    assert len(states) == len(mine) >= 1
    for layer, state in zip(mine, states, strict=True):
        assert state[0].numel() == layer.operator.state_size * channels_of([layer])
