"""`watch_ess`: a training never notices it."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tiny_models import build_tiny
from torch import nn
from training.small_models import ids_of, state_of, synthetic

import hf_ess
from hf_ess.training import ESSWatch

TOLERANCES = (1e-1, 1e-3)
IDS = torch.arange(24)[None]


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


class Failure(Exception):  # noqa: N818 - not an error of the package
    """What a model raises in these tests."""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["llama", "mamba2"])
def test_everything_is_given_back(name, fails):
    model = build_tiny(name).train()
    model.get_input_embeddings().eval()  # a part that a user froze
    ids = ids_of(model)
    model(ids, labels=ids).loss.backward()
    watch = ESSWatch(model, ids)
    if fails:

        def fail(*_):
            raise Failure

        handle = list(model.modules())[-1].register_forward_hook(fail)
    before = state_of(model)
    with pytest.raises(Failure) if fails else nullcontext():
        watch.measure()
    assert state_of(model) == before
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
    ids = ids_of(model)
    expected = hf_ess.watch_ess(model, ids)
    model.activation_checkpointing_enable()
    assert hf_ess.watch_ess(model.train(), ids) == expected
    assert model.is_activation_checkpointing


@pytest.mark.parametrize("how", ["a wrapper", "in place"])
def test_a_compiled_model(how):
    model = build_tiny("llama")
    ids = ids_of(model)
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
