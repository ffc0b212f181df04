"""Conformance of linear attention and its relatives as fla calls them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from fla_stand_in.layers import HEADS, KEY, VALUE, Layer
from mamba_ssm_stand_in.mixer_seq_simple import MambaLMHeadModel
from naive_recurrent import Call, operators_of
from recurrent_conformance import SHORT, Case, RecurrentConformance, recorded
from torch import Tensor, nn
from torch.nn import functional


def model_of(kind: str, **more: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [Layer(kind, **more) for _ in range(2)]
        return MambaLMHeadModel(layers, HEADS * VALUE).eval()


# A rule says which matrix a token multiplies the state with, what it writes, and what it reads.
Rule = Callable[[Call], tuple[Tensor, Tensor, Tensor]]


def chain(rule: Rule, call: Call) -> Tensor:
    """`M_ij = read_i' A_i .. A_{j+1} write_j`, one product of matrices after the other."""
    matrices, write, read = (part.double().transpose(1, 2) for part in rule(call))
    scale = KEY**-0.5 if call["scale"] is None else call["scale"]
    length = write.shape[2]
    operator = torch.zeros(*write.shape[:2], length, length, dtype=torch.float64)
    for j in range(length):
        state = write[:, :, j]
        for i in range(j, length):
            if i > j:
                state = (matrices[:, :, i] @ state[..., None])[..., 0]
            operator[:, :, i, j] = scale * (read[:, :, i] * state).sum(-1)
    return operator


def decayed(name: str, call: Call) -> tuple[Tensor, Tensor, Tensor]:
    decay = call[name].double().exp()
    decay = decay[..., None].expand_as(call["k"]) if decay.ndim == 3 else decay
    return torch.diag_embed(decay), call["k"], call["q"]


def retained(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    gamma = torch.tensor([1 - 2.0 ** (-5 - head) for head in range(HEADS)], dtype=torch.float64)
    return torch.diag_embed(gamma[:, None].expand_as(call["k"])), call["k"], call["q"]


def replaced(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    query, key = call["q"], call["k"]
    if call["use_qk_l2norm_in_kernel"]:
        query, key = (x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (query, key))
    written = call["beta"][..., None] * key
    matrices = torch.eye(KEY) - written[..., :, None] * key[..., None, :]
    return matrices, written, query


def decayed_and_replaced(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    more = call["kwargs"]
    wide = call["g"].ndim == 4
    rate, bias = more["A_log"].float().exp(), more["dt_bias"].float()
    gate = call["g"].float() + bias.reshape((HEADS, KEY) if wide else (HEADS,))
    rate = rate[:, None] if wide else rate
    if call.get("lower_bound") is not None:
        decay = (call["lower_bound"] * torch.sigmoid(rate * gate)).double().exp()
    else:
        decay = (-rate * functional.softplus(gate)).double().exp()
    strength = call["beta"].float().sigmoid() * (2 if call["allow_neg_eigval"] else 1)
    query, key = call["q"].float(), call["k"].float()
    # In float32, as the adapters of these mixers do it.
    squares = [(x * x).sum(-1, keepdim=True) + 1e-6 for x in (query, key)]
    if wide:
        query, key = (x / torch.sqrt(s) for x, s in zip((query, key), squares, strict=True))
    else:
        query, key = (x * torch.rsqrt(s) for x, s in zip((query, key), squares, strict=True))
    key, query, written = key.double(), query.double(), strength.double()[..., None] * key.double()
    decay = decay if wide else decay[..., None]
    matrices = torch.eye(KEY) - written[..., :, None] * key[..., None, :]
    return matrices * decay[..., None, :], written, query


def low_rank(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    right, left = call["a"], call.get("b")
    if "kk" in call:
        right, left = -call["kk"], call["kk"] * call["a"]
    matrices = torch.diag_embed(call["w"].exp()) + left[..., :, None] * right[..., None, :]
    return matrices, call["k"], call["r"]


def naive_linear_attention(call: Call) -> Tensor:
    scores = torch.einsum("bihn,bjhn->bhij", call["q"].double(), call["k"].double()).tril()
    scores = scores * (KEY**-0.5 if call["scale"] is None else call["scale"])
    return scores / (scores.sum(-1, keepdim=True) + 1e-10) if call["normalize"] else scores


def naive_rwkv6(call: Call) -> Tensor:
    read, key, decay = (call[name].double().transpose(1, 2) for name in ("r", "k", "w"))
    scale = KEY**-0.5 if call["scale"] is None else call["scale"]
    length = key.shape[2]
    operator = torch.zeros(*key.shape[:2], length, length, dtype=torch.float64)
    for i in range(length):
        bonus = read[:, :, i] * call["u"].double() * key[:, :, i]
        operator[:, :, i, i] = scale * bonus.sum(-1)
        for j in range(i):
            passed = decay[:, :, j + 1 : i].sum(2).exp()
            operator[:, :, i, j] = scale * (read[:, :, i] * passed * key[:, :, j]).sum(-1)
    return operator


def _case(kind: str, rule: Callable[[Call], Tensor], name: str = "", **more: Any) -> Case:
    return Case(
        name=name or kind,
        build=partial(model_of, kind, **more),
        naive=partial(_naive, kind, rule),
        state_sizes=(KEY, KEY),
        receiver="o_proj",
    )


def _naive(kind: str, rule: Callable[[Call], Tensor], model: nn.Module, ids: Tensor):
    return operators_of(model, ids, kind, rule)


class _OfFla(RecurrentConformance):
    def cached(self, model: nn.Module, result: Any) -> dict[str, Any]:
        return {"inference_params": torch.zeros(1, HEADS, KEY, VALUE)}

    def test_outputs_are_what_the_layer_passes_on(self, case: Case, model: nn.Module) -> None:
        # The layer joins heads within a token: outputs are `[B, H, L, C]`.
        received: list[Tensor] = []
        for layer in model.backbone.layers:
            layer.mixer.o_proj.register_forward_pre_hook(lambda _, args: received.append(args[0]))
        layers = self.record(model, torch.arange(SHORT)[None])
        assert len(received) == len(layers)
        for layer, features in zip(layers, received, strict=True):
            assert torch.equal(layer.outputs.transpose(1, 2).flatten(2), features)


class TestGatedLinearAttention(_OfFla):
    mixer = "gated linear attention"
    cases = (
        _case("chunk_gla", partial(chain, partial(decayed, "g")), scale=0.7),
        _case("fused_recurrent_gla", partial(chain, partial(decayed, "gk"))),
    )


class TestSimpleGatedLinearAttention(_OfFla):
    mixer = "simple gated linear attention"
    cases = (_case("chunk_simple_gla", partial(chain, partial(decayed, "g"))),)


class TestRetention(_OfFla):
    mixer = "retention"
    cases = (_case("chunk_retention", partial(chain, retained)),)


class TestLinearAttention(_OfFla):
    mixer = "linear attention"
    cases = (
        _case("chunk_linear_attn", naive_linear_attention, "normalised"),
        _case("chunk_linear_attn", naive_linear_attention, "sums", normalize=False),
    )


class TestDeltaNet(_OfFla):
    mixer = "delta rule"
    cases = (
        _case("chunk_delta_rule", partial(chain, replaced), use_qk_l2norm_in_kernel=True),
        _case("chunk_delta_rule", partial(chain, replaced), "keys_as_they_are", scale=1.0),
    )


class TestGatedDeltaNet(_OfFla):
    mixer = "gated delta rule"
    cases = (
        _case(
            "chunk_gated_delta_rule", partial(chain, decayed_and_replaced), allow_neg_eigval=True
        ),
    )


class TestKimiDeltaAttention(_OfFla):
    mixer = "kimi delta attention"
    cases = (
        _case("chunk_kda", partial(chain, decayed_and_replaced)),
        _case("chunk_kda", partial(chain, decayed_and_replaced), "bounded", lower_bound=-5.0),
    )


class TestRWKV6(_OfFla):
    mixer = "RWKV-6"
    cases = (_case("chunk_rwkv6", naive_rwkv6, scale=1.0),)


class TestRWKV7(_OfFla):
    mixer = "RWKV-7"
    cases = (
        _case("chunk_rwkv7", partial(chain, low_rank)),
        _case("fused_mul_recurrent_rwkv7", partial(chain, low_rank)),
    )


@pytest.mark.parametrize(
    ("kind", "mixer", "more", "reason"),
    [
        ("chunk_gla", "gated linear attention", {"cu_seqlens": torch.tensor([0, 4, 9])}, "packed"),
        ("fused_recurrent_gla", "gated linear attention", {"gv": torch.zeros(1)}, "value channels"),
        ("fused_recurrent_gla", "gated linear attention", {"reverse": True}, "last token"),
    ],
)
def test_calls_that_are_no_operator_on_one_text(kind, mixer, more, reason) -> None:
    model = model_of(kind, **more)
    layers, recorder, _ = recorded(model, torch.arange(SHORT)[None], mixer)
    assert not layers
    assert all(reason in layer.reason for layer in recorder.refused)
    assert len(recorder.refused) == 2


def test_constant_decays_of_the_heads() -> None:
    gamma = functional.logsigmoid(torch.linspace(1, 2, HEADS))
    model = model_of("chunk_simple_gla", g_gamma=gamma)
    layers, _, _ = recorded(model, torch.arange(SHORT)[None], "simple gated linear attention")
    for layer in layers:
        error = layer.operator.to_dense() @ layer.inputs.double() - layer.outputs
        assert float(error.abs().max()) <= 1e-5 * float(layer.outputs.abs().max())
