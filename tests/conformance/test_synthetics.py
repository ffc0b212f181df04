"""Conformance of the synthetic models: the adapters of other packages' mixers take them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from adapter_conformance import AdapterConformance
from naive_attention import inputs_of
from naive_recurrent import earlier_pairs
from recurrent_conformance import LENGTH, Case, RecurrentConformance
from tiny_models import tiny_input_ids
from torch import Tensor, nn
from torch.nn import functional

import hf_ess
from hf_ess.synthetics import MIXERS, SyntheticConfig, SyntheticForCausalLM, build_model
from model_adapters import LayerOperator

WIDTH, HEADS, STATE = 16, 2, 6
HEAD = WIDTH // HEADS
TEMPERATURE, ALPHA, THETA = 4.0, 8.0, 100.0
# A state of its own for each layer, as a truncated model has it, and pairs that are left of LA's.
OWN = 4
LEFT = ((0, 2), (1, 3))

Naive = Callable[[nn.Module, Tensor], Tensor]


def model_of(
    *mixers: str, attention: str | None = None, own: int | None = None
) -> SyntheticForCausalLM:
    config = SyntheticConfig(
        mixers,
        vocab_size=60,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        state_size=STATE,
        state_sizes=[own] * len(mixers),
        decay_temperature=TEMPERATURE,
        alpha=ALPHA,
        rope_theta=THETA,
        filter_length=LENGTH,
        attn_implementation=attention,
    )
    model = build_model(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # constants hide whether they are used
        for weight in model.parameters():
            if weight.min() == weight.max():
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
        for name, turns in model.named_buffers():
            assert name.endswith("turns")
            turns.copy_(torch.tensor([LEFT, ((HEAD // 2,) * 2,) * HEADS]))
    return model


def naive_of(of_mixer: Naive, model: nn.Module, ids: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found = list(inputs_of(model, ids, ".mixer"))
        return [of_mixer(mixer, hidden) for mixer, hidden, _ in found]


def heads_of(projection: nn.Linear, hidden: Tensor) -> Tensor:
    """`[B, h, L, N]`."""
    return projection(hidden).unflatten(-1, (HEADS, -1)).transpose(1, 2)


def turned(features: Tensor) -> Tensor:
    """Each pair as a complex number, times `exp(i t angle)`."""
    pairs = torch.complex(*features.chunk(2, -1))
    steps = torch.arange(features.shape[2], dtype=torch.float64)[:, None]
    numbers = torch.arange(HEAD // 2, dtype=torch.float64)[None]
    if pairs.shape[-1] == OWN // 2:
        numbers = torch.tensor(LEFT, dtype=torch.float64)
    angles = steps * THETA ** (-2 * numbers[:, None] / HEAD)
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], -1)


def entries(query: Tensor, key: Tensor, decay: Tensor) -> Tensor:
    """`M_ij = sum_n q_in a_in .. a_(j+1)n k_jn`, one product after the other."""
    length = query.shape[2]
    operator = query.new_zeros(*query.shape[:2], length, length)
    for i, j in earlier_pairs(length):
        passed = decay[:, :, j + 1 : i + 1].prod(2)
        operator[:, :, i, j] = (query[:, :, i] * passed * key[:, :, j]).sum(-1)
    return operator


def naive_la(mixer: nn.Module, hidden: Tensor) -> Tensor:
    query, key = (turned(heads_of(part, hidden)) for part in (mixer.q_proj, mixer.k_proj))
    return entries(query, key, torch.ones_like(key))


def naive_sa(mixer: nn.Module, hidden: Tensor) -> Tensor:
    query, key = (turned(heads_of(part, hidden)) for part in (mixer.q_proj, mixer.k_proj))
    weights = entries(query / HEAD**0.5, key, torch.ones_like(key)).exp().tril()
    return weights / weights.sum(-1, keepdim=True)


def naive_wla(mixer: nn.Module, hidden: Tensor) -> Tensor:
    query, key = (heads_of(part, hidden) for part in (mixer.q_proj, mixer.k_proj))
    decay = torch.sigmoid(mixer.decay_logits) ** (1 / TEMPERATURE)
    return entries(query, key, decay[:, None].expand_as(key))


def naive_gla(mixer: nn.Module, hidden: Tensor) -> Tensor:
    query, key = (heads_of(part, hidden) for part in (mixer.q_proj, mixer.k_proj))
    gate = heads_of(mixer.gate_up, hidden @ mixer.gate_down.weight.T)
    return entries(query, key, torch.sigmoid(gate) ** (1 / TEMPERATURE))


def naive_gla_s6(mixer: nn.Module, hidden: Tensor) -> Tensor:
    query, key = (heads_of(part, hidden) for part in (mixer.q_proj, mixer.k_proj))
    gate = heads_of(mixer.gate_up, hidden @ mixer.gate_down.weight.T)
    rates = torch.arange(1, key.shape[-1] + 1, dtype=torch.float64) / ALPHA
    torch.testing.assert_close(mixer.log_rate.exp(), rates.expand(HEADS, -1), rtol=1e-6, atol=0.0)
    return entries(query, key, (-mixer.log_rate.exp()[:, None] * functional.softplus(gate)).exp())


def naive_state_space(mixer: nn.Module, hidden: Tensor) -> Tensor:
    """Each channel a head of its own, `dt = log(1 + exp(W u + b))`."""
    direct = torch.zeros(WIDTH, dtype=torch.float64)
    if hasattr(mixer, "conv1d"):
        hidden = functional.silu(convolved(mixer.in_proj(hidden), mixer.conv1d))
        direct = mixer.direct
    step = mixer.dt_proj(hidden).exp().log1p().mT[..., None]
    write, read = (part(hidden)[:, None] for part in (mixer.b_proj, mixer.c_proj))
    operator = entries(read.expand(-1, WIDTH, -1, -1), step * write, (-step * rates(mixer)).exp())
    return operator + torch.diag_embed(direct[:, None].expand(-1, hidden.shape[1]))


def rates(mixer: nn.Module) -> Tensor:
    found = mixer.log_rate.exp()
    expected = torch.arange(1, found.shape[-1] + 1, dtype=torch.float64) / ALPHA
    torch.testing.assert_close(found, expected.expand(WIDTH, -1), rtol=1e-6, atol=0.0)
    return found[:, None]


def convolved(features: Tensor, conv: nn.Conv1d) -> Tensor:
    """`[B, L, D]` after `sum_k w_(K-1-k) u_(i-k) + b`."""
    taps = conv.weight[:, 0].flip(-1)
    outputs = torch.zeros_like(features)
    for back in range(taps.shape[-1]):
        outputs[:, back:] += taps[:, back] * features[:, : features.shape[1] - back]
    return outputs if conv.bias is None else outputs + conv.bias


def naive_hyena(mixer: nn.Module, hidden: Tensor) -> Tensor:
    features = convolved(mixer.in_proj(hidden), mixer.short_filter).mT
    last, first, _ = features.chunk(3, dim=1)
    taps, length = mixer.filter_fn.taps(hidden.shape[1]), hidden.shape[1]
    operator = hidden.new_zeros(len(hidden), WIDTH, length, length)
    for i, j in earlier_pairs(length):
        tap = taps[:, i - j] + (mixer.filter_fn.direct if i == j else 0.0)
        operator[:, :, i, j] = last[:, :, i] * tap * first[:, :, j]
    return operator


def _case(
    mixer: str,
    naive: Naive,
    state: int | None,
    *,
    attention: str | None = None,
    own: int | None = None,
) -> Case:
    return Case(
        name="-".join(str(part) for part in (mixer, attention, own) if part),
        build=partial(model_of, mixer, mixer, attention=attention, own=own),
        naive=partial(naive_of, naive),
        state_sizes=(state, state),
        receiver="out_proj" if mixer in ("S6", "Mamba", "Hyena") else "o_proj",
    )


class _Synthetic(RecurrentConformance):
    # There is no cache.
    test_calls_that_go_on_from_a_state_are_refused = None


class TestLinearAttention(_Synthetic):
    mixer = "linear attention"
    cases = (_case("LA", naive_la, HEAD), _case("LA", naive_la, OWN, own=OWN))


class TestDecayedLinearAttention(_Synthetic):
    mixer = "gated linear attention"
    cases = (
        _case("GLA", naive_gla, HEAD),
        _case("WLA", naive_wla, HEAD),
        _case("GLA-S6", naive_gla_s6, HEAD),
        _case("GLA", naive_gla, OWN, own=OWN),
        _case("WLA", naive_wla, OWN, own=OWN),
        _case("GLA-S6", naive_gla_s6, OWN, own=OWN),
    )


class TestSoftmaxAttention(AdapterConformance):
    mixer = "softmax attention"
    cases = (
        _case("SA", naive_sa, None, attention="eager"),
        _case("SA", naive_sa, None, attention="sdpa"),
    )


class TestStateSpaces(_Synthetic):
    mixer = "mamba"
    cases = (
        _case("S6", naive_state_space, STATE),
        _case("Mamba", naive_state_space, STATE),
        _case("S6", naive_state_space, OWN, own=OWN),
        _case("Mamba", naive_state_space, OWN, own=OWN),
    )


class TestHyena(_Synthetic):
    mixer = "hyena"
    cases = (_case("Hyena", naive_hyena, None),)


def test_a_hybrid_of_all_mixers_is_measured_completely() -> None:
    model = model_of(*MIXERS)
    report = hf_ess.analyze(model, tiny_input_ids(model, batch=2, length=LENGTH), progress=False)
    assert [(layer.name, layer.index) for layer in report.layers] == [
        (f"layers.{index}.mixer", index) for index in range(len(MIXERS))
    ]
    assert all(layer.verified and layer.residual.max() < 1e-5 for layer in report.layers)
    assert not report.unsupported


@pytest.mark.parametrize("mixer", ["Mamba", "GLA", "SA", "Hyena"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(mixer: str, side: str) -> None:
    model = model_of(mixer, mixer)
    ids = tiny_input_ids(model, length=LENGTH)
    padding = (4, 0) if side == "left" else (0, 4)
    padded = functional.pad(ids, padding)
    mask = functional.pad(torch.ones_like(ids), padding)
    with torch.no_grad():
        alone = model(input_ids=ids).logits
        beside = model(input_ids=padded, attention_mask=mask).logits
    beside = beside[:, 4:] if side == "left" else beside[:, :LENGTH]
    torch.testing.assert_close(beside, alone, rtol=0.0, atol=1e-5)
    report = hf_ess.analyze(model, {"input_ids": padded, "attention_mask": mask}, progress=False)
    assert all(layer.verified for layer in report.layers)


def test_the_mixer_around_its_core() -> None:
    model = model_of("Mamba")
    ids = tiny_input_ids(model, length=LENGTH)
    mask = torch.ones_like(ids)
    mask[:, :4] = 0
    layers: list[LayerOperator] = []
    with torch.no_grad(), hf_ess.record_operators(model, layers.append, scope="mixer"):
        model(input_ids=ids, attention_mask=mask)
    assert [layer.scope for layer in layers] == ["mixer"]
    (layer,) = layers
    rebuilt = layer.operator.apply(layer.inputs) + layer.output_offset
    torch.testing.assert_close(rebuilt, layer.outputs.double(), rtol=0.0, atol=1e-5)
