"""`on_progress` is told of every layer, and what it raises ends the analysis cleanly."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from analysis.model_state import state_of
from tiny_models import build_tiny, tiny_input_ids
from transformers import BatchEncoding

import hf_ess

LENGTH = 23


class Enough(Exception):  # noqa: N818 - not an error of the package
    """What a caller raises who has seen enough."""


class StopsAfter:
    """Raises after so many layers."""

    def __init__(self, layers, error):
        self.layers = layers
        self.error = error

    def __call__(self, progress):
        if progress.done == self.layers:
            raise self.error


def test_every_layer_of_every_text_is_told_in_order():
    model = build_tiny("llama", num_hidden_layers=3)
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    seen = []
    report = hf_ess.analyze(model, ids, progress=False, on_progress=seen.append)
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert {progress.total for progress in seen} == {6}
    assert [progress.text for progress in seen] == [0, 0, 0, 1, 1, 1]
    assert [progress.layer for progress in seen] == [layer.name for layer in report.layers] * 2
    seconds = [progress.seconds for progress in seen]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_texts_that_run_together_are_told_once():
    model = build_tiny("llama")
    ids = tiny_input_ids(model, batch=3, length=LENGTH)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    seen = []
    texts = BatchEncoding({"input_ids": ids, "attention_mask": mask})
    hf_ess.analyze(model, texts, batch_size=2, progress=False, on_progress=seen.append)
    assert [(progress.text, progress.done) for progress in seen] == [(0, 1), (0, 2), (1, 3), (1, 4)]


def test_only_chosen_layers_count():
    model = build_tiny("llama", num_hidden_layers=3)
    seen = []
    ids = tiny_input_ids(model, length=LENGTH)
    hf_ess.analyze(model, ids, layers=[2], progress=False, on_progress=seen.append)
    assert [(p.done, p.total, p.layer) for p in seen] == [(1, 1, "model.layers.2.self_attn")]


def test_the_report_is_the_same():
    model = build_tiny("llama")
    ids = tiny_input_ids(model, length=LENGTH)
    told = hf_ess.analyze(model, ids, progress=False, on_progress=lambda _: None)
    assert told.fingerprint() == hf_ess.analyze(model, ids, progress=False).fingerprint()


@pytest.mark.parametrize(
    "error",
    [
        Enough("enough"),
        ValueError("of the caller"),
        RuntimeError("of the caller"),
        hf_ess.NonFiniteError("of the caller"),
        hf_ess.UnsupportedMixerError("of the caller"),
        StopIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("model_type", ["llama", "bloom", "mamba", "jamba"])
def test_an_exception_ends_the_run_and_restores_the_model(model_type, error):
    model = build_tiny(model_type).train()
    # A text longer than the model was made for: what the model raises then is explained.
    model.config.max_position_embeddings = 8
    ids = tiny_input_ids(model, length=LENGTH)
    before = state_of(model)
    with pytest.warns(UserWarning, match="training mode"), pytest.raises(type(error)) as caught:
        hf_ess.analyze(model, ids, progress=False, on_progress=StopsAfter(1, error))
    assert caught.value is error
    assert error.__cause__ is None
    assert state_of(model) == before
    report = hf_ess.analyze(model.eval(), ids, progress=False)
    assert len(report.verified_layers) == 2


def test_a_cause_that_the_caller_gave_is_kept():
    model = build_tiny("llama")
    cause = KeyError("cause")

    def stop(_):
        raise Enough from cause

    with pytest.raises(Enough) as caught:
        hf_ess.analyze(model, tiny_input_ids(model), progress=False, on_progress=stop)
    assert caught.value.__cause__ is cause


def test_an_interrupt_in_it_is_an_interrupt():
    model = build_tiny("llama", num_hidden_layers=3)
    with pytest.raises(hf_ess.AnalysisInterrupted) as caught:
        hf_ess.analyze(
            model,
            tiny_input_ids(model),
            progress=False,
            on_progress=StopsAfter(2, KeyboardInterrupt()),
        )
    assert len(caught.value.report.layers) == 2


def test_nothing_keeps_the_model_alive_after_an_exception():
    model = build_tiny("llama")
    error = Enough()
    gc.disable()
    try:
        with pytest.raises(Enough):
            hf_ess.analyze(
                model, tiny_input_ids(model), progress=False, on_progress=StopsAfter(1, error)
            )
        error.__traceback__ = None
        alive = weakref.ref(model.model.layers[0])
        del model
        gc.collect()
    finally:
        gc.enable()
    assert alive() is None


def test_something_else_is_refused_before_anything_runs():
    with pytest.raises(hf_ess.InvalidTypeError, match="on_progress must be callable"):
        hf_ess.analyze("no such model", "text", on_progress="loudly")
