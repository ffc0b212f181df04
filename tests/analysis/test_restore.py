"""An analysis leaves the model and every setting as it found them, also when it fails."""

from __future__ import annotations

import gc
import random
import warnings
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from analysis.model_state import state_of
from tiny_models import build_tiny, tiny_input_ids

import hf_ess

analyze = partial(hf_ess.analyze, progress=False)


class Failure(Exception):  # noqa: N818 - not an error of the package
    """What a model raises in these tests."""


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _fail_in(model, name, error, *, length):
    """Lets a module raise on texts of this length, that is not in the short trial."""

    def fail(_module, args, kwargs):
        features = next(x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))
        if features.shape[1] == length:
            raise error

    return model.get_submodule(name).register_forward_pre_hook(fail, with_kwargs=True)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("model_type", ["llama", "bloom"])
def test_after_a_success(model_type):
    model = build_tiny(model_type)
    ids = tiny_input_ids(model)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    before = state_of(model)
    report = analyze(model, ids)
    assert state_of(model) == before
    assert len(report.verified_layers) == 2
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, logits)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("length", [13, 23], ids=["in the trial", "in the analysis"])
@pytest.mark.parametrize("error", [Failure("failed"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("model_type", ["llama", "bloom"])
def test_after_a_failure(model_type, error, length):
    model = build_tiny(model_type)
    norms = [name for name, module in model.named_modules() if "norm" in name.lower()]
    handle = _fail_in(model, norms[-1], error, length=length)
    before = state_of(model)
    with pytest.raises((Failure, hf_ess.AnalysisInterrupted)):
        analyze(model, tiny_input_ids(model, length=23))
    assert state_of(model) == before
    handle.remove()
    assert len(analyze(model, tiny_input_ids(model, length=23)).verified_layers) == 2


def test_after_bad_weights():
    model = build_tiny("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(torch.nan)
    model.train()
    before = state_of(model)
    with (
        pytest.warns(UserWarning, match="training mode"),
        pytest.raises(hf_ess.NonFiniteError),
    ):
        analyze(model, tiny_input_ids(model))
    assert state_of(model) == before


def test_training_flags_come_back_module_by_module():
    model = build_tiny("llama", attention_dropout=0.5).train()
    frozen = {"model.layers.0", "model.layers.1.self_attn.q_proj", "model.norm"}
    for name in frozen:
        model.get_submodule(name).training = False
    before = state_of(model)
    with pytest.warns(UserWarning, match="was in training mode") as told:
        report = analyze(model, tiny_input_ids(model))
    assert state_of(model) == before
    assert {n for n, m in model.named_modules() if not m.training} == frozen
    assert len(told) == 1
    assert report.warnings == [str(told[0].message)]
    assert f"Warning: {told[0].message}" in report.summary(width=200)
    reference = analyze(model.eval(), tiny_input_ids(model))
    assert report.average_ess() == reference.average_ess()


def test_a_warning_that_is_an_error_restores_too():
    model = build_tiny("llama").train()
    before = state_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="training mode"):
            analyze(model, tiny_input_ids(model))
    assert state_of(model) == before


def test_works_in_inference_mode_and_with_gradients_on():
    model = build_tiny("llama")
    ids = tiny_input_ids(model)
    with torch.inference_mode():
        first = analyze(model, ids)
    with torch.enable_grad():
        second = analyze(model, ids)
        assert torch.is_grad_enabled()
    assert first.fingerprint() == second.fingerprint()
    assert all(weight.grad is None for weight in model.parameters())


def _throws_dice(_module, _args):
    random.random(), np.random.random(), torch.rand(2)  # noqa: NPY002 - the global ones


def _dice():
    of_numpy = repr(np.random.get_state())  # noqa: NPY002 - the global one
    return random.getstate(), of_numpy, torch.get_rng_state().tolist()


def test_dice_that_a_model_throws_do_not_move_those_of_the_user():
    model = build_tiny("llama")
    handle = model.model.register_forward_pre_hook(_throws_dice)
    before = _dice()
    analyze(model, tiny_input_ids(model))
    assert _dice() == before
    handle.remove()


def test_hooks_of_the_user_stay_and_run():
    model = build_tiny("llama")
    seen = []
    handle = model.model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    analyze(model, tiny_input_ids(model))
    ran = len(seen)
    assert ran > 0
    with torch.no_grad():
        model(input_ids=tiny_input_ids(model))
    assert len(seen) == ran + 1
    handle.remove()


def test_nothing_keeps_the_model_alive():
    model = build_tiny("llama")
    report = analyze(model, tiny_input_ids(model))
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert len(report.layers) == 2
