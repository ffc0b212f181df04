"""Decay rates divided by alpha: which models have some, what changes, and what is refused."""

from __future__ import annotations

import pytest
import torch
from recording_checks import footprint
from tiny_models import build_tiny
from torch import nn

import hf_ess
from hf_ess.synthetics import SyntheticConfig, build_model
from hf_ess.training import divide_decay_rates
from hf_ess.training.decay_rates import divided_decay_rates, known_decay_rates

SCANS = ("mamba", "falcon_mamba", "jamba", "zamba")
HEADS = ("mamba2", "bamba", "zamba2", "falcon_h1", "nemotron_h", "granitemoehybrid")
DELTA_RULES = ("qwen3_next", "olmo_hybrid", "qwen4_exp_text", "kimi_linear")


def config_of(*mixers, **more) -> SyntheticConfig:
    return SyntheticConfig(
        mixers, vocab_size=16, hidden_size=8, num_attention_heads=2, state_size=3, **more
    )


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("model_type", [*SCANS, *HEADS, *DELTA_RULES])
def test_rates_and_nothing_else_change(model_type: str) -> None:
    model = build_tiny(model_type)
    before = weights_of(model)
    names = divide_decay_rates(model, 1024.0)
    changed = {
        name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])
    }
    assert changed
    assert changed == {f"{name}.A_log" for name in names} & set(before)
    for name in changed:
        rates = model.get_parameter(name).detach().exp()
        torch.testing.assert_close(1024 * rates, before[name].exp(), rtol=1e-5, atol=0.0)


def test_dividing_is_building_with_alpha() -> None:
    built = build_model(config_of("GLA-S6", "GLA", alpha=1024.0))
    divided = build_model(config_of("GLA-S6", "GLA"))
    assert divide_decay_rates(divided, 1024) == ("layers.0.mixer",)
    for name, weight in built.named_parameters():
        torch.testing.assert_close(divided.get_parameter(name), weight, rtol=1e-6, atol=1e-6)


def test_steps_of_s6_stay_and_so_does_b() -> None:
    model, seen = build_model(config_of("S6")).double(), []

    def features(layer) -> None:
        stretch = layer.operator.stretch(slice(0, 8), 0, 9)
        seen.append((stretch.steps.rate, stretch.steps.step, stretch.write))

    ids = torch.arange(9)[None]
    with torch.no_grad(), hf_ess.record_operators(model, features):
        model(input_ids=ids)
        divide_decay_rates(model, 64)
        model(input_ids=ids)
    (rate, step, write), *_, (slow, same_step, same_write) = seen
    torch.testing.assert_close(64 * slow, rate, rtol=1e-12, atol=0.0)
    assert torch.equal(step, same_step)
    assert torch.equal(write, same_write)


def test_chosen_layers_and_shared_weights() -> None:
    model = build_model(config_of("S6", "GLA-S6", "S6"))
    model.layers[2].mixer.log_rate = model.layers[0].mixer.log_rate
    before = weights_of(model)
    assert divide_decay_rates(model, 4.0, layers=[0, "layers.2"]) == (
        "layers.0.mixer",
        "layers.2.mixer",
    )
    rates = model.layers[0].mixer.log_rate.exp()
    torch.testing.assert_close(rates, before["layers.0.mixer.log_rate"].exp() / 4)
    assert torch.equal(model.layers[1].mixer.log_rate, before["layers.1.mixer.log_rate"])


def test_a_mixer_alone_on_given_inputs() -> None:
    mixer = build_model(config_of("Mamba")).layers[0].mixer
    with pytest.raises(hf_ess.InvalidInputError, match="how wide its inputs are"):
        divide_decay_rates(mixer, 2.0)
    assert divide_decay_rates(mixer, 2.0, inputs=torch.randn(1, 5, 8)) == ("Mamba",)


def test_the_model_is_given_back_also_after_an_exception() -> None:
    model = build_model(config_of("S6", "GLA-S6")).train()
    before, hooks = weights_of(model), footprint(model)
    numbers = torch.random.get_rng_state()
    rates = known_decay_rates(model)
    meanwhile = {}

    def fail() -> None:
        meanwhile.update(weights_of(model))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), divided_decay_rates(rates, 3.0):
        fail()
    assert any(not torch.equal(meanwhile[name], before[name]) for name in before)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert footprint(model) == hooks
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), numbers)


def named_alike(*path: str, mixers=("GLA",)) -> nn.Module:
    """A model with a weight A_log that does nothing."""
    model = build_model(config_of(*mixers))
    model.get_submodule(".".join(path)).A_log = nn.Parameter(torch.zeros(8))
    return model


@pytest.mark.parametrize(
    ("model", "alpha", "error", "said"),
    [
        ("bailing_hybrid", 2.0, hf_ess.UnsupportedModelError, "its decays do not follow it"),
        ("llama", 2.0, hf_ess.UnsupportedModelError, "(?s)no mixer.*A_log or log_rate"),
        ("mamba", 0.0, hf_ess.InvalidInputError, "alpha must be above 0"),
        ("mamba", float("nan"), hf_ess.InvalidInputError, "finite"),
        ("mamba", "large", hf_ess.InvalidTypeError, "alpha must be a number"),
    ],
)
def test_what_is_refused(model, alpha, error, said) -> None:
    built = build_tiny(model)
    before = weights_of(built)
    with pytest.raises(error, match=f"(?i){said}"):
        divide_decay_rates(built, alpha)
    assert all(torch.equal(weight, before[name]) for name, weight in built.named_parameters())


def test_a_name_alone_is_not_believed() -> None:
    with pytest.raises(hf_ess.UnsupportedModelError, match="its decays do not follow it"):
        divide_decay_rates(named_alike("layers", "0", "mixer"), 2.0)
    with pytest.raises(hf_ess.UnsupportedModelError, match="no operator with decays was recorded"):
        divide_decay_rates(named_alike("layers", "0", "mlp"), 2.0)


def test_what_is_no_rate_is_left_alone_unless_it_was_chosen() -> None:
    model = named_alike("layers", "0", "mixer", mixers=("GLA", "S6"))
    assert divide_decay_rates(model, 2.0) == ("layers.1.mixer",)
    assert not model.layers[0].mixer.A_log.any()
    with pytest.raises(hf_ess.UnsupportedModelError, match=r"layers\.0\.mixer.*do not follow"):
        divide_decay_rates(model, 2.0, layers=[0, 1])


def test_half_precision() -> None:
    model = build_tiny("mamba").bfloat16()
    before = model.backbone.layers[0].mixer.A_log.float()
    assert len(divide_decay_rates(model, 1024.0)) == 2
    after = model.backbone.layers[0].mixer.A_log.float()
    torch.testing.assert_close(after, before - 6.9315, rtol=2**-7, atol=2**-7)


def test_no_model_and_no_such_layer() -> None:
    with pytest.raises(hf_ess.InvalidTypeError, match="Module"):
        divide_decay_rates("mamba", 2.0)
    with pytest.raises(hf_ess.InvalidInputError, match="called 7"):
        divide_decay_rates(build_model(config_of("S6")), 2.0, layers=[7])
