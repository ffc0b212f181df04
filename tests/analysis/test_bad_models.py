"""Models that cannot be measured are refused, and the error says which and why."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny_models import build_tiny, tiny_input_ids
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BertModel,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

import hf_ess
from hf_ess import InvalidTypeError, NonFiniteError, UnsupportedModelError

analyze = partial(hf_ess.analyze, progress=False)
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 128,
}
IDS = torch.arange(2, 20)[None]


@pytest.mark.parametrize("model_class", [BertModel, BertForMaskedLM])
def test_an_encoder_is_not_causal(model_class):
    with pytest.raises(UnsupportedModelError, match="is not causal: in all of its 2") as caught:
        analyze(model_class(BertConfig(**BERT)).eval(), IDS)
    assert model_class.__name__ in caught.value.what
    assert "is_decoder is not set" in caught.value.causes


def test_the_same_model_as_a_decoder_is_measured():
    model = BertLMHeadModel(BertConfig(**BERT, is_decoder=True)).eval()
    assert len(analyze(model, IDS).verified_layers) == 2


def test_a_vision_model_takes_no_tokens():
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
    )
    with pytest.raises(UnsupportedModelError, match="ViTModel does not take token ids") as caught:
        analyze(ViTModel(config).eval(), IDS)
    assert "it is a vision or audio model" in caught.value.causes


def test_an_encoder_decoder_is_refused():
    config = T5Config(d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=128)
    with pytest.raises(UnsupportedModelError, match="is an encoder-decoder") as caught:
        analyze(T5ForConditionalGeneration(config).eval(), IDS)
    assert "decoder" in caught.value.fix


def test_weights_on_the_meta_device():
    config = build_tiny("llama").config
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
    with pytest.raises(UnsupportedModelError, match=r"21 weights are on the meta device") as caught:
        analyze(model, IDS)
    assert "model.embed_tokens.weight" in caught.value.what


@pytest.mark.parametrize("model", [None, 3, {"model": 1}, LlamaForCausalLM])
def test_what_is_no_model(model):
    with pytest.raises(InvalidTypeError, match=f"type {type(model).__name__}"):
        analyze(model, IDS)


def test_a_model_without_any_mixer_says_so():
    class Bigram(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(128, 128)

        def forward(self, input_ids):
            return self.table(input_ids)

    with pytest.raises(UnsupportedModelError, match="Bigram has no causal mixer") as caught:
        analyze(Bigram().eval(), IDS)
    assert "hf-ess adapters" in caught.value.fix


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["nan", "inf"])
@pytest.mark.parametrize(
    ("weight", "place"),
    [
        ("model.embed_tokens.weight", "inputs of layer model.layers.0.self_attn"),
        ("model.layers.0.mlp.up_proj.weight", "inputs of layer model.layers.1.self_attn"),
        ("model.layers.1.self_attn.q_proj.weight", "layer model.layers.1.self_attn"),
        ("model.layers.1.self_attn.v_proj.weight", "layer model.layers.1.self_attn"),
        ("model.layers.1.mlp.down_proj.weight", "The model's output"),
        ("lm_head.weight", "The model's output"),
    ],
)
def test_weights_that_are_not_finite_are_named(weight, place, value):
    model = build_tiny("llama")
    with torch.no_grad():
        model.get_parameter(weight)[..., 0] = value
    with pytest.raises(NonFiniteError) as caught:
        analyze(model, tiny_input_ids(model))
    assert place in caught.value.what
    assert caught.value.causes == (f"these weights hold NaN or infinity: {weight}",)
    assert caught.value.fix == "Repair the checkpoint."


@pytest.mark.parametrize("model_type", ["bloom", "gptj", "openai-gpt"])
def test_weights_that_are_not_finite_are_named_where_attention_is_inline(model_type):
    model = build_tiny(model_type)
    names = [name for name, weight in model.named_parameters() if ".0.mlp" in name]
    with torch.no_grad():
        model.get_parameter(names[0]).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match=r"layer transformer\.h\.1\.") as caught:
        analyze(model, tiny_input_ids(model))
    assert names[0] in caught.value.causes[0]


def test_many_wrong_weights_are_counted():
    model = build_tiny("llama")
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError) as caught:
        analyze(model, tiny_input_ids(model))
    assert caught.value.causes[0].endswith(" and 16 more")
    assert caught.value.causes[0].count("weight") == 6


def test_an_overflow_with_finite_weights_asks_for_a_wider_dtype():
    model = build_tiny("llama").half()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.fill_(6e4)
    with pytest.raises(NonFiniteError) as caught:
        analyze(model, tiny_input_ids(model))
    assert "its weights are finite" in caught.value.causes[0]
    assert "torch.float32" in caught.value.fix


@pytest.mark.parametrize("lines", ["what", "causes", "fix"])
def test_an_error_says_what_happened_and_what_to_do(lines):
    model = build_tiny("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError) as caught:
        analyze(model, tiny_input_ids(model))
    part = getattr(caught.value, lines)
    assert (part if isinstance(part, str) else part[0]) in str(caught.value)
    assert isinstance(caught.value, ValueError)
