"""Distillation of layers of transformers' models: mamba, mamba2, attention."""

from __future__ import annotations

import pytest
import torch
from tiny_models import build_tiny
from transformers import AutoModelForCausalLM

import hf_ess
from hf_ess.reduce import distill, distill_all, smaller_layer

QUICK = {"operator_steps": 3, "activation_steps": 3, "progress": False}
STATE = 8


def ids_of(model):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(model.config.vocab_size, (6, 12), generator=generator)


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon_mamba"])
def test_all_layers_with_a_smaller_state(tmp_path, kind) -> None:
    model = build_tiny(kind)
    ids = ids_of(model)
    with torch.no_grad():
        before = model(ids).logits
    found = distill_all(model, 3, ids, **QUICK)
    assert found.note == ""
    assert found.model.config.state_size == 3
    assert model.config.state_size > 3
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    for layer in found.layers:
        assert layer.after.operator != layer.before.operator
        assert layer.operator_losses[-1] < layer.operator_losses[0]
    found.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, found.model(ids).logits)
    report = hf_ess.analyze(again, ids[:1], progress=False)
    assert [layer.state_size for layer in report.layers] == [3] * len(found.layers)
    assert all(layer.verified for layer in report.layers)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_one_layer_alone_runs_and_is_noted(kind) -> None:
    model = build_tiny(kind)
    ids = ids_of(model)
    found = distill(model, 1, 3, ids, **QUICK)
    assert "all its layers have a state of one size" in found.note
    report = hf_ess.analyze(found.model, ids[:1], progress=False)
    assert report.layers[1].state_size == 3
    assert report.layers[0].state_size == model.config.state_size
    assert all(layer.verified for layer in report.layers)


def test_a_new_layer_begins_as_those_of_its_model_do() -> None:
    model = build_tiny("mamba")
    mixer = smaller_layer(model, 1, 5, seed=3)
    assert (mixer.layer_idx, mixer.ssm_state_size) == (1, 5)
    rates = torch.arange(1.0, 6.0).log().expand_as(mixer.A_log)
    torch.testing.assert_close(mixer.A_log.detach(), rates)


def test_attention_learns_attention(tmp_path) -> None:
    model, other = build_tiny("llama"), build_tiny("llama")
    student = other.model.layers[1].self_attn
    with torch.no_grad():
        student.q_proj.weight.mul_(-1)
    ids = ids_of(model)
    settings = {"operator_steps": 20, "activation_steps": 20, "progress": False}
    found = distill(model, 1, student, ids, **settings)
    layer = found.layers[0]
    assert layer.name == "model.layers.1.self_attn"
    assert layer.operator_losses[-1] < 0.9 * layer.operator_losses[0]
    assert layer.after.activation < layer.before.activation
    assert found.note == ""
    found.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, found.model(ids).logits)


def test_models_in_half_precision_keep_their_dtype() -> None:
    model = build_tiny("mamba").to(torch.bfloat16)
    found = distill(model, 0, 4, ids_of(model), **QUICK)
    assert {weight.dtype for weight in found.layers[0].student.parameters()} == {torch.bfloat16}
