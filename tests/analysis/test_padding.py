"""Padded samples give what each gives alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tiny_checkpoints import VOCABULARY, some_text, word_tokenizer
from tiny_models import build_tiny

import hf_ess

analyze = partial(hf_ess.analyze, progress=False, positions=[3, 6])
LENGTHS = (13, 8, 13)
TEXTS = [some_text(length, seed=length + place) for place, length in enumerate(LENGTHS)]
MODELS = ["llama", "gpt2", "mistral", "bloom"]


def _alone(model, tokenizer):
    return [analyze(model, text, tokenizer) for text in TEXTS]


def _inputs(form, side):
    tokenizer = word_tokenizer(VOCABULARY)
    if form == "texts":
        return TEXTS
    encoding = tokenizer(TEXTS, padding=True, padding_side=side, return_tensors="pt")
    assert encoding["attention_mask"].sum(dim=1).tolist() == list(LENGTHS)
    assert bool((encoding["attention_mask"][1, 0] == 0) == (side == "left"))
    if form == "bool mask":
        encoding["attention_mask"] = encoding["attention_mask"].bool()
    return encoding


@pytest.mark.parametrize(
    ("form", "side"),
    [("texts", "right"), ("encoding", "left"), ("encoding", "right"), ("bool mask", "left")],
)
@pytest.mark.parametrize("model_type", MODELS)
def test_one_at_a_time_bit_for_bit(model_type, form, side, tokenizer):
    model = build_tiny(model_type)
    together = analyze(model, _inputs(form, side), tokenizer)
    assert together.standard_error() > 0
    for place, alone in enumerate(_alone(model, tokenizer)):
        np.testing.assert_array_equal(together.samples[place].token_ids, alone.samples[0].token_ids)
        assert together.samples[place].tokens == alone.samples[0].tokens
        for layer, expected in zip(together.layers, alone.layers, strict=True):
            assert layer.residual[place] == expected.residual[0]
            for metric in together.metrics:
                np.testing.assert_array_equal(
                    layer.values(metric)[place], expected.values(metric)[0]
                )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("model_type", MODELS)
def test_two_at_a_time(model_type, side, tokenizer):
    model = build_tiny(model_type)
    together = analyze(model, _inputs("encoding", side), tokenizer, batch_size=2)
    for place, alone in enumerate(_alone(model, tokenizer)):
        for layer, expected in zip(together.layers, alone.layers, strict=True):
            np.testing.assert_allclose(layer.entropy_ess[place], expected.entropy_ess[0], rtol=1e-6)
            np.testing.assert_array_equal(
                layer.tolerance_ess[1e-1][place], expected.tolerance_ess[1e-1][0]
            )


def test_padding_that_nobody_marks_is_text(tokenizer):
    model = build_tiny("llama")
    encoding = _inputs("encoding", "right")
    unmarked = analyze(model, encoding["input_ids"], tokenizer)
    assert [sample.length for sample in unmarked.samples] == [13, 13, 13]


def test_texts_are_known_by_their_digest_and_ids_are_not(tokenizer):
    model = build_tiny("llama")
    by_text = analyze(model, TEXTS[0], tokenizer).samples[0]
    by_ids = analyze(model, torch.from_numpy(by_text.token_ids)).samples[0]
    assert len(by_text.text_sha256) == 64
    assert by_ids.text_sha256 is None
    assert by_ids.tokens is None
    assert by_text.tokens == TEXTS[0].split()
