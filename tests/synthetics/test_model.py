"""The synthetic models as models of transformers: saving, seeds, losses, bad input."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

import hf_ess
from hf_ess.synthetics import MIXERS, SyntheticConfig, SyntheticForCausalLM, build_model

IDS = torch.randint(32, (2, 40), generator=torch.Generator().manual_seed(0))


def config_of(*mixers: str, **more) -> SyntheticConfig:
    return SyntheticConfig(mixers, vocab_size=32, hidden_size=16, num_attention_heads=2, **more)


@torch.no_grad()
def logits_of(model, **inputs) -> torch.Tensor:
    return model(**(inputs or {"input_ids": IDS})).logits


def test_all_mixers_survive_saving(tmp_path) -> None:
    model = build_model(config_of(*MIXERS, alpha=3.0, state_size=5))
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is SyntheticForCausalLM
    assert not again.training
    assert again.config.to_diff_dict() | {"dtype": 0} == model.config.to_diff_dict() | {"dtype": 0}
    assert torch.equal(logits_of(again), logits_of(model))
    assert AutoConfig.from_pretrained(tmp_path).mixers == list(MIXERS)


def test_state_sizes_of_layers_survive_saving(tmp_path) -> None:
    mixers = [mixer for mixer in MIXERS if mixer not in ("SA", "Hyena")]
    sizes = [2, None, 3, 12, 5, None]
    model = build_model(config_of(*mixers, "SA", state_sizes=[*sizes, None]))
    model.layers[0].mixer.turns[0] = 1
    model.bfloat16().save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.state_sizes == [*sizes, None]
    assert again.layers[0].mixer.turns.tolist() == [[[1], [1]], [[2], [2]]]
    assert torch.equal(logits_of(again), logits_of(model))
    report = hf_ess.analyze(again.float(), IDS, progress=False)
    assert all(layer.verified for layer in report.layers)
    expected = [own or default for own, default in zip(sizes, (8, 8, 8, 8, 16, 16), strict=True)]
    assert [layer.state_size for layer in report.layers] == [*expected, None]


def test_a_state_size_of_its_own_that_is_the_usual_one_changes_nothing() -> None:
    model = build_model(config_of("LA", "GLA", "S6"))
    same = build_model(config_of("LA", "GLA", "S6", state_sizes=[8, 8, 16]))
    assert torch.equal(logits_of(model), logits_of(same))
    assert set(same.state_dict()) - set(model.state_dict()) == {"layers.0.mixer.turns"}


def test_a_checkpoint_with_missing_weights_gets_those_of_a_new_model(tmp_path) -> None:
    model = build_model(config_of("S6", "WLA"))
    kept = {name: value for name, value in model.state_dict().items() if "mixer." not in name}
    model.save_pretrained(tmp_path, state_dict=kept)
    again = SyntheticForCausalLM.from_pretrained(tmp_path)
    for name in ("layers.0.mixer.log_rate", "layers.1.mixer.decay_logits", "embed_tokens.weight"):
        assert torch.equal(again.get_parameter(name), model.get_parameter(name))
    steps = functional.softplus(again.layers[0].mixer.dt_proj.bias)
    assert bool((steps > 0.99e-3).all())
    assert bool((steps < 1.01e-1).all())


def test_seeds_decide_all_weights_and_nothing_else_does() -> None:
    state = torch.random.get_rng_state()
    one = build_model(config_of(*MIXERS), seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    same, other = (build_model(config_of(*MIXERS), seed=seed) for seed in (1, 2))
    for name, weight in one.named_parameters():
        assert torch.equal(weight, same.get_parameter(name))
        drawn = weight.min() < weight.max() and not name.endswith("log_rate")
        assert torch.equal(weight, other.get_parameter(name)) != drawn


def test_weights_before_training_are_those_of_the_paper() -> None:
    model = build_model(config_of("WLA", "S6", "GLA-S6", state_size=4, alpha=2.0))
    weighted, selective, headed = (layer.mixer for layer in model.layers)
    assert not weighted.decay_logits.any()
    decay = weighted.log_decay(torch.zeros(1, 1, 16)).exp()
    torch.testing.assert_close(decay, torch.full((1, 1, 2, 8), 0.5 ** (1 / 16)))
    torch.testing.assert_close(selective.log_rate.exp(), (torch.arange(1.0, 5) / 2).expand(16, 4))
    torch.testing.assert_close(headed.log_rate.exp(), (torch.arange(1.0, 9) / 2).expand(2, 8))
    steps = functional.softplus(selective.dt_proj.bias.detach())
    assert 1e-3 <= float(steps.min()) < 1e-2 < float(steps.max()) <= 0.1


def test_steps_before_training_lie_where_the_configuration_says() -> None:
    model = build_model(config_of("S6", "Mamba", smallest_step=0.2, largest_step=0.3))
    for layer in model.layers:
        steps = functional.softplus(layer.mixer.dt_proj.bias.detach())
        assert 0.2 - 1e-6 <= float(steps.min()) < float(steps.max()) <= 0.3 + 1e-6
    with pytest.raises(hf_ess.InvalidInputError, match=r"smallest_step 0.3 is above largest"):
        config_of("S6", smallest_step=0.3, largest_step=0.2)


@pytest.mark.parametrize("mixer", MIXERS)
def test_the_past_alone_decides(mixer: str) -> None:
    model = build_model(config_of(mixer, mixer)).double()
    changed = IDS.clone()
    changed[:, 25:] = (changed[:, 25:] + 1) % 32
    before, after = logits_of(model), logits_of(model, input_ids=changed)
    torch.testing.assert_close(after[:, :25], before[:, :25], rtol=0.0, atol=1e-12)
    assert float((after[:, 25:] - before[:, 25:]).abs().max()) > 1e-2
    torch.testing.assert_close(
        logits_of(model, input_ids=IDS[:, :17]), before[:, :17], rtol=0.0, atol=1e-12
    )


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_weight_is_trained(mixer: str) -> None:
    model = build_model(config_of(mixer)).train()
    model(input_ids=IDS, labels=IDS).loss.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name
        assert bool(weight.grad.any()), name


def test_the_loss_compares_labels_with_the_token_before() -> None:
    model = build_model(config_of("SA", "GLA"))
    labels = torch.full_like(IDS, -100)
    labels[0, 7], labels[1, 39] = 5, 6
    with torch.no_grad():
        loss = float(model(input_ids=IDS, labels=labels).loss)
    shares = logits_of(model).double().softmax(-1)
    expected = -(math.log(shares[0, 6, 5]) + math.log(shares[1, 38, 6])) / 2
    assert loss == pytest.approx(expected, rel=1e-6)


def test_vectors_instead_of_tokens() -> None:
    model = build_model(config_of("LA", "Hyena"))
    vectors = model.get_input_embeddings()(IDS).detach()
    assert torch.equal(logits_of(model, inputs_embeds=vectors), logits_of(model))
    for inputs in ({}, {"input_ids": IDS, "inputs_embeds": vectors}):
        with pytest.raises(hf_ess.InvalidInputError, match="either input_ids or inputs_embeds"):
            model(**inputs)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mixers": "GLA"}, r"(?s)no mixer 'G', 'L', 'A'.*single name.*GLA, WLA"),
        ({"mixers": []}, "none is given"),
        ({"mixers": ["GLA"], "hidden_size": 18}, "4 heads cannot share 18 channels"),
        ({"mixers": ["SA"], "hidden_size": 12}, "even hidden_size / num_attention_heads"),
        ({"mixers": ["S6"], "state_size": 0}, "state_size must be at least 1, got 0"),
        ({"mixers": ["GLA-S6"], "alpha": -1.0}, "alpha must be above 0"),
        ({"mixers": ["GLA-S6"], "alpha": float("nan")}, "alpha must be finite, got nan"),
        ({"mixers": ["GLA-S6"], "alpha": float("inf")}, "alpha must be finite, got inf"),
        ({"mixers": ["SA"], "rope_theta": -1}, "rope_theta must be above 0"),
        ({"mixers": ["SA"], "intermediate_size": 0}, "intermediate_size must be at least 1"),
        ({"mixers": ["GLA", "S6"], "state_sizes": [4]}, "1 state sizes do not fit 2 mixers"),
        ({"mixers": ["S6"], "state_sizes": [0]}, "layer 0 must be at least 1, got 0"),
        ({"mixers": ["LA"], "state_sizes": [3]}, "turn pairs of channels; layer 0 has 3"),
        ({"mixers": ["GLA", "SA"], "state_sizes": [4, 4]}, "Layer 1 is SA, whose state grows"),
        ({"mixers": ["Hyena"], "state_sizes": [4]}, "Layer 0 is Hyena, whose state grows"),
    ],
)
def test_wrong_configurations_are_refused(wrong, said: str) -> None:
    with pytest.raises(hf_ess.InvalidInputError, match=said):
        SyntheticConfig(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hidden_size": 32.0}, "hidden_size must be a whole number, got 32.0"),
        ({"hidden_size": "32"}, "hidden_size must be a whole number, got '32'"),
        ({"decay_rank": 1.5}, "decay_rank must be a whole number"),
        ({"num_attention_heads": True}, "num_attention_heads must be a whole number"),
        ({"intermediate_size": 3.0}, "intermediate_size must be a whole number"),
        ({"rms_norm_eps": "x"}, "rms_norm_eps must be a number, got 'x'"),
        ({"state_sizes": [True]}, "layer 0 must be a whole number, got True"),
        ({"state_sizes": 4}, "state_sizes must be a list, one entry for each layer, got 4"),
        ({"mixers": None}, "mixers must be a list"),
    ],
)
def test_values_of_a_wrong_type_are_refused(wrong, said: str) -> None:
    with pytest.raises(hf_ess.InvalidTypeError, match=said):
        SyntheticConfig(**{"mixers": ["GLA"], **wrong})


def test_heads_bind_only_mixers_that_have_some() -> None:
    config = SyntheticConfig(["S6", "Hyena"], vocab_size=32, hidden_size=9)
    assert logits_of(build_model(config)).shape == (2, 40, 32)


def test_hf_ess_does_not_import_the_synthetic_models() -> None:
    code = (
        "import sys, hf_ess; hf_ess.analyze; hf_ess.record_operators\n"
        "sys.exit(any(name.startswith('hf_ess.synthetics') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
