"""Every causal model type has a tiny model that runs, or a reason why not."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_model_overrides import CANNOT_BUILD, WINDOW
from tiny_models import CannotBuildTiny, build_tiny, causal_lm_types, tiny_input_ids
from transformers import CONFIG_MAPPING

LENGTH = 23
CHANGED = 4
BUILDABLE = 187
LOOKS_AHEAD = {
    "cpmant",  # its prompt and segment rules let early tokens see later ones
    "reformer",  # the later tokens change which hash bucket neighbours an early token sees
}


def _logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("model_type", causal_lm_types())
def test_builds_and_runs_or_says_why_not(model_type: str) -> None:
    if model_type in CANNOT_BUILD:
        with pytest.raises(CannotBuildTiny) as caught:
            build_tiny(model_type)
        assert caught.value.model_type == model_type
        assert caught.value.reason == CANNOT_BUILD[model_type]
        assert caught.value.reason
        assert "\n" not in caught.value.reason
        return
    model = build_tiny(model_type)
    assert not any(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    ids = tiny_input_ids(model, length=LENGTH)
    changed = ids.clone()
    changed[0, -CHANGED:] = ids[0, :CHANGED]
    assert not torch.equal(ids, changed)
    logits = _logits(model, ids)
    difference = (logits - _logits(model, changed)).abs() / logits.abs().max()
    assert logits.shape[:2] == (1, LENGTH)
    assert torch.isfinite(logits).all()
    assert difference[:, -CHANGED:].max() > 1e-3
    assert (difference[:, :-CHANGED].max() > 1e-5) == (model_type in LOOKS_AHEAD)


def test_nearly_all_types_are_buildable() -> None:
    assert set(CANNOT_BUILD) <= set(causal_lm_types())
    assert len(causal_lm_types()) - len(CANNOT_BUILD) >= BUILDABLE


@pytest.mark.parametrize(
    ("model_type", "field"),
    [
        (model_type, field)
        for model_type in causal_lm_types()
        for field in ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types")
        if model_type not in CANNOT_BUILD and field in vars(CONFIG_MAPPING[model_type]())
    ],
)
def test_every_kind_of_layer_is_present(model_type: str, field: str) -> None:
    default = getattr(CONFIG_MAPPING[model_type](), field) or []
    tiny = getattr(build_tiny(model_type).config, field)
    assert set(default) <= set(tiny)
    assert len(tiny) <= 6


@pytest.mark.parametrize("model_type", ["llama", "mamba", "qwen3_next", "reformer"])
def test_same_seed_gives_the_same_model_and_leaves_the_global_state(model_type: str) -> None:
    state = torch.random.get_rng_state()
    first = build_tiny(model_type, seed=3)
    second = build_tiny(model_type, seed=3)
    other = build_tiny(model_type, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    ids = tiny_input_ids(first)
    assert torch.equal(_logits(first, ids), _logits(second, ids))
    assert not torch.equal(_logits(first, ids), _logits(other, ids))


def test_input_ids_avoid_special_tokens_and_follow_the_seed() -> None:
    model = build_tiny("gemma3")
    ids = tiny_input_ids(model, batch=4, length=200, seed=1)
    config = model.config
    special = {config.image_token_index, config.boi_token_index, config.eoi_token_index}
    special |= {config.text_config.pad_token_id, config.text_config.eos_token_id}
    assert ids.shape == (4, 200)
    assert ids.dtype == torch.long
    assert not special & set(ids.flatten().tolist())
    assert ids.max() < config.text_config.vocab_size
    assert torch.equal(ids, tiny_input_ids(model, batch=4, length=200, seed=1))
    assert not torch.equal(ids, tiny_input_ids(model, batch=4, length=200, seed=2))


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bart", "gemma3", "qwen3_next"])
def test_overrides_reach_the_text_part_under_any_name(model_type: str) -> None:
    model = build_tiny(model_type, num_hidden_layers=3)
    config = model.config.get_text_config(decoder=True)
    assert getattr(config, "decoder_layers", config.num_hidden_layers) == 3
    assert torch.isfinite(_logits(model, tiny_input_ids(model))).all()


def test_undeclared_fields_reach_the_configuration() -> None:
    model = build_tiny("gemma4_text", global_head_dim=32)
    widths = {
        module.out_features for name, module in model.named_modules() if name.endswith("q_proj")
    }
    assert widths == {4 * 16, 4 * 32}


def test_attention_implementation_is_passed_on() -> None:
    assert build_tiny("llama", attn_implementation="eager").config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "model_type", ["llama", "bert", "gpt2", "gemma3_text", "marian", "zaya", "inkling_text"]
)
def test_attention_is_not_uniform(model_type: str) -> None:
    model = build_tiny(model_type, attn_implementation="eager")
    with torch.no_grad():
        output = model(
            input_ids=tiny_input_ids(model, length=LENGTH), use_cache=False, output_attentions=True
        )
    assert output.attentions
    for weights in output.attentions:
        seen = weights[0, :, WINDOW - 1]
        entropy = torch.special.entr(seen).sum(dim=-1)
        assert (entropy / math.log(WINDOW)).mean() < 0.95


def test_unknown_type_has_a_reason() -> None:
    with pytest.raises(CannotBuildTiny, match="no causal language model"):
        build_tiny("vit")
