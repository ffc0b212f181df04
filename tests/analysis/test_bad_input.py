"""Bad texts, token ids and arguments are refused by name, before anything is run."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from tiny_checkpoints import some_text
from tiny_models import build_tiny, tiny_input_ids
from transformers import BatchEncoding

import hf_ess
from hf_ess import InvalidInputError, InvalidTypeError, NumericalFloorWarning

analyze = partial(hf_ess.analyze, progress=False)
LENGTH = 12


@pytest.fixture(scope="module")
def model():
    return build_tiny("llama")


@pytest.fixture(scope="module")
def ids(model):
    return tiny_input_ids(model, length=LENGTH)


def _refuse_to_run(*_args, **_kwargs):
    raise AssertionError("the model ran")


@pytest.fixture
def must_not_run(model):
    handle = model.register_forward_pre_hook(_refuse_to_run)
    yield
    handle.remove()


ENCODING_WITH_HOLE = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": [[1, 0, 1, 1]]}
ENCODING_WITHOUT_TEXT = {"input_ids": [[5, 6, 7]], "attention_mask": [[0, 0, 0]]}
ENCODING_THAT_DOES_NOT_FIT = {"input_ids": [[5, 6, 7]], "attention_mask": [[1, 1]]}


@pytest.mark.usefixtures("must_not_run")
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ("", InvalidInputError, "The text is empty"),
        (" \n\t", InvalidInputError, "The text is empty"),
        ([], InvalidInputError, "the list is empty"),
        (["w5 w6 w7", ""], InvalidInputError, "Text 1 is empty"),
        ("w5", InvalidInputError, r"has 1 token\(s\)"),
        (torch.tensor([5]), InvalidInputError, r"has 1 token\(s\)"),
        (torch.zeros(1, 0, dtype=torch.long), InvalidInputError, r"shape \[L\] or \[B, L\]"),
        (torch.zeros(0, 4, dtype=torch.long), InvalidInputError, r"shape \[L\] or \[B, L\]"),
        (torch.zeros(1, 2, 3, dtype=torch.long), InvalidInputError, r"shape \[L\] or \[B, L\]"),
        (torch.ones(1, 8), InvalidTypeError, "must be integers, got torch.float32"),
        (torch.ones(1, 8, dtype=torch.bool), InvalidTypeError, "must be integers, got torch.bool"),
        (torch.tensor([[5, -1, 6]]), InvalidInputError, "holds the negative token id -1"),
        (torch.tensor([[5, 6, 128]]), InvalidInputError, "token id 128, the model knows 0..127"),
        (ENCODING_WITH_HOLE, InvalidInputError, "in the middle of sample 0"),
        (ENCODING_WITHOUT_TEXT, InvalidInputError, r"has 0 token\(s\)"),
        (ENCODING_THAT_DOES_NOT_FIT, InvalidInputError, "does not fit input_ids"),
        (None, InvalidTypeError, "inputs of type NoneType"),
        (7, InvalidTypeError, "inputs of type int"),
        ([1, 2, 3], InvalidTypeError, "inputs of type list"),
        ({"pixel_values": torch.zeros(1)}, InvalidTypeError, "inputs of type dict"),
        (b"w5 w6", InvalidTypeError, "inputs of type bytes"),
    ],
)
def test_inputs(model, tokenizer, inputs, error, message):
    with pytest.raises(error, match=message):
        analyze(model, inputs, tokenizer)


@pytest.mark.usefixtures("must_not_run")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"positions": [0]}, InvalidInputError, "Position 0 is out of range"),
        ({"positions": [LENGTH]}, InvalidInputError, f"Position {LENGTH} is out of range"),
        ({"positions": [-1]}, InvalidInputError, "Position -1 is out of range"),
        ({"positions": [3, 3]}, InvalidInputError, "Position 3 is given twice"),
        ({"positions": []}, InvalidInputError, "No positions are given"),
        ({"positions": LENGTH}, InvalidInputError, f"stride of {LENGTH} leaves no position"),
        ({"positions": 0}, InvalidInputError, "stride of 0 leaves no position"),
        ({"positions": "some"}, InvalidInputError, "Unknown positions 'some'"),
        ({"positions": [1.5]}, InvalidTypeError, "must be whole numbers"),
        ({"tolerances": [1e-3, 0]}, InvalidInputError, "must be positive and finite, got 0.0"),
        ({"tolerances": [-1e-3]}, InvalidInputError, "must be positive and finite, got -0.001"),
        ({"tolerances": math.nan}, InvalidInputError, "must be positive and finite, got nan"),
        ({"tolerances": [math.inf]}, InvalidInputError, "must be positive and finite, got inf"),
        ({"tolerances": []}, InvalidInputError, "at least one tolerance"),
        ({"tolerances": [1e-3, 1e-3]}, InvalidInputError, "each once"),
        ({"tolerances": ["small"]}, InvalidTypeError, "must be numbers"),
        ({"window": 0}, InvalidInputError, "one or two widths of at least 1"),
        ({"window": (3, 4, 5)}, InvalidInputError, "one or two widths of at least 1"),
        ({"window": 2.5}, InvalidTypeError, "whole number or a pair"),
        ({"layers": []}, InvalidInputError, "layers is empty"),
        ({"layers": [1.5]}, InvalidTypeError, "indices or names"),
        ({"layers": 1.5}, InvalidTypeError, "indices or names"),
        ({"layers": [True]}, InvalidTypeError, "indices or names"),
        ({"batch_size": 0}, InvalidInputError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 1.0}, InvalidTypeError, "batch_size must be a whole number"),
        ({"batch_size": True}, InvalidTypeError, "batch_size must be a whole number"),
        ({"memory_budget": -1}, InvalidInputError, "memory_budget must be at least 1"),
        ({"method": "qr"}, InvalidInputError, "Unknown method 'qr'.*auto, gram, svd"),
    ],
)
def test_arguments(model, ids, arguments, error, message):
    with pytest.raises(error, match=message):
        analyze(model, ids, **arguments)


@pytest.mark.parametrize("wanted", [7, -1, "model.layers.7", "self_attn", "model.lay"])
def test_an_unknown_layer_is_answered_with_the_choices(model, ids, wanted):
    with pytest.raises(InvalidInputError) as caught:
        analyze(model, ids, layers=[0, wanted])
    assert repr(wanted) in caught.value.what
    assert "indices 0..1" in caught.value.fix
    assert "'model.layers.0.self_attn'" in caught.value.fix


def test_text_without_a_tokenizer(model):
    with pytest.raises(InvalidTypeError, match="needs a tokenizer") as caught:
        analyze(model, "w5 w6 w7")
    assert "AutoTokenizer" in caught.value.fix


@pytest.mark.parametrize("model_type", ["gpt2", "opt", "roberta", "gptj"])
def test_a_text_longer_than_the_model_was_made_for(model_type):
    overrides = {"is_decoder": True} if model_type == "roberta" else {}
    model = build_tiny(model_type, max_position_embeddings=20, **overrides)
    with pytest.raises(
        InvalidInputError, match=r"of 24 tokens is too long for .* made for 20"
    ) as e:
        analyze(model, tiny_input_ids(model, length=24))
    assert e.value.__cause__ is not None
    assert e.value.fix == "Analyse a shorter text."


def test_a_rotary_model_may_be_given_a_longer_text(model):
    short = build_tiny("llama", max_position_embeddings=16)
    report = analyze(short, tiny_input_ids(short, length=40), positions=[20])
    assert len(report.verified_layers) == 2


def test_an_error_of_the_model_itself_is_not_explained_away(model, ids):
    handle = model.model.norm.register_forward_pre_hook(_fail)
    try:
        with pytest.raises(RuntimeError, match=r"^a bug of the model$") as caught:
            analyze(model, ids)
    finally:
        handle.remove()
    assert not isinstance(caught.value, hf_ess.HfEssError)


def _fail(*_args):
    raise RuntimeError("a bug of the model")


def test_a_tolerance_below_the_rounding_floor_is_flagged(model, ids):
    with pytest.warns(NumericalFloorWarning, match="Tolerance 1e-18 lies below the rounding"):
        report = analyze(model, ids, tolerances=[1e-2, 1e-18])
    assert [len(report.warnings), report.warnings[0][:17]] == [1, "Tolerance 1e-18 l"]
    for layer in report.layers:
        assert layer.below_floor[1e-18].all()
        assert not layer.below_floor[1e-2].any()
    rows = [line for line in report.summary().splitlines() if "softmax attention" in line]
    assert [row.count("*") for row in rows] == [1, 1]
    assert "* the tolerance is at or below the rounding error" in report.summary()


def test_a_relative_tolerance_below_the_rounding_floor_is_flagged(model, ids):
    with pytest.warns(NumericalFloorWarning, match="Tolerance 1e-17"):
        report = analyze(model, ids, tolerances=[1e-17], relative=True)
    assert all(layer.below_floor[1e-17].all() for layer in report.layers)


def test_texts_that_no_position_reaches_are_named(model):
    ids = tiny_input_ids(model, batch=3, length=20)
    lengths = torch.tensor([20, 5, 15])
    inputs = {"input_ids": ids, "attention_mask": torch.arange(20) < lengths[:, None]}
    with pytest.warns(UserWarning, match=r"1 text\(s\) are not longer than the first position, 9"):
        report = analyze(model, inputs, positions=[9, 17])
    assert "1 text(s)" in report.warnings[0]
    for layer in report.layers:
        assert layer.verified
        assert np.isnan(layer.entropy_ess[:, 0]).tolist() == [
            [False, False],
            [True, True],
            [False, True],
        ]


def test_lists_of_unequal_length_need_no_padding(model, tokenizer):
    texts = [some_text(11, seed=1), some_text(7, seed=2)]
    ragged = tokenizer(texts)
    assert isinstance(ragged, BatchEncoding)
    report = analyze(model, ragged, positions=[4])
    reference = analyze(model, texts, tokenizer, positions=[4])
    assert [sample.length for sample in report.samples] == [11, 7]
    for layer, expected in zip(report.layers, reference.layers, strict=True):
        np.testing.assert_array_equal(layer.entropy_ess, expected.entropy_ess)
