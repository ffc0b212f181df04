"""What truncation refuses, and that it leaves nothing behind when it does."""

from __future__ import annotations

import pytest
import torch
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.reduce import plan, truncate
from hf_ess.synthetics import SyntheticConfig, build_model

IDS = torch.randint(32, (2, 16), generator=torch.Generator().manual_seed(0))


def model_of(*mixers: str, **more):
    config = SyntheticConfig(mixers, vocab_size=32, hidden_size=16, num_attention_heads=2, **more)
    return build_model(config)


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        (0, hf_ess.InvalidInputError, r"layers.0.mixer cannot have 0 channels: it has 8"),
        (9, hf_ess.InvalidInputError, r"cannot have 9 channels(?s:.)*from 1 to 8"),
        ({2: 3}, hf_ess.InvalidInputError, r"cannot have 3(?s:.)*from 2 to 8, a multiple of 2"),
        ({7: 4}, hf_ess.InvalidInputError, "No analysable layer is called 7"),
        ({"layers.3": 4}, hf_ess.InvalidInputError, "No analysable layer is called 'layers.3'"),
        ({0: 4.0}, hf_ess.InvalidTypeError, "must be a whole number"),
        (True, hf_ess.InvalidTypeError, "one state size for all layers"),
        ("4", hf_ess.InvalidTypeError, "got str"),
    ],
)
def test_wrong_sizes(wanted, error, said: str) -> None:
    with pytest.raises(error, match=said):
        truncate(model_of("GLA", "S6", "LA", "SA"), wanted, IDS, progress=False)


@pytest.mark.parametrize(
    ("inputs", "error", "said"),
    [
        ("a text", hf_ess.InvalidTypeError, "inputs of type str"),
        ({"ids": IDS}, hf_ess.InvalidTypeError, "inputs of type dict"),
        (IDS[:, :1], hf_ess.InvalidInputError, r"at least two tokens.*got \[2, 1\]"),
        (IDS[0], hf_ess.InvalidInputError, r"\[B, L\], got \[16\]"),
        (IDS[:0], hf_ess.InvalidInputError, r"got \[0, 16\]"),
        (IDS + 1000, hf_ess.InvalidInputError, r"token id 1\d{3}, the model knows 0\.\.31"),
        (IDS - 100, hf_ess.InvalidInputError, "begin at 0, got -"),
        (IDS.double(), hf_ess.InvalidTypeError, r"(?s)whole numbers, got torch\.float64.*embeds"),
    ],
)
def test_wrong_inputs(inputs, error, said: str) -> None:
    with pytest.raises(error, match=said):
        truncate(model_of("GLA"), 4, inputs, progress=False)


@pytest.mark.parametrize(
    "build", [lambda: model_of("SA", "Hyena"), lambda: build_tiny("llama"), lambda: torch.nn.ReLU()]
)
def test_models_without_a_state_that_can_be_cut(build) -> None:
    with pytest.raises(
        hf_ess.UnsupportedModelError, match=r"(?s)cannot be truncated.*falcon_mamba"
    ):
        truncate(build(), 2, IDS, progress=False)
    with pytest.raises(hf_ess.InvalidTypeError, match=r"must be a torch\.nn\.Module"):
        truncate("a path", 2, IDS, progress=False)


def test_unknown_choices() -> None:
    with pytest.raises(hf_ess.InvalidInputError, match=r"(?s)no choice of channels 'best'.*random"):
        truncate(model_of("GLA"), 4, IDS, choose="best", progress=False)


@pytest.mark.parametrize(
    ("seed", "error", "said"),
    [
        (-1, hf_ess.InvalidInputError, "seed must be at least 0"),
        (1.5, hf_ess.InvalidTypeError, "seed must be a whole number"),
    ],
)
def test_wrong_seeds(seed, error, said) -> None:
    with pytest.raises(error, match=said):
        truncate(model_of("GLA"), 4, IDS, choose="random", seed=seed, progress=False)


