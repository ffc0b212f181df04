"""Operators that keep their graph, recorded from models that train."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from fla_stand_in.layers import HEADS, VALUE, Layer
from mamba_ssm_stand_in.mixer_seq_simple import MambaLMHeadModel
from recording_checks import footprint
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.synthetics import SyntheticConfig, build_model
from model_adapters import registered_adapters

POSITIONS = (7, 15)
LENGTH = 23


def linear_attention(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MambaLMHeadModel([Layer(kind) for _ in range(2)], HEADS * VALUE).eval()


MODELS = {
    name: partial(build_tiny, name)
    for name in (
        "llama", "gpt2", "gpt_oss", "gemma2", "mamba", "jamba", "mamba2", "zamba2",
        "qwen3_next", "kimi_linear", "recurrent_gemma", "deepseek_v3",
    )
} | {
    kind: partial(linear_attention, kind)
    for kind in (
        "chunk_linear_attn",
        "chunk_gla",
        "chunk_retention",
        "chunk_simple_gla",
        "chunk_delta_rule",
        "chunk_rwkv6",
        "chunk_rwkv7",
    )
}  # fmt: skip


def hyena():
    config = SyntheticConfig(("Hyena", "Hyena"), vocab_size=64, hidden_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(config)


MODELS["hyena"] = hyena
WITHOUT_GRAPH = {"rwkv": "RWKV-4", "bloom": "softmax attention (inline)", "minimax": "lightning"}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def ids_of(model):
    if hasattr(model, "config") and hasattr(model.config, "get_text_config"):
        return tiny_input_ids(model, batch=2, length=LENGTH)
    return torch.randint(1, 50, (2, LENGTH), generator=torch.Generator().manual_seed(0))


def recorded(model, ids, **options):
    layers = []
    with hf_ess.record_operators(model, layers.append, **options) as recorder:
        logits = model(ids).logits
    return layers, logits, recorder


def spectra_of(layer, **options):
    return hf_ess.block_singular_values(layer.operator, POSITIONS, **options).values


def test_values_are_those_of_a_recording_without_a_graph(model):
    ids = ids_of(model)
    with torch.no_grad():
        plain, _, _ = recorded(model, ids)
    followed, _, _ = recorded(model, ids, keep_graph=True)
    assert len(plain) == len(followed) > 0
    for one, other in zip(plain, followed, strict=True):
        assert (one.name, one.mixer, one.call) == (other.name, other.mixer, other.call)
        values = spectra_of(other, differentiable=True)
        assert values.requires_grad
        assert torch.equal(spectra_of(one), values.detach())


def test_training_computes_what_it_computes_without(model):
    ids = ids_of(model)
    results = []
    for watch in (False, True):
        model.train().zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            layers = []
            recording = hf_ess.record_operators(model, layers.append, keep_graph=True)
            with recording if watch else nullcontext():
                logits = model(ids).logits
            logits.square().mean().backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append([logits.detach(), *gradients])
    assert layers
    for plain, watched in zip(*results, strict=True):
        assert torch.equal(plain, watched)


def test_gradients_reach_the_weights(model):
    layers, _, recorder = recorded(model.train(), ids_of(model), keep_graph=True)
    assert not recorder.refused
    for layer in layers:
        model.zero_grad()
        # Their sum: the entropy of a state of one number is 1 whatever its weights are.
        spectra_of(layer, differentiable=True).sum().backward(retain_graph=True)
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        assert any(gradient.abs().max() > 0 for gradient in gradients)
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_gradients_of_attention_weights_against_differences():
    model = build_tiny("llama").double()
    ids = tiny_input_ids(model, length=LENGTH)
    weight = model.model.layers[0].self_attn.k_proj.weight
    direction = torch.randn(
        weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )

    def ess():
        # Of the first layer: norms compute in float32, and what is before them does not change.
        (layer, *_), _, _ = recorded(model, ids, keep_graph=True)
        return hf_ess.entropy_ess(spectra_of(layer, differentiable=True, method="svd")).sum()

    ess().backward()
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            weight.add_(direction, alpha=step)
            ends.append(ess())
    expected = (ends[0] - ends[1]) / 2e-6
    torch.testing.assert_close((weight.grad * direction).sum(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", WITHOUT_GRAPH)
def test_adapters_that_cannot_say_so(name):
    model = build_tiny(name)
    layers, _, recorder = recorded(model, ids_of(model), keep_graph=True)
    assert all(WITHOUT_GRAPH[name] not in layer.mixer for layer in layers)
    refused = [layer for layer in recorder.refused if WITHOUT_GRAPH[name] in layer.mixer]
    assert refused
    assert all("without a graph" in layer.reason for layer in refused)


def test_which_adapters_keep_the_graph():
    mixers = {adapter.mixer for adapter in registered_adapters() if adapter.keeps_graph}
    assert mixers >= {"softmax attention", "mamba", "mamba-2", "gated linear attention"}
    assert "jacobian" not in mixers


def test_training_mode_needs_a_graph():
    model = build_tiny("llama").train()
    with (
        pytest.raises(hf_ess.UnsupportedModelError, match="training mode"),
        hf_ess.record_operators(model, print),
    ):
        pass


def test_checkpointed_training_is_refused():
    model = build_tiny("llama").train()
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
    with (
        pytest.raises(hf_ess.UnsupportedModelError, match="gradient checkpointing"),
        hf_ess.record_operators(model, print, keep_graph=True),
    ):
        pass
    model.eval()
    layers, _, _ = recorded(model, ids_of(model), keep_graph=True)
    assert layers


def test_the_whole_mixer_has_no_graph():
    with (
        pytest.raises(hf_ess.InvalidInputError, match="scope"),
        hf_ess.record_operators(build_tiny("mamba"), print, scope="mixer", keep_graph=True),
    ):
        pass


def test_nothing_is_left_behind():
    model = build_tiny("llama").train()
    ids = ids_of(model)
    before = footprint(model)

    def fail(layer):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), hf_ess.record_operators(model, fail, keep_graph=True):
        model(ids)
    assert footprint(model) == before
    layers, logits, recorder = recorded(model, ids, keep_graph=True)
    assert footprint(model) == before
    queries = weakref.ref(layers[0].operator.query)
    del layers, logits, recorder
    gc.collect()
    assert queries() is None
