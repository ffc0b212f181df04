"""Exceptions in the middle of an analysis, around and in what is watched, in many families."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from analysis.model_state import state_of
from recording_checks import footprint
from tiny_models import build_tiny, tiny_input_ids
from transformers import AttentionInterface

import hf_ess
from hf_ess.synthetics import SyntheticConfig, build_model

analyze = partial(hf_ess.analyze, progress=False, positions=[3, 8])
LENGTH = 19


def _synthetic():
    return build_model(SyntheticConfig(["GLA", "SA"], vocab_size=64, hidden_size=16)).eval()


FAMILIES = {
    **{name: partial(build_tiny, name) for name in ("llama", "bloom", "mamba", "qwen3_next")},
    "synthetic": _synthetic,
}


class Failure(Exception):  # noqa: N818 - not an error of the package
    """What a layer raises."""


def _raiser(error):
    def fail(_module, args, kwargs, *_result):
        features = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        if any(LENGTH in x.shape[1:-1] for x in features):
            raise error

    return fail


def _mixers(model, ids):
    names = []
    with hf_ess.record_operators(model, lambda layer: names.append(layer.name)), torch.no_grad():
        model(input_ids=ids)
    return names


def _install(model, mixer, place, error):
    module, fail = model.get_submodule(mixer), _raiser(error)
    if place == "before":
        return module.register_forward_pre_hook(fail, with_kwargs=True)
    if place == "after":
        return module.register_forward_hook(fail, with_kwargs=True)
    parts = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    return (parts[-1] if parts else module).register_forward_hook(fail, with_kwargs=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_raises(family, tried):
    model = FAMILIES[family]()
    ids = tiny_input_ids(model, length=LENGTH)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    expected = analyze(model, ids).fingerprint()
    mixers, before = _mixers(model, ids), (state_of(model), footprint(model))
    cases = [(mixer, place) for mixer in mixers for place in ("before", "inside", "after")]
    for number, (mixer, place) in enumerate(cases):
        error = (Failure, KeyboardInterrupt, SystemExit)[number % 3]("in a layer")
        handle = _install(model, mixer, place, error)
        with pytest.raises((Failure, KeyboardInterrupt, SystemExit)) as caught:
            analyze(model, ids)
        handle.remove()
        interrupted = isinstance(error, KeyboardInterrupt)
        assert isinstance(caught.value, hf_ess.AnalysisInterrupted) or not interrupted
        assert caught.value is error or interrupted
        assert (state_of(model), footprint(model)) == before
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, logits)
    assert analyze(model, ids).fingerprint() == expected
    tried(
        "Faults",
        "A layer raises before, inside or after its mixer (an error, Ctrl-C, sys.exit), in "
        f"{len(FAMILIES)} families of models",
        "The exception reaches the caller; no hook or replaced function is left; logits and the "
        "next analysis are the same to the bit",
        times=len(cases),
    )


def test_the_watched_function_raises(monkeypatch, tried):
    model = build_tiny("llama")
    ids = tiny_input_ids(model, length=LENGTH)
    expected = analyze(model, ids).fingerprint()
    attention = AttentionInterface._global_mapping["sdpa"]

    def fail(module, query, *args, **kwargs):
        if query.shape[-2] == LENGTH:
            raise Failure
        return attention(module, query, *args, **kwargs)

    before = footprint(model)
    with monkeypatch.context() as patch:
        patch.setitem(AttentionInterface._global_mapping, "sdpa", fail)
        with pytest.raises(Failure):
            analyze(model, ids)
    assert footprint(model) == before
    assert analyze(model, ids).fingerprint() == expected
    tried(
        "Faults",
        "The attention function itself raises",
        "The exception reaches the caller; the next analysis is the same to the bit",
    )
