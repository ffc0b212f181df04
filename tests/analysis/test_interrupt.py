"""Ctrl-C in the middle of an analysis keeps the layers that were complete."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.spectra import engine

analyze = partial(hf_ess.analyze, progress=False, positions=[3, 7])
LENGTH = 18


@pytest.fixture
def model():
    return build_tiny("llama", num_hidden_layers=4)


@pytest.fixture
def interrupt_in(model):
    """Presses Ctrl-C when a module begins its n-th run on a text of full length."""
    handles = []

    def install(name, nth_text=1):
        runs = [0]

        def press(_module, args, kwargs):
            features = args[0] if args else kwargs["hidden_states"]
            if features.shape[1] == LENGTH:
                runs[0] += 1
                if runs[0] == nth_text:
                    raise KeyboardInterrupt

        module = model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(press, with_kwargs=True))

    yield install
    for handle in handles:
        handle.remove()


def test_complete_layers_are_kept(model, interrupt_in, tmp_path):
    ids = tiny_input_ids(model, length=LENGTH)
    whole = analyze(model, ids)
    interrupt_in("model.layers.2.self_attn.q_proj")
    with pytest.raises(hf_ess.AnalysisInterrupted) as caught:
        analyze(model, ids)
    report = caught.value.report
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (report.complete, report.incomplete_reason) == (False, "interrupted")
    assert [layer.index for layer in report.layers] == [0, 1]
    for layer, expected in zip(report.layers, whole.layers[:2], strict=True):
        np.testing.assert_array_equal(layer.entropy_ess, expected.entropy_ess)
    assert "INCOMPLETE: interrupted" in report.summary()
    assert report.to_dict()["complete"] is False
    loaded = hf_ess.ESSReport.load(report.save(tmp_path / "kept"))
    assert (loaded.complete, loaded.incomplete_reason) == (False, "interrupted")
    assert loaded.fingerprint() == report.fingerprint()


def test_a_layer_counts_only_with_every_text(model, interrupt_in):
    interrupt_in("model.layers.1.mlp.up_proj", nth_text=2)
    with pytest.raises(hf_ess.AnalysisInterrupted) as caught:
        analyze(model, tiny_input_ids(model, batch=2, length=LENGTH))
    report = caught.value.report
    assert [layer.index for layer in report.layers] == [0, 1]
    assert not any(np.isnan(layer.entropy_ess).any() for layer in report.layers)


@pytest.mark.parametrize("nth_text", [1, 2])
def test_without_a_complete_layer_there_is_no_report(model, interrupt_in, nth_text):
    interrupt_in("model.layers.0.self_attn.q_proj", nth_text=nth_text)
    with pytest.raises(hf_ess.AnalysisInterrupted) as caught:
        analyze(model, tiny_input_ids(model, batch=2, length=LENGTH))
    assert caught.value.report is None


def test_an_interrupt_in_the_trial_has_no_report(model):
    handle = model.model.norm.register_forward_pre_hook(_press)
    with pytest.raises(hf_ess.AnalysisInterrupted) as caught:
        analyze(model, tiny_input_ids(model, length=LENGTH))
    handle.remove()
    assert caught.value.report is None


def _press(*_args):
    raise KeyboardInterrupt


def test_an_interrupt_among_the_spectra(model, monkeypatch):
    """Where Ctrl-C most likely arrives: while singular values are computed."""
    run_tasks, layers = engine.run_tasks, []

    def interrupted(*args):
        layers.append(1)
        run_tasks(*args)
        if len(layers) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run_tasks", interrupted)
    threads = torch.get_num_threads()
    with pytest.raises(hf_ess.AnalysisInterrupted) as caught:
        analyze(model, tiny_input_ids(model, length=LENGTH))
    assert [layer.index for layer in caught.value.report.layers] == [0, 1]
    assert torch.get_num_threads() == threads
