"""ESSCallback: what it says in words, and what ends a training."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from recording_checks import footprint
from tiny_models import build_tiny
from training.small_models import synthetic
from training.trainings import LENGTH, logged, texts, trainer_for
from training.watched_trainings import ENTROPY, PROBE, At, scaled, silent
from transformers import TrainerControl, TrainerState

import hf_ess
from hf_ess.training import Thresholds
from hf_ess.training.callback import ESSCallback


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"every": 0}, hf_ess.InvalidInputError, "at least 1"),
        ({"every": 1.5}, hf_ess.InvalidTypeError, "every must be a whole number"),
        ({"every": True}, hf_ess.InvalidTypeError, "every must be a whole number"),
        ({"every": "often"}, hf_ess.InvalidTypeError, "auto"),
        ({"share": 0}, hf_ess.InvalidInputError, "above 0"),
        ({"share": 1.5}, hf_ess.InvalidInputError, "at most 1"),
        ({"share": "half"}, hf_ess.InvalidTypeError, "share"),
        ({"tolerances": []}, hf_ess.InvalidInputError, "tolerance"),
        ({"layers": []}, hf_ess.InvalidInputError, "layers"),
        ({"prefix": ""}, hf_ess.InvalidTypeError, "prefix"),
    ],
)
def test_arguments_are_checked_at_once(arguments, error, words):
    with pytest.raises(error, match=words):
        ESSCallback(PROBE, **arguments)


# What is said


def warned(trainer):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    assert all(one.category is hf_ess.TrainingWatchWarning for one in caught)
    return [str(one.message) for one in caught]


def test_a_collapse_is_said_once(tmp_path):
    callback = ESSCallback(PROBE, every=1)
    model = synthetic("LA", "SA")
    words = warned(trainer_for(model, tmp_path, At(2, scaled(1e-3)), callback, learning_rate=0.0))
    full, collapsed = words
    assert "layers.0.mixer" in full
    assert "saturated" in full
    assert "layers.0.mixer" in collapsed
    assert "collapse" in collapsed
    assert "fallen from" in collapsed
    assert len(callback.history[-1][1].noted) == 1


def test_an_untrained_model_is_neither_collapsed_nor_saturated(tmp_path):
    callback = ESSCallback(PROBE, every=1)
    assert warned(trainer_for(synthetic("LA"), tmp_path, callback, max_steps=1)) != []
    model = synthetic("LA")
    stopped = At(1, scaled(0.03))
    callback = ESSCallback(PROBE, every=100, thresholds=Thresholds(saturation=0.8, collapse=0))
    assert warned(trainer_for(model, tmp_path, stopped, callback, max_steps=1)) == []
    assert callback.history[0][1].noted[0].kind == "saturation"


def test_nothing_is_said_where_it_is_not_wanted(tmp_path):
    callback = ESSCallback(PROBE, every=1, warn=False)
    assert warned(trainer_for(synthetic("LA"), tmp_path, callback)) == []
    assert callback.history[-1][1].remarks


# What goes wrong


def broken_training(tmp_path, **options):
    model = synthetic("GLA", "SA")
    callback = silent(every=1, **options)
    return trainer_for(model, tmp_path, At(2, scaled(torch.nan)), callback), callback


def test_a_training_that_diverges_goes_on_without_values(tmp_path):
    trainer, callback = broken_training(tmp_path, warn=False)
    (words,) = warned(trainer)
    assert "not measured at step 2" in words
    assert "NaN" in words
    assert trainer.state.global_step == 4
    assert [step for step, _ in logged(trainer, ENTROPY)] == [0, 1]
    assert [step for step, _ in callback.history] == [0, 1]


def test_a_strict_callback_ends_it(tmp_path):
    trainer, _ = broken_training(tmp_path, strict=True)
    before = footprint(trainer.model)
    with pytest.raises(hf_ess.NonFiniteError):
        trainer.train()
    assert footprint(trainer.model) == before
    assert trainer.model.training


@pytest.mark.parametrize(
    ("probe", "error", "words"),
    [
        ("a text", hf_ess.InvalidTypeError, "tokenizer"),
        (texts(1, length=1), hf_ess.InvalidInputError, "past and a future"),
        (texts(1, length=64), hf_ess.InvalidInputError, "too long"),
        (torch.full((1, 8), 10**6), hf_ess.InvalidInputError, "the model knows"),
    ],
)
def test_a_bad_probe_ends_it_before_the_first_step(probe, error, words, tmp_path):
    model = build_tiny("gpt2", n_positions=32)
    before = [weight.detach().clone() for weight in model.parameters()]
    trainer = trainer_for(model, tmp_path, ESSCallback(probe))
    with pytest.raises(error, match=words):
        trainer.train()
    assert trainer.state.global_step == 0
    for weight, same in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, same)


@pytest.mark.parametrize("probe", ["", [], 7])
def test_an_empty_probe_is_no_callback(probe):
    with pytest.raises(hf_ess.HfEssError):
        ESSCallback(probe)


def test_a_model_without_known_mixers(tmp_path):
    model = SimpleNamespace()
    with pytest.raises(hf_ess.InvalidTypeError, match="SimpleNamespace"):
        silent().on_train_begin(None, TrainerState(), TrainerControl(), model=model)
    assert PROBE.shape[1] == LENGTH
