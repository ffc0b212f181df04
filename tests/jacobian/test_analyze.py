"""`analyze(..., method="jacobian")`: recurrences without a closed form inside a language model."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from analysis.handmade import (
    WIDTH,
    BidirectionalAttention,
    Decoder,
    InlineAttention,
    Lstm,
    RunningMean,
    RunningSum,
)
from jacobian.mixers import ForgetfulGru, Gru, SLstm, block_values, numerical_jacobian
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess import NumericalFloorWarning, UnsupportedModelError, UnverifiedOperatorWarning
from hf_ess.report import ESSReport

LENGTH = 9
IDS = torch.randint(64, (1, LENGTH), generator=torch.Generator().manual_seed(0))
analyze = partial(hf_ess.analyze, progress=False, method="jacobian")


def features_of(model, name, ids):
    """What reaches a module."""
    seen = []
    module = model.get_submodule(name)
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        model(ids)
    handle.remove()
    return seen[0]


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize(
    ("mixer", "name", "kind", "state"),
    [
        (Lstm, "layers.0.mixer.cell", "LSTM", 2 * WIDTH),
        (Gru, "layers.0.mixer.cell", "GRU", WIDTH),
        # Cell and normaliser share the scale of the stabiliser: three numbers per channel.
        (SLstm, "layers.0.mixer", "SLstm", 3 * WIDTH),
    ],
)
def test_recurrences_are_as_finite_differences_say(mixer, name, kind, state):
    model = Decoder(mixer).double()
    report = analyze(
        model, IDS, positions="all", tolerances=(1e-2, 1e-9), keep_singular_values=True
    )
    (layer,) = report.layers
    assert (layer.name, layer.mixer, layer.method) == (name, f"jacobian of {kind}", "jacobian")
    assert (layer.groups, layer.multiplicity, layer.state_size) == (1, 1, None)
    assert layer.verified
    assert layer.residual_bound == 1e-6
    assert layer.residual.max() < 1e-7
    module, features = model.get_submodule(name), features_of(model, name, IDS)
    expected = numerical_jacobian(lambda u: first(module(u)), features)
    for place, position in enumerate(report.positions):
        values = block_values(expected, position, WIDTH, WIDTH)
        found = layer.singular_values[0, 0, place]
        np.testing.assert_allclose(found[: len(values)], values, rtol=0, atol=1e-5)
        assert layer.tolerance_ess[1e-2][0, 0, place] == int((values > 1e-2).sum())
        assert layer.tolerance_ess[1e-9][0, 0, place] <= min(state, WIDTH * position)
        attainable = WIDTH * min(position, LENGTH - position)
        assert layer.attainable_by_group[0, 0, place] == attainable
    assert not layer.below_floor[1e-9].any()
    assert layer.tolerance_ess[1e-9].max() > WIDTH / 2
    assert report.unsupported == []


def test_a_gru_that_forgets_everything_has_collapsed():
    report = analyze(Decoder(Gru, ForgetfulGru), IDS, tolerances=(1e-9,))
    alive, collapsed = report.layers
    assert alive.tolerance_ess[1e-9].min() > 0
    assert not collapsed.tolerance_ess[1e-9].any()
    assert collapsed.verified


def test_float32_and_bfloat16_models_are_linearised_in_float64():
    exact = analyze(Decoder(Gru).double(), IDS)
    for dtype, near in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        report = analyze(Decoder(Gru).to(dtype), IDS)
        (layer,) = report.layers
        assert layer.verified
        assert layer.residual_bound == 1e-6
        assert report.average_ess() == pytest.approx(exact.average_ess(), rel=near)


def test_known_and_unknown_mixers_are_measured_side_by_side(recwarn):
    model = Decoder(Lstm, RunningSum, RunningMean, InlineAttention)
    report = analyze(model, IDS, tolerances=(1e-3,))
    assert not recwarn.list
    assert [layer.mixer for layer in report.layers] == [
        "jacobian of LSTM",
        "jacobian of RunningSum",
        "jacobian of Layer",
        "jacobian of InlineAttention",
    ]
    assert [layer.verified for layer in report.layers] == [True] * 4
    assert report.scope == "jacobian"
    # A scaled sum carries one number per channel.
    assert np.unique(report.layers[1].tolerance_ess[1e-3]).tolist() == [WIDTH]
    chosen = analyze(model, IDS, layers=[1, "layers.3"])
    assert [layer.index for layer in chosen.layers] == [1, 3]


def test_a_linear_mixer_gives_what_its_operator_gives():
    model = Decoder(RunningSum).double()
    report = analyze(model, IDS, positions="all", keep_singular_values=True)
    gain = model.layers[0].mixer.gain.detach()
    operator = gain[:, None, None] * torch.ones(LENGTH, LENGTH, dtype=torch.float64).tril()
    siso = hf_ess.block_singular_values(operator, "all", method="svd").values
    union = siso.movedim(0, -1).flatten(-2).sort(-1, descending=True).values.numpy()
    found = report.layers[0].singular_values[0, 0]
    np.testing.assert_allclose(found, union[:, : found.shape[-1]], rtol=0, atol=1e-6 * union.max())


def test_attention_of_transformers_is_measured(tiny_llama):
    ids = tiny_input_ids(tiny_llama, batch=3, length=LENGTH)
    together = analyze(tiny_llama, ids, batch_size=3, tolerances=(1e-3,))
    alone = analyze(tiny_llama, ids[1:2], tolerances=(1e-3,))
    assert [layer.mixer for layer in together.layers] == ["jacobian of LlamaAttention"] * 2
    for joint, single in zip(together.layers, alone.layers, strict=True):
        assert joint.verified
        assert joint.residual_bound == 1e-6
        np.testing.assert_allclose(joint.entropy_ess[1], single.entropy_ess[0], rtol=1e-6)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(joint.entropy_ess[0], joint.entropy_ess[1], rtol=1e-6)


def test_the_model_is_left_as_it_was(tiny_llama):
    ids = tiny_input_ids(tiny_llama, length=LENGTH)
    before = tiny_llama(ids).logits
    analyze(tiny_llama, ids, positions=[4])
    assert torch.equal(tiny_llama(ids).logits, before)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in tiny_llama.modules()
    )
    assert tiny_llama.model.layers[0].self_attn.q_proj.weight.dtype == torch.float32


def test_float32_inside_of_a_module_widens_the_bound():
    model = build_tiny("mamba", num_hidden_layers=1, hidden_size=8, state_size=4)
    (layer,) = analyze(model, tiny_input_ids(model, length=6), tolerances=(1e-2,)).layers
    assert layer.verified
    assert layer.residual_bound == 1e-3
    assert 1e-8 < layer.residual.max() < 1e-3


def test_windows():
    model = Decoder(Gru).double()
    report = analyze(model, IDS, positions=[2, 5], window=(2, 1), keep_singular_values=True)
    (layer,) = report.layers
    name = "layers.0.mixer.cell"
    module, features = model.get_submodule(name), features_of(model, name, IDS)
    expected = numerical_jacobian(lambda u: module(u)[0], features)
    for place, position in enumerate((2, 5)):
        values = block_values(expected, position, WIDTH, WIDTH, (2, 1))
        np.testing.assert_allclose(layer.singular_values[0, 0, place], values, rtol=0, atol=1e-6)
    assert layer.attainable_by_group.tolist() == [[[WIDTH, WIDTH]]]


def test_little_memory_takes_random_products():
    model = Decoder(Gru).double()
    dense = analyze(model, IDS, tolerances=(1e-2, 1e-5))
    budget = 3 * 8 * (LENGTH * WIDTH) ** 2 - 1
    random = analyze(model, IDS, tolerances=(1e-2, 1e-5), memory_budget=budget)
    (layer,) = random.layers
    assert layer.method == "jacobian (randomized)"
    assert layer.verified
    for tau in (1e-2, 1e-5):
        difference = np.abs(layer.tolerance_ess[tau] - dense.layers[0].tolerance_ess[tau])
        assert (difference <= layer.undecided[tau]).all()
    with pytest.raises(hf_ess.MemoryBudgetError, match="random products"):
        analyze(model, IDS, memory_budget=200_000)


def test_a_basis_that_is_too_small_is_flagged():
    model = Decoder(InlineAttention).double()
    with (
        pytest.warns(NumericalFloorWarning, match="lies below"),
        pytest.warns(UserWarning, match=r"entropy-ESS of 1 layer\(s\) leaves out"),
    ):
        report = analyze(model, IDS, tolerances=(1e-5,), memory_budget=32 * 16 * 2 * LENGTH * WIDTH)
    assert report.layers[0].below_floor[1e-5].any()


def test_what_is_not_causal_is_named_and_not_measured():
    with pytest.warns(UnverifiedOperatorWarning, match=r"1 mixer\(s\) were found"):
        report = analyze(Decoder(Gru, BidirectionalAttention), IDS)
    assert [layer.mixer for layer in report.layers] == ["jacobian of GRU"]
    assert [found.name for found in report.unsupported] == ["layers.1.mixer"]
    assert "later inputs" in report.unsupported[0].reason
    with pytest.raises(UnsupportedModelError, match="later inputs"):
        analyze(Decoder(BidirectionalAttention), IDS)


class OneDtype(RunningSum):
    """Holds a matrix that is no parameter, and so keeps its dtype."""

    def __init__(self):
        super().__init__()
        self.matrix = torch.eye(WIDTH)

    def forward(self, features):
        return super().forward(features @ self.matrix.to(self.gain.device))


def test_what_cannot_run_in_float64_is_linearised_in_its_own_dtype():
    report = analyze(Decoder(OneDtype), IDS, tolerances=(1e-3,))
    (layer,) = report.layers
    assert layer.verified
    assert layer.residual_bound == 1e-3
    assert np.unique(layer.tolerance_ess[1e-3]).tolist() == [WIDTH]
    model = Decoder(OneDtype)
    model.layers[0].mixer.matrix = torch.eye(WIDTH).bfloat16()
    with pytest.raises(UnsupportedModelError, match="bfloat16, in which no derivative"):
        analyze(model.bfloat16(), IDS)


def test_weights_that_do_not_fit_in_float64_stay_as_they_are():
    model = Decoder(Lstm)
    weights = 8 * sum(weight.numel() for weight in model.layers[0].mixer.parameters())
    (layer,) = analyze(model, IDS[:, :3], tolerances=(1e-2,), memory_budget=4 * weights - 1).layers
    assert layer.verified
    assert layer.residual_bound == 1e-3
    with pytest.raises(UnsupportedModelError, match="do not fit into the memory budget"):
        analyze(model.bfloat16(), IDS[:, :3], memory_budget=4 * weights - 1)


class Centred(RunningSum):
    """Takes the mean over the batch away."""

    def forward(self, features):
        return super().forward(features - features.mean(0))


def test_samples_that_influence_each_other_are_refused():
    ids = torch.stack([IDS[0], IDS[0].flip(0)])
    with pytest.warns(UnverifiedOperatorWarning, match=r"1 mixer\(s\) were found"):
        report = analyze(Decoder(Gru, Centred), ids, batch_size=2)
    assert report.unsupported[0].reason == "The samples of a batch influence each other."


class Moody(RunningSum):
    """Gives something else every time."""

    runs = 0

    def forward(self, features):
        self.runs += 1
        return super().forward(features) * self.runs


def test_a_module_with_a_memory_of_its_own_is_refused():
    with pytest.warns(UnverifiedOperatorWarning, match=r"1 mixer\(s\) were found"):
        report = analyze(Decoder(Gru, Moody), IDS)
    assert [layer.mixer for layer in report.layers] == ["jacobian of GRU"]
    assert "gives something else" in report.unsupported[0].reason


def test_by_default_nothing_of_it_happens():
    with pytest.warns(UnverifiedOperatorWarning):
        report = hf_ess.analyze(Decoder(Lstm, InlineAttention), IDS, progress=False)
    assert report.scope == "core"
    assert [layer.mixer for layer in report.layers] != ["jacobian of InlineAttention"]
    (unknown,) = report.unsupported
    assert 'method="jacobian" measures its Jacobian' in unknown.reason
    with pytest.raises(UnsupportedModelError, match='method="jacobian"'):
        hf_ess.analyze(Decoder(Lstm), IDS, progress=False)
    code = (
        "import sys, torch, hf_ess\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1,\n"
        "                     num_attention_heads=1, vocab_size=9)\n"
        "model = LlamaForCausalLM(config).eval()\n"
        "hf_ess.analyze(model, torch.arange(8)[None], progress=False)\n"
        "assert not {'model_adapters.jacobian', 'hf_ess.analysis.jacobian'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_reports_say_what_was_measured(tmp_path):
    report = analyze(Decoder(Gru), IDS)
    assert "jacobian of GRU" in report.summary()
    assert "Jacobian" in report.plot("profile").get_suptitle()
    assert report.to_dict()["scope"] == "jacobian"
    assert report.provenance["settings"]["method"] == "jacobian"
    loaded = ESSReport.load(report.save(tmp_path))
    assert loaded.scope == "jacobian"
    assert loaded.fingerprint() == report.fingerprint()


def test_the_command(run_command, llama_folder):
    command = ["analyze", llama_folder, "--text", "w1 w2 w3 w4 w5", "--format", "json"]
    status, output, _ = run_command(*command, "--method", "jacobian")
    assert status == 0
    assert '"scope": "jacobian"' in output
    assert '"mixer": "jacobian of LlamaAttention"' in output
    status, _, errors = run_command(*command, "--method", "magic")
    assert status != 0
    assert "jacobian" in errors
