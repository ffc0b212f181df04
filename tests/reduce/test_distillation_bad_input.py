"""Distillation that cannot be: each reason by its own error, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

import hf_ess
from hf_ess.reduce import distill, distill_all, smaller_layer
from hf_ess.synthetics import SyntheticConfig, build_model

QUICK = {"operator_steps": 2, "activation_steps": 2, "progress": False}
IDS = torch.randint(32, (6, 12), generator=torch.Generator().manual_seed(0))


def synthetic(*mixers, **config):
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_attention_heads": 2, "state_size": 4}
    return build_model(SyntheticConfig(mixers, **sizes | config))


@pytest.fixture
def model():
    """Must have lost nothing and kept no hook when a test is over."""
    model = synthetic("GLA", "S6")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    yield model
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (2, "No analysable layer is called 2"),
        ("layers.7.mixer", "No analysable layer is called 'layers.7.mixer'"),
        ("layers", "means 2 mixers"),
        ("", "No analysable layer is called ''"),
    ],
)
def test_a_wrong_layer(model, layer, words) -> None:
    student = model.layers[0].mixer
    if layer == "layers":  # a module, which does not run as a whole
        words = "runs 0 times"
    with pytest.raises(hf_ess.InvalidInputError, match=words):
        distill(model, layer, student, IDS, **QUICK)


@pytest.mark.parametrize("layer", [None, 1.5, True])
def test_a_layer_that_is_no_layer(model, layer) -> None:
    with pytest.raises((hf_ess.InvalidTypeError, hf_ess.InvalidInputError)):
        distill(model, layer, 2, IDS, **QUICK)


def test_a_student_of_another_width(model) -> None:
    student = synthetic("GLA", hidden_size=8).layers[0].mixer
    with pytest.raises(hf_ess.InvalidTypeError, match=r"cannot be called as layers\.0\.mixer is"):
        distill(model, 0, student, IDS, **QUICK)


def test_a_student_whose_outputs_have_another_shape(model) -> None:
    class Half(nn.Module):
        def forward(self, hidden_states, masks):
            return hidden_states[..., :8]

    with pytest.raises(hf_ess.InvalidInputError, match=r"gives back \[1, 12, 8\], .*\[1, 12, 16\]"):
        distill(model, 0, Half(), IDS, **QUICK)


def test_a_student_that_takes_other_arguments(model) -> None:
    with pytest.raises(hf_ess.InvalidTypeError, match="The student Linear cannot be called"):
        distill(model, 0, nn.Linear(16, 16), IDS, **QUICK)


def test_a_student_of_another_family(model) -> None:
    config = LlamaConfig(hidden_size=16, intermediate_size=16, num_attention_heads=2, vocab_size=32)
    llama = LlamaForCausalLM(config).eval().model.layers[0].self_attn
    with pytest.raises(hf_ess.InvalidTypeError, match="The student LlamaAttention cannot be"):
        distill(model, 0, llama, IDS, **QUICK)


def test_a_student_that_nobody_knows(model) -> None:
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(16, 16, batch_first=True)

        def forward(self, hidden_states, masks):
            return self.gru(hidden_states)

    with pytest.raises(hf_ess.UnsupportedMixerError, match="Recurrent is not known") as caught:
        distill(model, 0, Recurrent(), IDS, **QUICK)
    assert "operator_steps=0" in caught.value.fix
    found = distill(model, 0, Recurrent(), IDS, **QUICK | {"operator_steps": 0})
    assert found.layers[0].after.operator is None


@pytest.mark.parametrize("rate", [1e30, 1e25])
def test_a_loss_that_is_not_finite(model, rate) -> None:
    with pytest.raises(hf_ess.NonFiniteError, match="Step 1 of matching operators: ") as caught:
        distill(model, 0, 4, IDS, learning_rate=rate, **QUICK)
    assert f"{rate:g}" in caught.value.causes[0]


def test_a_student_with_nan(model) -> None:
    student = smaller_layer(model, 1, 2)
    with torch.no_grad():
        student.out_proj.weight[0, 0] = torch.nan
    with pytest.raises(hf_ess.NonFiniteError, match="On the held-out texts: The distance"):
        distill(model, 1, student, IDS, **QUICK)


def test_a_student_with_nothing_to_train(model) -> None:
    student = smaller_layer(model, 0, 4).requires_grad_(False)
    with pytest.raises(hf_ess.NotDifferentiableError, match="no weight that is trained"):
        distill(model, 0, student, IDS, **QUICK)
    student.o_proj.requires_grad_(True)
    with pytest.raises(hf_ess.NotDifferentiableError, match="shapes its operators"):
        distill(model, 0, student, IDS, **QUICK)


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (IDS[:1], hf_ess.InvalidInputError, "Of 1 text"),
        (IDS[0], hf_ess.InvalidInputError, "at least two tokens"),
        ("a text", hf_ess.InvalidTypeError, "type str"),
    ],
)
def test_inputs_that_do_not_do(model, inputs, error, words) -> None:
    with pytest.raises(error, match=words):
        distill(model, 0, 4, inputs, **QUICK)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"operator_steps": -1}, hf_ess.InvalidInputError, "operator_steps must be at least 0"),
        ({"activation_steps": 1.5}, hf_ess.InvalidTypeError, "must be a whole number"),
        ({"learning_rate": 0.0}, hf_ess.InvalidInputError, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, hf_ess.InvalidInputError, "learning_rate must be finite"),
        ({"weight_decay": "0"}, hf_ess.InvalidTypeError, "weight_decay must be a number"),
        ({"batch_size": 0}, hf_ess.InvalidInputError, "batch_size must be at least 1"),
        ({"held_out": 6}, hf_ess.InvalidInputError, "Of 6 text"),
        ({"steps": 5}, hf_ess.InvalidTypeError, "There is no setting 'steps'"),
        ({"memory_budget": 1000}, hf_ess.MemoryBudgetError, "the memory budget is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_do_not_do(model, settings, error, words) -> None:
    with pytest.raises(error, match=words):
        distill_all(model, {0: 4}, IDS, **QUICK | settings)


@pytest.mark.parametrize("students", [{0: 0}, {0: 9}, {0: 4, 1: "2"}, {7: 2}])
def test_sizes_that_do_not_do(model, students) -> None:
    with pytest.raises((hf_ess.InvalidInputError, hf_ess.InvalidTypeError)):
        distill_all(model, students, IDS, **QUICK)


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_a_state_size_that_is_none(model, size) -> None:
    with pytest.raises(
        (hf_ess.InvalidInputError, hf_ess.InvalidTypeError), match="state_size must be"
    ):
        smaller_layer(model, 0, size)


def test_two_students_for_one_layer(model) -> None:
    mixer = model.layers[0].mixer
    with pytest.raises(hf_ess.InvalidInputError, match=r"Two students are for layers\.0\.mixer"):
        distill_all(model, {0: mixer, "layers.0.mixer": mixer}, IDS, **QUICK)


def test_a_model_without_states_has_no_smaller_layers() -> None:
    model = synthetic("SA")
    with pytest.raises(hf_ess.UnsupportedModelError, match="cannot be truncated"):
        distill(model, 0, 4, IDS, **QUICK)


def test_what_is_no_model() -> None:
    with pytest.raises(hf_ess.InvalidTypeError, match="must be a torch"):
        distill("mqar-gla", 0, 4, IDS, **QUICK)


def test_an_interrupted_training_leaves_nothing_behind(model, monkeypatch) -> None:
    class Stops(torch.optim.AdamW):
        def step(self, *args, **kwargs):
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim, "AdamW", Stops)
    model.layers[1].train()
    with pytest.raises(KeyboardInterrupt):
        distill(model, 0, 4, IDS, **QUICK)
    assert model.layers[1].training
    model.layers[1].eval()


def test_an_encoder_decoder() -> None:
    small = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    teacher = T5ForConditionalGeneration(T5Config(vocab_size=32, **small))
    with pytest.raises(hf_ess.UnsupportedModelError, match="encoder-decoder"):
        distill(teacher, 0, 4, IDS, **QUICK)


def test_compiled_models_are_as_those_inside(model) -> None:
    compiled = torch.compile(model, backend="eager")
    found, expected = (distill(one, 0, 4, IDS, **QUICK) for one in (compiled, model))
    assert type(found.model) is type(model)
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], weight), name
    sizes = {0: 4}
    assert type(distill_all(compiled, sizes, IDS, **QUICK).model) is type(model)
