"""What loss terms on operators refuse, and how they say so."""

from __future__ import annotations

import pytest
import torch
from recording_checks import footprint
from tiny_models import build_tiny
from training.small_models import ids_of, synthetic, term_of
from transformers import (
    AttentionInterface,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.llama.modeling_llama import eager_attention_forward

import hf_ess
from hf_ess.training import Regularizer, proofs


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"target": 1.5}, hf_ess.InvalidInputError, "share above 1"),
        ({"target": 0.0}, hf_ess.InvalidInputError, "target"),
        ({"target": -3, "unit": "absolute"}, hf_ess.InvalidInputError, "target"),
        ({"target": float("nan")}, hf_ess.InvalidInputError, "target"),
        ({"target": "half"}, hf_ess.InvalidTypeError, "target"),
        ({"target": 0.5, "weight": -1}, hf_ess.InvalidInputError, "weight"),
        ({"target": 0.5, "weight": float("inf")}, hf_ess.InvalidInputError, "weight"),
        ({"target": 0.5, "metric": "rank"}, hf_ess.InvalidInputError, "metric"),
        ({"target": 0.5, "unit": "percent"}, hf_ess.InvalidInputError, "unit"),
        ({"target": 0.5, "side": "up"}, hf_ess.InvalidInputError, "side"),
        ({"target": 0.5, "layers": []}, hf_ess.InvalidInputError, "layers"),
        ({"target": 0.5, "layers": [1.5]}, hf_ess.InvalidTypeError, "layers"),
        ({"target": 0.5, "metric": "tolerance", "width": 2}, hf_ess.InvalidInputError, "width"),
        ({"target": 0.5, "metric": "tolerance", "tolerance": 0}, hf_ess.InvalidInputError, "tol"),
    ],
)
def test_arguments_are_checked_at_once(arguments, error, words):
    with pytest.raises(error, match=words):
        hf_ess.ESSRegularizer(synthetic("GLA"), **arguments)


def test_no_model():
    with pytest.raises(hf_ess.InvalidTypeError, match="Module"):
        hf_ess.HankelRegularizer("a name")


def test_a_target_above_the_capacity():
    model = synthetic("GLA", "LA")
    regularizer = hf_ess.ESSRegularizer(
        model, target=9, unit="absolute", positions=[12], layers=[1]
    )
    with pytest.raises(hf_ess.InvalidInputError, match=r"layers\.1.*attain: 8"):
        term_of(regularizer, ids_of(model))


def test_a_model_without_transitions():
    model = build_tiny("llama")
    with pytest.raises(hf_ess.UnsupportedModelError, match="transition"):
        term_of(hf_ess.TransitionRegularizer(model), ids_of(model))


def test_a_chosen_layer_without_a_transition():
    model = synthetic("GLA", "SA")
    assert term_of(hf_ess.TransitionRegularizer(model), ids_of(model)).requires_grad
    with pytest.raises(hf_ess.UnsupportedMixerError, match="softmax attention"):
        term_of(hf_ess.TransitionRegularizer(model, layers=[1]), ids_of(model))


def test_a_mixer_whose_graph_is_not_kept():
    model = build_tiny("lfm2")
    with pytest.raises(hf_ess.UnsupportedMixerError, match="without a graph"):
        term_of(hf_ess.ESSRegularizer(model, target=0.5), ids_of(model))
    chosen = hf_ess.ESSRegularizer(model, target=0.5, layers=[1])
    assert term_of(chosen, ids_of(model)).requires_grad


def test_no_such_layer():
    model = synthetic("GLA", "SA")
    with pytest.raises(hf_ess.InvalidInputError, match=r"No .* layer is called 7"):
        term_of(hf_ess.HankelRegularizer(model, layers=[0, 7]), ids_of(model))


@pytest.mark.parametrize("mixer", ["GLA", "SA", "Mamba"])
@pytest.mark.parametrize("kind", [hf_ess.ESSRegularizer, hf_ess.HankelRegularizer])
def test_a_training_that_diverged(mixer, kind):
    model = synthetic(mixer)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    regularizer = kind(model, **({"target": 0.5} if kind is hf_ess.ESSRegularizer else {}))
    before = footprint(model)
    with pytest.raises(hf_ess.NonFiniteError):
        term_of(regularizer, ids_of(model))
    assert footprint(model) == before


