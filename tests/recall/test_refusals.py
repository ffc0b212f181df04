"""What is refused, what is said, and what is left as it was."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from analysis.model_state import state_of
from tiny_checkpoints import some_text, words
from transformers import BertConfig, BertLMHeadModel

import hf_ess

TEXT = "w5 w6 w7 w5 w6 w8 w5 w6 w7"
IDS = torch.tensor([[5, 6, 7, 5, 6, 8, 5, 6, 7]])


def _measured(model, inputs=IDS, *arguments, **options):
    return hf_ess.recall_perplexity(model, inputs, *arguments, progress=False, **options)


@pytest.mark.parametrize("budget", [1, 2**29])
def test_the_model_is_left_as_it_was(tiny_llama, budget):
    tiny_llama.train()
    tiny_llama.model.layers[0].eval()
    before = state_of(tiny_llama)
    weights = {name: value.clone() for name, value in tiny_llama.state_dict().items()}
    _measured(tiny_llama, memory_budget=budget, window=6)
    assert state_of(tiny_llama) == before
    for name, value in tiny_llama.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize("budget", [1, 2**29])
def test_outputs_are_the_same_bit_for_bit_also_after_an_error(tiny_llama, budget):
    with torch.no_grad():
        before = tiny_llama(input_ids=IDS).logits
    _measured(tiny_llama, memory_budget=budget)

    def fail(*_):
        raise RuntimeError("the head fails")

    handle = tiny_llama.lm_head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="the head fails"):
        _measured(tiny_llama, memory_budget=budget)
    handle.remove()
    assert "forward" not in vars(tiny_llama.model)
    with torch.no_grad():
        assert torch.equal(tiny_llama(input_ids=IDS).logits, before)


def test_the_backbone_runs_once_for_all_parts_of_a_window(tiny_llama):
    calls = {"layers": 0, "rows": []}
    layer = tiny_llama.model.layers[0]
    layer.register_forward_hook(lambda *_: calls.__setitem__("layers", calls["layers"] + 1))
    tiny_llama.lm_head.register_forward_hook(lambda _, __, out: calls["rows"].append(out.shape[1]))
    ids = torch.randint(0, 100, (1, 50), generator=torch.Generator().manual_seed(0))
    _measured(tiny_llama, ids, memory_budget=1)
    trial, text = 3, 1
    assert calls["layers"] == trial + text
    assert calls["rows"][-49:] == [1] * 49


def test_special_tokens_are_scored_and_never_recalled(tiny_llama, tokenizer):
    text = "w5 <pad> w5 <pad> w5 w6 w5 w6 zzz w6 zzz w6"
    result = _measured(tiny_llama, text, tokenizer)
    assert result.scored.occurrences.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert result.all.tokens == 11
    said = " ".join(result.notes)
    assert "Special tokens (<unk>, <pad>)" in said
    assert "no special tokens" in " ".join(_measured(tiny_llama, TEXT, tokenizer).notes)
    without = _measured(tiny_llama, tokenizer(text, return_tensors="pt"))
    assert without.recall.tokens > 1
    assert "Without a tokenizer" in " ".join(without.notes)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(tiny_llama, poison):
    with torch.no_grad():
        tiny_llama.lm_head.weight[7] = poison
    with pytest.raises(hf_ess.NonFiniteError, match=r"NaN or infinite(.|\n)*lm_head"):
        _measured(tiny_llama)


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        ("w5", {}, r"Sample 0 has 1 token"),
        (torch.tensor([[5]]), {}, r"Sample 0 has 1 token"),
        ("", {}, "empty"),
        (torch.tensor([[5, 100_000]]), {}, "token id 100000"),
        (TEXT, {"window": 1}, "window must be at least 2, got 1"),
        (TEXT, {"window": 8, "stride": 8}, "leaves no context"),
        (TEXT, {"window": 8, "stride": 0}, "stride must be at least 1"),
        (TEXT, {"window": 10**9}, "longer than the .* made for"),
        (TEXT, {"batch_size": 0}, "batch_size must be"),
        (TEXT, {"memory_budget": 0}, "memory_budget must be"),
        (TEXT, {"exclude_common": 3}, "need each other"),
        (TEXT, {"corpus": TEXT}, "need each other"),
        (TEXT, {"corpus": TEXT, "exclude_common": -1}, "exclude_common must be"),
    ],
)
def test_arguments_that_cannot_be_used(tiny_llama, tokenizer, inputs, options, said):
    with pytest.raises(hf_ess.InvalidInputError, match=said):
        _measured(tiny_llama, inputs, tokenizer, **options)


def test_models_that_look_ahead_or_have_no_head_are_refused(tiny_llama):
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    encoder = BertLMHeadModel(config).eval()
    with pytest.raises(hf_ess.NotCausalError, match=r"depends on that token(.|\n)*is_decoder"):
        _measured(encoder)
    with pytest.raises(hf_ess.UnsupportedModelError, match="gives no logits"):
        _measured(tiny_llama.model)
    with pytest.raises(hf_ess.InvalidTypeError, match="type int"):
        _measured(3)


def test_a_text_beyond_the_context_of_the_model_is_cut(llama_folder):
    loaded = hf_ess.recall_perplexity(str(llama_folder), TEXT, progress=False)
    longest = loaded.settings["window"]
    assert loaded.settings["stride"] == longest // 2
    assert loaded.settings["windows"] == 1
    long = hf_ess.recall_perplexity(str(llama_folder), some_text(longest + 3), progress=False)
    assert long.settings["windows"] == 2
    assert f"Windows of {longest} tokens, {longest // 2} apart" in long.summary(200)
    assert long.all.tokens == longest + 2


def test_json_and_table_say_the_same(tiny_llama, tokenizer):
    result = _measured(tiny_llama, [TEXT, words(IDS[0])], tokenizer)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["all"]["count"] == 16
    assert document["recall"]["perplexity"] == pytest.approx(np.exp(result.recall.loss))
    assert document["recall"]["count"] + document["others"]["count"] == 16
    assert document["settings"]["texts"] == 2
    summary = result.summary(80)
    assert max(map(len, summary.splitlines()[:12])) <= 80
    for group in (result.all, result.recall, result.others):
        assert f"{group.perplexity:.2f}"[:4] in summary


def test_without_repeats_there_is_no_recall(tiny_llama):
    result = _measured(tiny_llama, torch.tensor([[1, 2, 3]]))
    assert result.recall.tokens == 0
    assert math.isnan(result.recall.perplexity)
    assert result.to_dict()["recall"]["perplexity"] is None
    assert result.by_distance == []
    assert "recall" in result.summary()
