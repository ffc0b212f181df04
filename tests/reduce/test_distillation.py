"""Distillation of layers: losses against dense operators, what is kept, what composes."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import hf_ess
from hf_ess.reduce import distill, distill_all, smaller_layer, truncate
from hf_ess.synthetics import SyntheticConfig, build_model

QUICK = {"operator_steps": 3, "activation_steps": 4, "progress": False}
IDS = torch.randint(32, (10, 20), generator=torch.Generator().manual_seed(0))


def synthetic(*mixers, seed=0, **config):
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_attention_heads": 2, "state_size": 6}
    return build_model(SyntheticConfig(mixers, **sizes | config), seed=seed)


def weights_of(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def same(one, other) -> bool:
    pairs = zip(one.items(), other.items(), strict=True)
    return all(name == name2 and torch.equal(a, b) for (name, a), (name2, b) in pairs)


@torch.no_grad()
def inputs_of(model, name, ids):
    """What the layer gets in the model."""
    seen = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, a: seen.append(a[0]))
    model(ids)
    handle.remove()
    return seen[0]


@torch.no_grad()
def dense_of(layer, hidden):
    found = []
    with hf_ess.record_operators(torch.nn.Sequential(layer).eval(), found.append):
        layer(hidden)
    return found[0].operator.to_dense()


def relative(student, teacher, axes):
    """The mean of relative squared distances, in float64."""
    difference = (student - teacher).double().square().sum(axes)
    return float((difference / teacher.double().square().sum(axes)).mean())


@pytest.mark.parametrize("mixer", ["GLA", "LA", "WLA", "S6", "Mamba"])
def test_losses_begin_at_those_of_dense_operators(mixer) -> None:
    model = synthetic("SA", mixer).double()
    student = smaller_layer(model, 1, 2, seed=5)
    found = distill(model, 1, student, IDS, batch_size=16, held_out=4, **QUICK).layers[0]
    teacher, hidden = model.layers[1].mixer, inputs_of(model, "layers.1.mixer", IDS)
    with torch.no_grad():
        operators = [dense_of(layer, hidden) for layer in (student, teacher)]
        outputs = [layer(hidden) for layer in (student, teacher)]
    training, held = slice(0, 6), slice(6, 10)
    expected = relative(*(x[training] for x in operators), (-2, -1))
    assert found.operator_losses[0] == pytest.approx(expected, rel=1e-8)
    expected = relative(*(x[held] for x in operators), (-2, -1))
    assert found.before.operator == pytest.approx(expected, rel=1e-8)
    expected = relative(*(x[held] for x in outputs), (-2, -1))
    assert found.before.activation == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("mixer", ["GLA", "S6"])
def test_the_first_phase_follows_a_plain_loop_on_dense_operators(mixer) -> None:
    model = synthetic(mixer).double()
    student = smaller_layer(model, 0, 2, seed=5)
    options = {"batch_size": 16, "held_out": 4, "learning_rate": 1e-2, "weight_decay": 0.1}
    found = distill(model, 0, student, IDS, **options, **QUICK).layers[0]
    teacher, hidden = model.layers[0].mixer, inputs_of(model, "layers.0.mixer", IDS[:6])
    wanted, losses = dense_of(teacher, hidden), []
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        seen = []
        with hf_ess.record_operators(
            torch.nn.Sequential(student).eval(), seen.append, keep_graph=True
        ):
            student(hidden)
        difference = (seen[0].operator.to_dense() - wanted).square().sum((-2, -1))
        loss = (difference / wanted.square().sum((-2, -1))).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(found.operator_losses, losses, rtol=1e-8)


@pytest.mark.parametrize("mixer", ["GLA", "S6", "Mamba", "SA", "Hyena"])
def test_a_student_that_is_its_teacher_has_no_loss(mixer) -> None:
    model = synthetic("GLA", mixer)
    teacher = model.layers[1].mixer
    found = distill(model, "layers.1.mixer", teacher, IDS, **QUICK).layers[0]
    assert found.before.operator < 1e-12
    assert found.before.activation == 0.0
    assert found.operator_losses[0] < 1e-12


def test_steps_reduce_both_losses() -> None:
    model = synthetic("GLA", "SA")
    options = {"operator_steps": 40, "activation_steps": 60, "learning_rate": 3e-3}
    found = distill(model, 0, 4, IDS, progress=False, **options).layers[0]
    assert (len(found.operator_losses), len(found.activation_losses)) == (40, 60)
    assert found.operator_losses[-5:].mean() < 0.8 * found.operator_losses[:5].mean()
    assert found.activation_losses[-5:].mean() < 0.8 * found.activation_losses[:5].mean()
    assert found.after.activation < 0.8 * found.before.activation


@pytest.mark.parametrize("training", [False, True])
def test_the_given_model_and_student_stay_as_they_are(training) -> None:
    model = synthetic("GLA", "S6").train(training)
    student = smaller_layer(model, 0, 4, seed=1)
    before, own = weights_of(model), weights_of(student)
    state = torch.random.get_rng_state()
    found = distill(model, 0, student, IDS, **QUICK)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(weights_of(model), before)
    assert same(weights_of(student), own)
    assert not same(weights_of(found.layers[0].student), own)
    assert {module.training for module in model.modules()} == {training}
    assert {module.training for module in found.model.modules()} == {training}
    assert not any(module._forward_hooks for module in [*model.modules(), *found.model.modules()])
    assert all(weight.grad is None for weight in [*model.parameters(), *found.model.parameters()])
    assert found.model.layers[0].mixer is found.layers[0].student
    rest = {name: weight for name, weight in before.items() if "layers.0.mixer" not in name}
    assert all(torch.equal(found.model.state_dict()[name], rest[name]) for name in rest)


def test_the_seed_decides_everything() -> None:
    model = synthetic("GLA", "SA")
    options = {"batch_size": 2, **QUICK}
    one, again, other = (distill(model, 0, 4, IDS, seed=seed, **options) for seed in (3, 3, 4))
    assert same(weights_of(one.model), weights_of(again.model))
    assert not same(weights_of(one.model), weights_of(other.model))


@pytest.mark.parametrize(
    ("mixers", "students", "expected"),
    [
        (("GLA", "S6", "LA"), {0: 4, 1: 2, 2: 4}, (["GLA", "S6", "LA"], [4, 2, 4])),
        (("SA", "WLA"), {1: 3}, (["SA", "WLA"], [None, 3])),
    ],
)
def test_models_with_students_save_and_load(tmp_path, mixers, students, expected) -> None:
    model = synthetic(*mixers)
    found = distill_all(model, students, IDS, **QUICK)
    assert found.note == ""
    assert (found.model.config.mixers, found.model.config.state_sizes) == expected
    found.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, found.model(IDS).logits)
    report = hf_ess.analyze(tmp_path, IDS[:2], progress=False)
    assert [layer.state_size for layer in report.layers if layer.verified][-1] == expected[1][-1]


def test_attention_becomes_a_recurrence(tmp_path) -> None:
    model = synthetic("SA", "SA")
    student = synthetic("GLA").layers[0].mixer
    found = distill(model, 1, student, IDS, **QUICK)
    assert found.model.config.mixers == ["SA", "GLA"]
    assert found.note == ""
    found.model.save_pretrained(tmp_path)
    report = hf_ess.analyze(tmp_path, IDS[:2], progress=False)
    assert [layer.mixer for layer in report.layers] == [
        "softmax attention",
        "gated linear attention",
    ]
    assert all(layer.verified for layer in report.layers)


def test_each_layer_learns_on_what_it_gets_in_the_teacher() -> None:
    model = synthetic("GLA", "S6")
    together = distill_all(model, {0: 4, 1: 2}, IDS, **QUICK)
    alone = [distill(model, layer, size, IDS, **QUICK) for layer, size in ((0, 4), (1, 2))]
    for number, one in enumerate(alone):
        own = together.layers[number]
        np.testing.assert_array_equal(own.activation_losses, one.layers[0].activation_losses)
        assert own.after == one.layers[0].after
        assert same(weights_of(own.student), weights_of(one.layers[0].student))
    frame = together.to_pandas()
    assert frame["name"].tolist() == ["layers.0.mixer", "layers.1.mixer"]
    assert frame["activation_error"].tolist() == [one.layers[0].after.activation for one in alone]


def test_a_plan_says_which_layers_and_sizes() -> None:
    model = synthetic("GLA", "SA", "S6")
    report = hf_ess.analyze(model, IDS, progress=False)
    plan = hf_ess.reduce.plan(report, tolerance=1e-1)
    wanted = {
        layer.name: layer.size
        for layer in plan.layers
        if layer.shrinks and layer.size < layer.state_size
    }
    assert wanted
    found = distill_all(model, plan, IDS, **QUICK)
    states = {0: "layers.0.mixer", 2: "layers.2.mixer"}
    sizes = {states[i]: size for i, size in enumerate(found.model.config.state_sizes) if size}
    assert {layer.name for layer in found.layers} == set(wanted)
    assert {name: sizes[name] for name in wanted} == wanted


def test_distillation_goes_on_from_a_truncated_layer() -> None:
    model = synthetic("GLA", "S6")
    cut = truncate(model, {0: 4, 1: 3}, IDS, progress=False)
    students = {layer: cut.model.layers[layer].mixer for layer in (0, 1)}
    options = {"operator_steps": 30, "activation_steps": 30, "held_out": 4, "progress": False}
    found = distill_all(model, students, IDS, **options)
    assert found.model.config.state_sizes == [4, 3]
    assert found.note == ""
    for layer, own in enumerate(found.layers):
        name = f"layers.{layer}.mixer"
        hidden = inputs_of(model, name, IDS[6:])
        expected = relative(
            *(dense_of(one.get_submodule(name), hidden) for one in (cut.model, model)), (-2, -1)
        )
        assert own.before.operator == pytest.approx(expected, rel=1e-5)
        assert own.after.activation < own.before.activation


def test_groups_that_do_not_correspond_are_matched_by_outputs_alone() -> None:
    model = synthetic("S6", "GLA")
    student = synthetic("GLA").layers[0].mixer
    found = distill(model, 0, student, IDS, **QUICK | {"operator_steps": 0}).layers[0]
    assert (found.before.operator, len(found.operator_losses)) == (None, 0)
    assert found.after.activation != found.before.activation
    with pytest.raises(hf_ess.InvalidInputError, match="are not matched to those") as caught:
        distill(model, 0, student, IDS, **QUICK)
    assert "operator_steps=0" in caught.value.fix


def test_what_a_configuration_cannot_say_is_noted() -> None:
    model = synthetic("GLA", "GLA")
    warm = synthetic("GLA", decay_temperature=2.0).layers[0].mixer
    found = distill(model, 0, warm, IDS, **QUICK)
    assert "layers.0.mixer computes something else with the same weights" in found.note
    stranger = torch.nn.Linear(16, 16)
    found = distill(model, 0, Wrapped(stranger), IDS, **QUICK | {"operator_steps": 0})
    assert "Wrapped is none of its mixers" in found.note
    assert found.model(IDS).logits.shape == (10, 20, 32)
    assert model.config.mixers == ["GLA", "GLA"]


class Wrapped(torch.nn.Module):
    """A layer that takes what a mixer takes."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states, masks):
        return self.inner(hidden_states)


def test_a_smaller_model_does_not_go_by_the_name_of_its_teacher(tmp_path) -> None:
    synthetic("GLA").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    for found in (distill(model, 0, 4, IDS, **QUICK), truncate(model, 4, IDS, progress=False)):
        report = hf_ess.analyze(found.model, IDS[:1], progress=False)
        assert report.provenance["model"] == "SyntheticForCausalLM"
    assert model.config._name_or_path == str(tmp_path)


def test_a_student_of_the_same_size_before_training_is_another_layer() -> None:
    model = synthetic("GLA", "LA", "S6")
    for layer, size in ((0, 8), (1, 4), (2, 9)):
        state = torch.random.get_rng_state()
        one, same_seed, other = (smaller_layer(model, layer, size, seed=s) for s in (1, 1, 2))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert same(weights_of(one), weights_of(same_seed))
        assert not same(weights_of(one), weights_of(other))
        assert type(one) is type(model.layers[layer].mixer)
    assert deepcopy(model.config).state_sizes is None