def test_frozen_models_have_no_gradient():
    model = synthetic("GLA", "SA").requires_grad_(False)
    with pytest.raises(hf_ess.NotDifferentiableError, match="frozen"):
        term_of(hf_ess.HankelRegularizer(model), ids_of(model))


def test_calls_out_of_place():
    model = synthetic("GLA", "SA")
    regularizer = hf_ess.HankelRegularizer(model)
    with pytest.raises(hf_ess.InvalidInputError, match="context"):
        regularizer()
    with regularizer as penalty:
        with pytest.raises(hf_ess.InvalidInputError, match="did not run"):
            penalty()
        with pytest.raises(hf_ess.InvalidInputError, match="already"), penalty:
            pass
        model(ids_of(model))
        assert penalty().requires_grad
        with pytest.raises(hf_ess.InvalidInputError, match="did not run"):
            penalty()


def test_names():
    assert issubclass(hf_ess.TransitionRegularizer, Regularizer)


def cubed(module, query, key, value, mask, **options):
    """Attention whose output is another one than its adapter believes."""
    output, weights = eager_attention_forward(module, query, key, value, mask, **options)
    return output**3, weights


@pytest.fixture
def doubtful():
    AttentionInterface.register("cubed", cubed)
    model = build_tiny("llama")
    model.set_attn_implementation("cubed")
    yield model
    del AttentionInterface._global_mapping["cubed"]


def test_operators_that_do_not_rebuild_the_output(doubtful):
    for regularizer in (
        hf_ess.ESSRegularizer(doubtful, target=0.5),
        hf_ess.HankelRegularizer(doubtful),
    ):
        for _ in range(2):
            with pytest.raises(hf_ess.UnsupportedMixerError, match=r"does not rebuild.*residual"):
                term_of(regularizer, ids_of(doubtful))
    weightless = hf_ess.HankelRegularizer(doubtful, weight=0)
    assert term_of(weightless, ids_of(doubtful)).item() == 0


def test_dropout_changes_outputs_and_no_operator():
    model = build_tiny("gpt2")
    ids = ids_of(model)
    expected = term_of(hf_ess.HankelRegularizer(model.eval(), layers=[0]), ids)
    dropping = build_tiny("gpt2").train()
    dropping.transformer.drop.p = 0.0
    dropping.transformer.h[0].attn.attn_dropout.p = 0.5
    assert torch.equal(term_of(hf_ess.HankelRegularizer(dropping, layers=[0]), ids), expected)


SMALL = {"vocab_size": 32, "num_heads": 2, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1}
WIDTHS = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (
            lambda: BertForMaskedLM(BertConfig(vocab_size=32, num_hidden_layers=1, **WIDTHS)),
            hf_ess.UnsupportedMixerError,
            "not causal: weights on future tokens reach",
        ),
        (
            lambda: T5ForConditionalGeneration(T5Config(**SMALL)),
            hf_ess.UnsupportedModelError,
            "encoder-decoder",
        ),
    ],
)
def test_models_that_are_not_causal(build, error, words):
    model = build()
    with pytest.raises(error, match=words):
        term_of(hf_ess.HankelRegularizer(model), torch.arange(24)[None])


def test_transitions_that_no_weight_shapes():
    model = synthetic("LA")
    with pytest.raises(hf_ess.NotDifferentiableError, match="linear attention has A = I"):
        term_of(hf_ess.TransitionRegularizer(model), ids_of(model))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_operators_are_proved_once(monkeypatch, dropout: float):
    seen = []
    monkeypatch.setattr(proofs, "future_share", lambda _: seen.append("causal") or 0.0)
    monkeypatch.setattr(proofs, "why_unverified", lambda _: seen.append("rebuilt") or "")
    model = build_tiny("gpt2").train()
    model.config.attn_pdrop = dropout
    for block in model.transformer.h:
        block.attn.attn_dropout.p = block.attn.resid_dropout.p = dropout
    for _ in range(3):
        term_of(hf_ess.HankelRegularizer(model, layers=[0]), ids_of(model))
    assert seen == (["causal"] if dropout else ["causal", "rebuilt"])
    term_of(hf_ess.HankelRegularizer(model.eval(), layers=[0]), ids_of(model))
    assert seen.count("rebuilt") == 1
