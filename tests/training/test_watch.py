"""`watch_ess`: its numbers, and that a training never notices it."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from analysis import slow_oracle
from analysis.handmade import Decoder, InlineAttention, Lstm, RunningMean
from analysis.test_wrong_adapter import RunningMeanAdapter, WrongAdapter
from recording_checks import footprint
from tiny_models import build_tiny, tiny_input_ids
from torch import nn
from training.small_models import LENGTH, ids_of, synthetic

import hf_ess
from hf_ess.training import ESSWatch
from model_adapters import unregister_adapter

TOLERANCES = (1e-1, 1e-3)
IDS = torch.arange(24)[None]


def probe_of(model, *, batch=2, length=LENGTH):
    return tiny_input_ids(model, batch=batch, length=length)


# Values


def test_values_against_one_svd_per_block():
    model = build_tiny("llama").double()
    ids = probe_of(model)
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
    rows = [probe_of(model, batch=1, length=length)[0].tolist() for length in (LENGTH, 10)]
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
    metrics = hf_ess.watch_ess(model, probe_of(model)).metrics()
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


# The training does not notice


def _losses(build, watched, *, steps=4, autocast=False, accumulate=1):
    """Losses and weights of a training with dropout, watched between its steps and within."""
    torch.manual_seed(0)
    model = build().train()
    ids = ids_of(model)
    watch = ESSWatch(model, ids) if watched else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        context = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
        with context:
            for _ in range(accumulate):
                if watch is not None:
                    watch.measure()
                loss = model(ids, labels=ids).loss
                loss.backward()
                losses.append(loss.item())
        optimizer.step()
    return losses, [weight.detach().clone() for weight in model.parameters()]


def _with_dropout(name):
    return build_tiny(name, attention_dropout=0.3)


def _assert_same(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon_mamba", "qwen3_next"])
def test_losses_and_weights_are_the_same_to_the_bit(name):
    build = partial(_with_dropout, name) if name != "gpt2" else partial(build_tiny, name)
    _assert_same(_losses(build, False), _losses(build, True))


def test_dropout_is_on_in_that_training():
    model = build_tiny("gpt2").train()
    ids = ids_of(model)
    assert not torch.equal(model(ids).logits, model(ids).logits)


def test_within_autocast_weights_keep_their_gradients():
    build = partial(synthetic, "GLA", "SA")
    plain, watched = (_losses(build, watched, autocast=True) for watched in (False, True))
    _assert_same(plain, watched)
    _assert_same(plain, _losses(build, False, autocast=True))
    assert plain[0] != _losses(build, False)[0]


def test_autocast_is_what_is_measured():
    model = synthetic("GLA", "SA")
    ids = ids_of(model)
    exact = hf_ess.watch_ess(model, ids)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = hf_ess.watch_ess(model, ids)
    assert len(rounded.layers) == 2
    for layer, other in zip(exact.layers, rounded.layers, strict=True):
        assert layer.entropy_ess != other.entropy_ess
        assert layer.entropy_ess == pytest.approx(other.entropy_ess, rel=0.05)


def _state_of(model):
    return (
        footprint(model),
        {name: module.training for name, module in model.named_modules()},
        {name: set(vars(module)) for name, module in model.named_modules()},
        {name: (id(buffer), buffer.tolist()) for name, buffer in model.named_buffers()},
        {name: id(weight.grad) for name, weight in model.named_parameters()},
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )


class Failure(Exception):  # noqa: N818 - not an error of the package
    """What a model raises in these tests."""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["llama", "mamba2"])
def test_everything_is_given_back(name, fails):
    model = build_tiny(name).train()
    model.get_input_embeddings().eval()  # a part that a user froze
    ids = probe_of(model)
    model(ids, labels=ids).loss.backward()
    watch = ESSWatch(model, ids)
    if fails:

        def fail(*_):
            raise Failure

        handle = list(model.modules())[-1].register_forward_hook(fail)
    before = _state_of(model)
    with pytest.raises(Failure) if fails else nullcontext():
        watch.measure()
    assert _state_of(model) == before
    if fails:
        handle.remove()
    assert watch.measure().layers


class _Moody(nn.Module):
    """Draws random numbers, counts, and exchanges a part of itself even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("table", torch.zeros(2))
        self.part = nn.Identity()
        self.longest = 0

    def forward(self, features):
        self.seen += torch.rand(1)
        self.table = torch.ones(features.shape[1])
        self.part = nn.Identity()
        self.longest = features.shape[1]
        self.note = "new"
        return features


def test_models_that_remember_forget_the_probe():
    model = synthetic("GLA", "SA")
    model.layers[0].add_module("moody", _Moody())
    moody = model.layers[0].moody

    def remember(*_):
        moody(torch.zeros(1, 5))

    handle = model.layers[1].register_forward_pre_hook(remember)
    torch.manual_seed(3)
    expected, table, part = torch.rand(2), moody.table, moody.part
    torch.manual_seed(3)
    hf_ess.watch_ess(model.train(), ids_of(model))
    assert torch.equal(torch.rand(2), expected)
    assert moody.seen.item() == 0
    assert moody.table is table
    assert moody.part is part
    assert moody.longest == 0
    assert not hasattr(moody, "note")
    handle.remove()


def test_within_an_open_regularizer():
    model = synthetic("GLA", "SA").train()
    ids = ids_of(model)
    terms = []
    for watched in (False, True):
        with hf_ess.ESSRegularizer(model, target=0.5) as penalty:
            model(ids)
            if watched:
                hf_ess.watch_ess(model, ids[:1])
            terms.append(penalty())
            if watched:
                hf_ess.watch_ess(model, ids[:1])
                with pytest.raises(hf_ess.InvalidInputError, match="did not run"):
                    penalty()
    assert terms[0].item() == terms[1].item()
    assert terms[1].requires_grad


def test_activation_checkpointing():
    model = build_tiny("llama")
    ids = probe_of(model)
    expected = hf_ess.watch_ess(model, ids)
    model.activation_checkpointing_enable()
    assert hf_ess.watch_ess(model.train(), ids) == expected
    assert model.is_activation_checkpointing


@pytest.mark.parametrize("how", ["a wrapper", "in place"])
def test_a_compiled_model(how):
    model = build_tiny("llama")
    ids = probe_of(model)
    expected = hf_ess.watch_ess(model, ids)
    ran = []

    def backend(graph, _inputs):
        ran.append(graph)
        return graph.forward

    if how == "in place":
        model.compile(backend=backend)
        compiled = model
    else:
        compiled = torch.compile(model, backend=backend)
    logits = compiled(ids, use_cache=False).logits
    graphs = len(ran)
    assert hf_ess.watch_ess(compiled, ids) == expected
    assert torch.equal(compiled(ids, use_cache=False).logits, logits)
    assert len(ran) == graphs > 0
    torch.compiler.reset()


def test_a_model_in_data_parallel():
    model = synthetic("GLA")
    ids = ids_of(model)
    assert hf_ess.watch_ess(nn.DataParallel(model), ids) == hf_ess.watch_ess(model, ids)


def test_weights_spread_over_processes_are_refused():
    model = synthetic("GLA")
    next(model.parameters()).ds_id = 0  # as DeepSpeed marks them
    with pytest.raises(hf_ess.UnsupportedModelError, match="DeepSpeed"):
        hf_ess.watch_ess(model, ids_of(model))


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
    before = _state_of(model)
    with pytest.raises(error, match=words):
        hf_ess.watch_ess(model, probe)
    assert _state_of(model) == before


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
        hf_ess.watch_ess(model, probe_of(model, length=64))


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
