"""`watch_ess`: its numbers, and what it refuses."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from analysis import slow_oracle
from analysis.handmade import Decoder, InlineAttention, Lstm, RunningMean
from analysis.test_wrong_adapter import RunningMeanAdapter, WrongAdapter
from recording_checks import footprint
from tiny_models import build_tiny
from training.small_models import LENGTH, ids_of, state_of, synthetic

import hf_ess
from hf_ess.training import ESSWatch
from model_adapters import unregister_adapter

TOLERANCES = (1e-1, 1e-3)
IDS = torch.arange(24)[None]


# Values


def test_values_against_one_svd_per_block():
    model = build_tiny("llama").double()
    ids = ids_of(model)
    snapshot = hf_ess.watch_ess(model, ids, tolerances=TOLERANCES)
    positions = [5, 10, 14, 19]
    assert snapshot.positions == tuple(positions)
    samples = [slow_oracle.llama_operators(model, row) for row in ids]
    entropies = slow_oracle.ess_table(samples, positions, slow_oracle.entropy)
    shares = [np.array(table) / positions for table in entropies]
    for layer, table, share in zip(snapshot.layers, entropies, shares, strict=True):
        assert layer.entropy_ess == pytest.approx(slow_oracle.average([table]), abs=1e-8)
        assert layer.utilization == pytest.approx(share.mean(), abs=1e-8)
        assert layer.attainable == np.mean([5, 10, 10, 5])
        assert layer.residual < 1e-12
        assert layer.entropy_half_width == 0
    assert snapshot.average_ess() == pytest.approx(slow_oracle.average(entropies), abs=1e-8)
    for tau in TOLERANCES:
        counts = slow_oracle.ess_table(
            samples, positions, partial(slow_oracle.count, tolerance=tau)
        )
        for layer, table in zip(snapshot.layers, counts, strict=True):
            assert layer.tolerance_ess[tau] == pytest.approx(slow_oracle.average([table]))
            filled = (np.array(table) / positions).mean()
            assert layer.tolerance_utilization[tau] == pytest.approx(filled)
            assert layer.undecided[tau] == 0
        assert snapshot.average_ess(tau) == pytest.approx(slow_oracle.average(counts))


@pytest.mark.parametrize("mixers", [("GLA", "SA"), ("Mamba", "Hyena"), ("LA", "WLA")])
def test_values_are_those_of_an_analysis(mixers):
    model = synthetic(*mixers)
    ids = ids_of(model)
    snapshot = hf_ess.watch_ess(model.train(), ids, positions=[4, 12])
    report = hf_ess.analyze(model.eval(), ids, positions=[4, 12], progress=False, batch_size=2)
    for layer, same in zip(snapshot.layers, report.layers, strict=True):
        assert (layer.name, layer.mixer, layer.state_size) == (
            same.name,
            same.mixer,
            same.state_size,
        )
        assert layer.entropy_ess == pytest.approx(same.entropy_ess.mean(), rel=1e-12)
        for tau in same.tolerances:
            assert layer.tolerance_ess[tau] == pytest.approx(same.tolerance_ess[tau].mean())
    assert snapshot.average_ess() == pytest.approx(report.average_ess(), rel=1e-12)


def test_texts_of_several_lengths_share_their_positions():
    model = synthetic("GLA")
    rows = [ids_of(model, batch=1, length=length)[0].tolist() for length in (LENGTH, 10)]
    snapshot = hf_ess.watch_ess(model, {"input_ids": rows})
    assert snapshot.positions == (2, 4, 6, 8)
    alone = [hf_ess.watch_ess(model, torch.tensor([row]), positions=(2, 4, 6, 8)) for row in rows]
    mean = np.mean([one.layers[0].entropy_ess for one in alone])
    assert snapshot.layers[0].entropy_ess == pytest.approx(mean, rel=1e-6)


def test_metrics_are_flat_and_finite():
    model = synthetic("GLA", "SA")
    snapshot = hf_ess.watch_ess(model, ids_of(model), tolerances=(1e-1, 1e-3))
    metrics = snapshot.metrics()
    assert metrics["ess/layer_1/entropy"] == snapshot.layers[1].entropy_ess
    assert metrics["ess/layer_0/tolerance_0.001"] == snapshot.layers[0].tolerance_ess[1e-3]
    assert metrics["ess/layer_0/utilization"] == snapshot.layers[0].utilization
    assert metrics["ess/entropy"] == snapshot.average_ess()
    assert len(metrics) == 3 + 2 * 4
    assert all(type(value) is float and np.isfinite(value) for value in metrics.values())
    assert {name.split("/")[0] for name in snapshot.metrics("probe")} == {"probe"}


def test_two_mixers_in_one_layer_keep_their_names():
    model = build_tiny("falcon_h1")
    metrics = hf_ess.watch_ess(model, ids_of(model)).metrics()
    names = {name.split("/")[1] for name in metrics if name.count("/") == 2}
    assert {"model.layers.0.mamba", "model.layers.0.self_attn"} <= names


def test_only_the_chosen_layers():
    model = synthetic("GLA", "SA")
    (layer,) = hf_ess.watch_ess(model, ids_of(model), layers=[1]).layers
    assert layer.index == 1


# What cannot be trusted has no number


@pytest.fixture
def register():
    registered = []

    def one(adapter):
        hf_ess.register_adapter(adapter)
        registered.append(adapter)

    yield one
    for adapter in registered:
        unregister_adapter(adapter.mixer)


def test_a_right_adapter_of_a_user_is_measured(register):
    register(RunningMeanAdapter)
    mean, _ = hf_ess.watch_ess(Decoder(RunningMean, InlineAttention), IDS).layers
    assert mean.mixer == RunningMeanAdapter.mixer
    assert mean.tolerance_ess[1e-3] == 1


def test_an_unverified_layer_has_no_number(register):
    register(WrongAdapter)
    snapshot = hf_ess.watch_ess(Decoder(RunningMean, InlineAttention), IDS)
    assert [layer.name for layer in snapshot.unverified] == ["layers.0.mixer"]
    assert [layer.name for layer in snapshot.layers] == ["layers.1.mixer"]
    assert not any("layer_0" in name for name in snapshot.metrics())
    assert snapshot.average_ess() == snapshot.layers[0].entropy_ess
    (words,) = snapshot.remarks
    assert "layers.0.mixer" in words
    assert "not verified" in words
    assert "the rebuilt output differs" in words


def test_where_nothing_is_verified_there_are_no_numbers(register):
    register(WrongAdapter)
    snapshot = hf_ess.watch_ess(Decoder(RunningMean), IDS)
    assert snapshot.layers == ()
    assert snapshot.metrics() == {}
    assert np.isnan(snapshot.average_ess())


def test_an_unknown_mixer_is_named_every_time():
    watch = ESSWatch(Decoder(Lstm, InlineAttention), IDS)
    for snapshot in (watch.measure(), watch.measure()):
        assert [layer.name for layer in snapshot.unsupported] == ["layers.0.mixer.cell"]
        assert [layer.name for layer in snapshot.layers] == ["layers.1.mixer"]
        assert "was not measured" in snapshot.remarks[0]


# Bad input


@pytest.mark.parametrize(
    ("probe", "error", "words"),
    [
        ("a text", hf_ess.InvalidTypeError, "tokenizer"),
        ([], hf_ess.InvalidInputError, "no text"),
        ("", hf_ess.InvalidInputError, "empty"),
        (torch.zeros(1, 1, dtype=torch.long), hf_ess.InvalidInputError, "past and a future"),
        (torch.zeros(0, 8, dtype=torch.long), hf_ess.InvalidInputError, r"\[B, L\]"),
        (torch.zeros(1, 8), hf_ess.InvalidTypeError, "integers"),
        (torch.full((1, 8), 32), hf_ess.InvalidInputError, "the model knows 0..31"),
        (7, hf_ess.InvalidTypeError, "inputs of type int"),
    ],
)
def test_bad_probes(probe, error, words):
    model = synthetic("GLA").train()
    before = state_of(model)
    with pytest.raises(error, match=words):
        hf_ess.watch_ess(model, probe)
    assert state_of(model) == before


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"layers": [7]}, hf_ess.InvalidInputError),
        ({"layers": []}, hf_ess.InvalidInputError),
        ({"tolerances": []}, hf_ess.InvalidInputError),
        ({"tolerances": [-1.0]}, hf_ess.InvalidInputError),
        ({"positions": [LENGTH]}, hf_ess.InvalidInputError),
        ({"positions": "some"}, hf_ess.InvalidInputError),
    ],
)
def test_bad_arguments(arguments, error):
    model = synthetic("GLA")
    with pytest.raises(error):
        hf_ess.watch_ess(model, ids_of(model), **arguments)


def test_no_model_and_no_mixer():
    with pytest.raises(hf_ess.InvalidTypeError):
        hf_ess.watch_ess("a name", torch.arange(24)[None])
    with pytest.raises(hf_ess.UnsupportedModelError):
        hf_ess.watch_ess(Decoder(Lstm), IDS)


def test_a_text_that_is_too_long():
    model = build_tiny("gpt2", n_positions=32)
    with pytest.raises(hf_ess.InvalidInputError, match="too long"):
        hf_ess.watch_ess(model, ids_of(model, length=64))


def test_a_training_that_diverged():
    model = synthetic("GLA").train()
    watch = ESSWatch(model, ids_of(model))
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    before = footprint(model)
    with pytest.raises(hf_ess.NonFiniteError):
        watch.measure()
    assert footprint(model) == before
    assert model.training