def test_broken_weights_are_named() -> None:
    model = model_of("GLA", "S6")
    with torch.no_grad():
        model.layers[1].mixer.b_proj.weight[0, 0] = torch.nan
    with pytest.raises(hf_ess.NonFiniteError, match=r"layers\.1\.mixer\.b_proj\.weight"):
        truncate(model, 4, IDS, progress=False)


def test_training_mode() -> None:
    with pytest.raises(hf_ess.UnsupportedModelError, match="training mode"):
        truncate(model_of("GLA").train(), 4, IDS, progress=False)


def test_plans_for_other_models() -> None:
    ids = IDS
    model = model_of("GLA", "S6")
    small = plan(hf_ess.analyze(model, ids, progress=False), tolerance=0.1)
    for other, said in [
        (model_of("GLA"), "layers.1.mixer has a state of 16 in the plan, and is not in the model"),
        (model_of("GLA", "S6", state_size=4), "state of 16 in the plan, of 4 in the model"),
        (model_of("S6", "S6"), "layers.0.mixer has a state of 8 in the plan, of 16"),
        (model_of("LA", "S6"), "layers.0.mixer is linear attention of 2 groups"),
        (build_tiny("mamba"), "is not in the model"),
    ]:
        inputs = tiny_input_ids(other)
        with pytest.raises(hf_ess.InvalidInputError, match=f"(?s)for another model: .*{said}"):
            truncate(other, small, inputs, progress=False)
    cut = truncate(model, small, ids, progress=False).model
    with pytest.raises(hf_ess.InvalidInputError, match="truncated already"):
        truncate(cut, small, ids, progress=False)


def test_a_plan_without_states_of_fixed_size() -> None:
    report = hf_ess.analyze(model_of("SA"), IDS, progress=False)
    with pytest.raises(hf_ess.InvalidInputError, match="says nothing about a layer"):
        truncate(model_of("GLA"), plan(report, tolerance=0.1), IDS, progress=False)


def test_nothing_is_left_behind_by_a_failure() -> None:
    def broken(hidden):
        raise ArithmeticError("broken")

    model = model_of("GLA", "S6")
    model.norm.forward = broken
    with pytest.raises(ArithmeticError, match="broken"):
        truncate(model, 4, IDS, progress=False)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


class Adapter(torch.nn.Module):
    """A linear map with a low-rank change beside it, as adapters put it into models."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.down = torch.nn.Linear(base.in_features, 1, bias=False)
        self.up = torch.nn.Linear(1, base.out_features, bias=False)

    @property
    def weight(self) -> torch.Tensor:
        return self.base_layer.weight

    def forward(self, inputs):
        return self.base_layer(inputs) + self.up(self.down(inputs))


class Wrapped(torch.nn.Module):
    """A model in another one, which shows its configuration."""

    def __init__(self, model) -> None:
        super().__init__()
        self.base_model, self.config = model, model.config

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)


@pytest.mark.parametrize("name", ["x_proj", "out_proj"])
def test_adapters_that_are_not_merged(name: str) -> None:
    model = build_tiny("mamba")
    mixer = model.backbone.layers[0].mixer
    setattr(mixer, name, Adapter(getattr(mixer, name)).eval())
    with pytest.raises(
        hf_ess.UnsupportedModelError, match=rf"(?s){name}\.base_layer\.weight.*Merge adapters"
    ):
        truncate(model, 4, tiny_input_ids(model), progress=False)


def test_wrapped_models() -> None:
    model = build_tiny("mamba")
    with pytest.raises(hf_ess.UnsupportedModelError, match="truncate the model inside"):
        truncate(Wrapped(model).eval(), 4, tiny_input_ids(model), progress=False)


@pytest.mark.parametrize("build", [lambda: build_tiny("mamba"), lambda: model_of("S6", "S6")])
def test_mixers_that_layers_share(build) -> None:
    model = build()
    layers = getattr(model, "backbone", model).layers
    layers[1].mixer = layers[0].mixer
    with pytest.raises(
        hf_ess.UnsupportedModelError, match=r"layers\.0\.mixer and (\w+\.)?layers\.1\.mixer"
    ):
        truncate(model, 4, tiny_input_ids(model), progress=False)
