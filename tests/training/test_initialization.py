"""The probe before training: figures against operators written out by hand, builders, refusals."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from tiny_models import build_tiny
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM
from transformers.models.mamba.modeling_mamba import MambaMixer

import hf_ess
from hf_ess.analysis import one_pass
from hf_ess.synthetics import SyntheticConfig, build_model

LENGTH, WIDTH = 12, 8
STATES, SEEDS, ALPHAS = (2, 4), (3, 5), (1.0, 64.0)
POSITIONS = (1, 4, 6, 9)
QUIET = {"length": 24, "progress": False}


def config_of(*mixers: str, state: int = 4) -> SyntheticConfig:
    return SyntheticConfig(
        mixers,
        vocab_size=4,
        hidden_size=WIDTH,
        num_attention_heads=WIDTH // state,
        state_size=state,
    )


def builder(*mixers: str):
    return lambda state, seed: build_model(config_of(*mixers, state=state), seed=seed).double()


def gla_s6_by_hand(mixer, u: torch.Tensor, alpha: float) -> torch.Tensor:
    """`M_ij = sum_n q_in k_jn exp(-r_n / alpha (s_(j+1)n + .. + s_in))`, `[h, L, L]`."""
    query, key = u @ mixer.q_proj.weight.mT, u @ mixer.k_proj.weight.mT
    step = functional.softplus(u @ mixer.gate_down.weight.mT @ mixer.gate_up.weight.mT)
    rates = mixer.log_rate.exp() / alpha
    heads, states = rates.shape
    matrices = torch.zeros(heads, LENGTH, LENGTH, dtype=torch.float64)
    for head in range(heads):
        for i in range(LENGTH):
            for j in range(i + 1):
                for n in range(states):
                    at = head * states + n
                    decay = torch.exp(-rates[head, n] * step[j + 1 : i + 1, at].sum())
                    matrices[head, i, j] += query[i, at] * key[j, at] * decay
    return matrices


def s6_by_hand(mixer, u: torch.Tensor, alpha: float) -> torch.Tensor:
    """`M_ij = sum_n C_in exp(-r_n / alpha (dt_(j+1) + .. + dt_i)) dt_j B_jn`, `[d, L, L]`."""
    step = functional.softplus(u @ mixer.dt_proj.weight.mT + mixer.dt_proj.bias)
    rates = mixer.log_rate.exp() / alpha
    write, read = u @ mixer.b_proj.weight.mT, u @ mixer.c_proj.weight.mT
    matrices = torch.zeros(WIDTH, LENGTH, LENGTH, dtype=torch.float64)
    for channel in range(WIDTH):
        for i in range(LENGTH):
            for j in range(i + 1):
                decay = torch.exp(-rates[channel] * step[j + 1 : i + 1, channel].sum())
                matrices[channel, i, j] = (read[i] * decay * write[j]).sum() * step[j, channel]
    return matrices


@torch.no_grad()
def ess_by_hand(by_hand, mixer: str, state: int, seed: int, alpha: float):
    """Entropy-ESS and counts above 0.1 and 0.001, means over groups and positions."""
    layer = builder(mixer)(state, seed).layers[0]
    noise = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed)).double()
    normed = noise[0] / (noise[0].square().mean(-1, keepdim=True) + 1e-5).sqrt()
    found = []
    for matrix in by_hand(layer.mixer, normed, alpha).numpy():
        for i in POSITIONS:
            values = np.linalg.svd(matrix[i:, :i], compute_uv=False)
            shares = values / values.sum()
            entropy = np.exp(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
            found.append([entropy, (values > 0.1).sum(), (values > 0.001).sum()])
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("mixer", "by_hand"), [("GLA-S6", gla_s6_by_hand), ("S6", s6_by_hand)])
def test_figures_are_those_of_operators_by_hand(mixer: str, by_hand) -> None:
    probe = hf_ess.probe_initialization(
        builder(mixer),
        STATES,
        seeds=SEEDS,
        length=LENGTH,
        positions=POSITIONS,
        alphas=ALPHAS,
        tolerances=(0.1, 0.001),
        progress=False,
    )
    for alpha, measured in zip(ALPHAS, (*probe.mixers, *probe.rescaled), strict=True):
        assert measured.alpha == alpha
        expected = np.array(
            [[ess_by_hand(by_hand, mixer, n, seed, alpha) for seed in SEEDS] for n in STATES]
        )
        np.testing.assert_allclose(measured.entropy_ess, expected[..., 0], rtol=1e-8)
        np.testing.assert_allclose(measured.tolerance_ess[0.1], expected[..., 1], rtol=1e-12)
        np.testing.assert_allclose(measured.values(0.001), expected[..., 2], rtol=1e-12)
        np.testing.assert_allclose(measured.mean(), expected[..., 0].mean(1), rtol=1e-8)
        half = abs(np.diff(expected[..., 0], axis=1))[:, 0] / 2
        np.testing.assert_allclose(measured.standard_error(), half, rtol=1e-6)
        assert measured.capacity.tolist() == list(STATES)
        room = [[min(n, i, LENGTH - i) for i in POSITIONS] for n in STATES]
        assert measured.attainable.tolist() == np.mean(room, axis=1).tolist()


def test_capacity_turns_into_use_by_alpha() -> None:
    probe = hf_ess.probe_initialization(builder("GLA-S6"), (2, 8), alphas=(1024, 1), **QUIET)
    (verdict,) = probe.verdicts
    assert (verdict.kind, verdict.remedy) == ("unused", 1024)
    assert "with decay rates divided by 1024 it does" in str(verdict)
    without = hf_ess.probe_initialization(builder("GLA-S6"), (2, 8), **QUIET)
    assert without.verdicts[0].elasticity == verdict.elasticity
    assert "try `alphas`" in without.verdicts[0].words
    assert not without.rescaled


def test_mixers_of_one_model_are_told_apart() -> None:
    build = builder("GLA-S6", "SA", "LA")
    probe = hf_ess.probe_initialization(build, (2, 8), alphas=[32.0], **QUIET)
    kinds = {verdict.index: verdict.kind for verdict in probe.verdicts}
    assert kinds == {0: "unused", 1: "fixed", 2: "used"}
    assert "the same for every state size" in probe.verdicts[1].words
    assert [mixer.name for mixer in probe.rescaled] == ["layers.0.mixer"]
    assert probe.mixers[1].capacity.tolist() == [12.0, 12.0]


def test_builders_with_and_without_a_seed_and_random_numbers_as_they_were() -> None:
    def by_global_numbers(state):
        return MambaForCausalLM(
            MambaConfig(hidden_size=8, num_hidden_layers=1, state_size=state, vocab_size=4)
        )

    def with_seed(extra, state, *, seed):
        drawn.append((seed, torch.initial_seed()))
        return by_global_numbers(state)

    drawn: list[tuple[int, int]] = []
    numbers = torch.random.get_rng_state()
    probes = [
        hf_ess.probe_initialization(build, STATES, seeds=SEEDS, **QUIET)
        for build in (by_global_numbers, functools.partial(with_seed, None), by_global_numbers)
    ]
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert drawn == [(seed, seed) for _ in STATES for seed in SEEDS]
    first, *others = (probe.mixers[0].entropy_ess for probe in probes)
    assert all(np.array_equal(first, other) for other in others)
    assert len(set(first.ravel())) == first.size


def test_a_mixer_alone() -> None:
    def mixer(state):
        return MambaMixer(MambaConfig(hidden_size=WIDTH, state_size=state), layer_idx=0)

    probe = hf_ess.probe_initialization(mixer, STATES, seeds=(0, 1), **QUIET)
    given = torch.randn(1, 24, WIDTH, generator=torch.Generator().manual_seed(1))
    same = hf_ess.probe_initialization(
        lambda state, seed: build_model(config_of("GLA", state=state), seed=seed).layers[0].mixer,
        STATES,
        inputs=given,
        progress=False,
    )
    assert probe.mixers[0].mixer == "mamba"
    assert same.length == 24
    assert same.mixers[0].capacity.tolist() == list(STATES)


def test_token_ids_instead_of_noise() -> None:
    ids = torch.arange(20)[None] % 4
    probe = hf_ess.probe_initialization(builder("GLA"), STATES, inputs=ids, progress=False)
    expected = hf_ess.analyze(
        builder("GLA")(4, 1), ids, positions=1, accuracy="exact", progress=False
    )
    assert probe.mixers[0].entropy_ess[1, 1] == pytest.approx(expected.average_ess(), rel=1e-12)


def test_samples_are_averaged_and_vectors_take_the_dtype_of_the_weights() -> None:
    given = torch.randn(2, 16, WIDTH, generator=torch.Generator().manual_seed(0))
    both, *each = (
        hf_ess.probe_initialization(builder("GLA"), STATES, inputs=x, progress=False)
        for x in (given, given[:1], given[1:])
    )
    assert (both.samples, both.length) == (2, 16)
    expected = (each[0].mixers[0].entropy_ess + each[1].mixers[0].entropy_ess) / 2
    np.testing.assert_allclose(both.mixers[0].entropy_ess, expected, rtol=1e-12)


def test_counts_below_the_rounding_floor_are_not_reported() -> None:
    probe = hf_ess.probe_initialization(builder("GLA"), STATES, tolerances=(0.1, 1e-30), **QUIET)
    (measured,) = probe.mixers
    assert np.isnan(measured.tolerance_ess[1e-30]).all()
    assert np.isfinite(measured.tolerance_ess[0.1]).all()
    assert probe.judge(1e-30)[0].kind == "undecided"


class TwoMixers(nn.Module):
    """A known mixer, and one that no adapter knows."""

    def __init__(self, state: int) -> None:
        super().__init__()
        self.hidden_size = WIDTH
        self.known = build_model(config_of("GLA", state=state)).layers[0].mixer
        self.unknown = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.unknown(self.known(features))[0]


def test_unknown_mixers_are_named() -> None:
    probe = hf_ess.probe_initialization(TwoMixers, STATES, **QUIET)
    assert [mixer.name for mixer in probe.mixers] == ["known"]
    assert [(layer.name, layer.mixer) for layer in probe.refused] == [("unknown", "LSTM")]
    assert "Refused: unknown (LSTM)" in probe.summary()


def test_an_operator_that_is_wrong_once_is_in_no_figure(monkeypatch) -> None:
    right, runs = one_pass.OperatorMeasurer.measure, []

    def sometimes_wrong(self):
        measured = right(self)
        if self.layer.index == 1:
            runs.append(self.layer.name)
            if len(runs) == 3:
                measured.residual[:] = 0.5
        return measured

    monkeypatch.setattr(one_pass.OperatorMeasurer, "measure", sometimes_wrong)
    probe = hf_ess.probe_initialization(builder("GLA", "LA"), STATES, seeds=SEEDS, **QUIET)
    assert [mixer.index for mixer in probe.mixers] == [0]
    (refused,) = probe.refused
    assert refused.name == "layers.1.mixer"
    assert refused.reason.endswith("(state size 4, seed 3)")
    assert "differs" in refused.reason
    assert set(probe.to_pandas()["name"]) == {"layers.0.mixer"}


def test_one_model_for_all_state_sizes_is_left_as_it_was() -> None:
    model = build_model(config_of("S6", "GLA-S6")).train()
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    with pytest.raises(hf_ess.InvalidInputError, match=r"(?s)do not change the capacity.*argument"):
        hf_ess.probe_initialization(lambda _: model, STATES, alphas=[8.0], **QUIET)
    assert model.training
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())


def attention_of(state):
    config = LlamaConfig(
        hidden_size=4 * state,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=4,
    )
    return LlamaForCausalLM(config)


def with_nan(state, seed):
    model = builder("LA", "S6")(state, seed)
    model.layers[1].mixer.c_proj.weight.data[0, 0] = torch.nan
    return model


def qwen4(_):
    return build_tiny("qwen4_exp_text")


class Linear(nn.Linear):
    hidden_size = WIDTH


@pytest.mark.parametrize(
    ("build", "arguments", "error", "said"),
    [
        (builder("GLA"), {"state_sizes": (4,)}, hf_ess.InvalidInputError, "One state size, 4"),
        (builder("GLA"), {"state_sizes": (4, 4)}, hf_ess.InvalidInputError, "distinct"),
        (builder("GLA"), {"state_sizes": (0, 4)}, hf_ess.InvalidInputError, "of 1 or more"),
        (builder("GLA"), {"state_sizes": 4}, hf_ess.InvalidTypeError, "whole numbers"),
        (builder("GLA"), {"state_sizes": (2, 4.5)}, hf_ess.InvalidTypeError, "whole numbers"),
        (builder("GLA"), {"seeds": ()}, hf_ess.InvalidInputError, "at least one"),
        (builder("GLA"), {"length": 1}, hf_ess.InvalidInputError, "length"),
        (builder("GLA"), {"samples": 0}, hf_ess.InvalidInputError, "samples"),
        (builder("GLA"), {"positions": [24]}, hf_ess.InvalidInputError, "out of range"),
        (builder("GLA"), {"tolerances": [-1]}, hf_ess.InvalidInputError, "olerance"),
        (builder("GLA"), {"alphas": [0.0]}, hf_ess.InvalidInputError, "alpha must be above 0"),
        (builder("GLA"), {"alphas": []}, hf_ess.InvalidInputError, "at least one"),
        (builder("GLA"), {"alphas": "all"}, hf_ess.InvalidTypeError, "alphas"),
        (builder("GLA"), {"alphas": [2.0]}, hf_ess.UnsupportedModelError, "no mixer .* decay rat"),
        (builder("GLA"), {"inputs": "text"}, hf_ess.InvalidTypeError, "inputs"),
        (builder("GLA"), {"inputs": torch.zeros(2, 4)}, hf_ess.InvalidInputError, r"\[2, 4\]"),
        (builder("GLA"), {"inputs": torch.full((1, 9, 8), torch.inf)}, hf_ess.NonFiniteError, "in"),
        (builder("GLA")(4, 0), {}, hf_ess.InvalidTypeError, "(?s)must be a function.*place of a"),
        (lambda state: state, {}, hf_ess.InvalidTypeError, r"build_model\(2\) gave a int"),
        (lambda state: Linear(WIDTH, state), {}, hf_ess.UnsupportedModelError, "no mixer that can"),
        (lambda _: nn.Linear(8, 8), {}, hf_ess.InvalidInputError, "how wide its inputs are"),
        (attention_of, {}, hf_ess.InvalidInputError, "(?s)do not change.*attention.*whole text"),
        (qwen4, {}, hf_ess.UnsupportedModelError, r"(?s)vectors of no token.*token ids \[B, L\]"),
        (with_nan, {}, hf_ess.NonFiniteError, r"(?s)State size 2, seed 0.*layers\.1\.mixer\.c_pro"),
    ],
)
def test_what_is_refused(build, arguments, error, said) -> None:
    with pytest.raises(error, match=f"(?i){said}"):
        hf_ess.probe_initialization(build, **{"state_sizes": STATES, **QUIET, **arguments})


def test_a_probe_can_be_written_and_read() -> None:
    probe = hf_ess.probe_initialization(
        builder("GLA-S6"), STATES, alphas=[16.0], seeds=(0,), **QUIET
    )
    frame = probe.to_pandas()
    assert frame["state_size"].tolist() == [2, 4, 2, 4]
    assert frame["alpha"].tolist() == [1.0, 1.0, 16.0, 16.0]
    assert frame["entropy_ess"].tolist()[2:] == probe.rescaled[0].entropy_ess[:, 0].tolist()
    assert frame["tolerance_ess_0.001_error"].isna().all()
    written = json.loads(json.dumps(probe.to_dict(), allow_nan=False))
    assert written["mixers"][0]["entropy_ess_error"] is None
    assert written["verdicts"][0]["kind"] == "undecided"
    assert "one seed has no standard error" in written["verdicts"][0]["words"]
