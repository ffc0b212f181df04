"""Smaller models of transformers with a state for each channel or head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_channels import of_channels
from naive_recurrent import naive_mamba, naive_mamba2
from tiny_models import build_tiny, tiny_input_ids
from torch import nn
from transformers import AutoModelForCausalLM

import hf_ess
from hf_ess.reduce import plan, truncate

TYPES = ("mamba", "falcon_mamba", "mamba2")
LENGTH = 14


def inputs_for(model: nn.Module) -> torch.Tensor:
    return tiny_input_ids(model, batch=2, length=LENGTH)


@torch.no_grad()
def logits_of(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, use_cache=False).logits


@torch.no_grad()
def first_operator(model: nn.Module, ids: torch.Tensor):
    """Of the layer whose inputs no truncation changes."""
    layers = []
    with hf_ess.record_operators(model, layers.append):
        model(input_ids=ids, use_cache=False)
    return layers[0].operator


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("choose", ["operator", "magnitude", "random"])
def test_certificates_hold_for_every_block(model_type: str, choose: str) -> None:
    model = build_tiny(model_type)
    ids = inputs_for(model)
    done = truncate(model, 3, ids, choose=choose, progress=False)
    assert done.model.config.state_size == 3
    assert model.config.state_size == 8
    layer = done.layers[0]
    whole, cut = (first_operator(one, ids) for one in (model, done.model))
    assert (whole.state_size, cut.state_size) == (8, 3)
    difference = whole.to_dense() - cut.to_dense()
    certified = torch.from_numpy(layer.error)
    torch.testing.assert_close(
        certified, torch.linalg.matrix_norm(difference), rtol=1e-8, atol=1e-9
    )
    for i in range(1, LENGTH):
        error = torch.linalg.matrix_norm(difference[..., i:, :i], ord=2)
        assert (error <= certified).all()
        assert (torch.from_numpy(layer.unbeatable) <= certified).all()


@pytest.mark.parametrize("model_type", ["mamba", "mamba2"])
def test_what_is_kept_is_a_sum_of_channels(model_type: str) -> None:
    model = build_tiny(model_type)
    ids = inputs_for(model)
    done = truncate(model, 5, ids, progress=False)
    layer, whole = done.layers[0], first_operator(model, ids)
    channels = of_channels(whole)
    sets = np.arange(whole.groups) * len(layer.kept) // whole.groups
    expected = whole.to_dense() - channels.sum(0)
    for group, own in enumerate(sets):
        for channel, factor in zip(layer.kept[own], layer.factors[own], strict=True):
            expected[:, group] += factor * channels[channel, :, group]
    found = first_operator(done.model, ids).to_dense()
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6 * float(expected.abs().max()))
    naive = {"mamba": naive_mamba, "mamba2": naive_mamba2}[model_type](done.model, ids)
    torch.testing.assert_close(naive[0], found, rtol=0.0, atol=1e-6 * float(found.abs().max()))


def test_only_architectures_with_room_for_factors_are_rescaled() -> None:
    for model_type, said in [
        ("mamba", ""),
        ("falcon_mamba", "not rescaled: B and C are normalised"),
        ("mamba2", "not rescaled: B and C pass a convolution"),
    ]:
        model = build_tiny(model_type)
        for layer in truncate(model, 3, inputs_for(model), progress=False).layers:
            assert layer.note.startswith(said)
            assert (layer.factors == 1).all() == bool(said)
        plain = truncate(model, 3, inputs_for(model), rescale=False, progress=False)
        assert not any(layer.note for layer in plain.layers)


@pytest.mark.parametrize("model_type", TYPES)
def test_the_present_size_changes_nothing(model_type: str) -> None:
    model = build_tiny(model_type)
    ids = inputs_for(model)
    done = truncate(model, 8, ids, choose="random", progress=False)
    assert torch.equal(logits_of(done.model, ids), logits_of(model, ids))


@pytest.mark.parametrize("model_type", TYPES)
def test_a_smaller_model_is_saved_loaded_and_analysed(model_type: str, tmp_path) -> None:
    model = build_tiny(model_type).bfloat16()
    ids = inputs_for(model)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    done = truncate(model, 2, ids, progress=False)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert type(done.model) is type(model)
    tensors = [*done.model.parameters(), *done.model.buffers()]
    assert all(tensor.device.type == "cpu" for tensor in tensors)
    done.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    assert torch.equal(logits_of(again, ids), logits_of(done.model, ids))
    report = hf_ess.analyze(again, ids, progress=False)
    assert [(layer.verified, layer.state_size) for layer in report.layers] == [(True, 2)] * 2


def test_tied_embeddings_stay_tied() -> None:
    model = build_tiny("mamba", tie_word_embeddings=True)
    done = truncate(model, 4, inputs_for(model), progress=False).model
    embedding = done.get_input_embeddings().weight
    assert embedding.data_ptr() == done.get_output_embeddings().weight.data_ptr()
    assert embedding.data_ptr() != model.get_input_embeddings().weight.data_ptr()


def test_heads_choose_by_groups() -> None:
    model = build_tiny("mamba2", n_groups=2)
    ids = inputs_for(model)
    done = truncate(model, 4, ids, progress=False)
    assert all(layer.kept.shape == (2, 4) for layer in done.layers)
    assert any((layer.kept[0] != layer.kept[1]).any() for layer in done.layers)
    report = hf_ess.analyze(done.model, ids, progress=False)
    assert all(layer.verified and layer.state_size == 4 for layer in report.layers)


def test_one_size_serves_all_layers_of_a_plan() -> None:
    model = build_tiny("mamba")
    ids = inputs_for(model)
    small = plan(hf_ess.analyze(model, ids, progress=False), tolerance=0.1)
    largest = max(small.sizes.values())
    done = truncate(model, small, ids, progress=False)
    for layer in done.layers:
        assert layer.size == largest
        asked = small.sizes[layer.name]
        assert ("all layers have one size" in layer.note) == (asked != largest)
    with pytest.raises(hf_ess.InvalidInputError, match=r"(?s)one size, got 3, 8.*single number"):
        truncate(model, {0: 3}, ids, progress=False)
    wrong = build_tiny("mamba2", num_heads=4, head_dim=32)
    with pytest.raises(
        hf_ess.InvalidInputError, match=r"is mamba-2 of 4 groups, in the plan mamba"
    ):
        truncate(wrong, small, inputs_for(wrong), progress=False)


@pytest.mark.parametrize("model_type", ["jamba", "qwen3_next", "rwkv", "zamba2"])
def test_other_models_are_refused_by_name(model_type: str) -> None:
    model = build_tiny(model_type)
    said = rf"(?s)\({model_type}\) cannot be truncated.*knows LA, GLA, .*mamba2 of transformers"
    with pytest.raises(hf_ess.UnsupportedModelError, match=said):
        truncate(model, 2, inputs_for(model), progress=False)


def test_weights_that_are_not_there_are_refused() -> None:
    model = build_tiny("mamba").to("meta")
    with pytest.raises(hf_ess.UnsupportedModelError, match="not there as numbers"):
        truncate(model, 2, torch.ones(1, 5, dtype=torch.int64), progress=False)


def test_settings_of_generation_are_kept() -> None:
    model = build_tiny("mamba")
    model.generation_config.update(eos_token_id=7, do_sample=True, temperature=0.5)
    smaller = truncate(model, 3, inputs_for(model), progress=False).model
    assert smaller.generation_config.to_dict() == model.generation_config.to_dict()
    assert smaller.generation_config is not model.generation_config
