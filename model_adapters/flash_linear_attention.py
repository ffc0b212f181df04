"""Linear attention and its relatives as the flash-linear-attention package (fla) calls them.

Layers of fla call one function of `fla.ops` with queries, keys and values `[B, L, H, N]`. The
signatures and conventions are those of fla-core 0.6.0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import (
    DeltaRule,
    DiagonalDecay,
    DiagonalPlusLowRank,
    LinearOperator,
    ScalarDecay,
    StateSpaceOperator,
)
from model_adapters.function_adapter import (
    Captured,
    FunctionAdapter,
    refuse_earlier_state,
    refuse_packed_sequences,
)
from model_adapters.registry import register_adapter

# Under the root of normalised keys and queries, and in the denominator of normalised attention.
EPSILON = 1e-6
DENOMINATOR = 1e-10


class _FlashFunction(FunctionAdapter):
    """What the functions share: layout, scale of the queries, states and packed texts."""

    keeps_graph = True

    @abstractmethod
    def operator(self, call: dict[str, Any]) -> LinearOperator:
        """The operator of a call whose features are `[B, H, L, N]`."""

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        refuse_earlier_state(call, "initial_state")
        refuse_packed_sequences(call, "cu_seqlens")
        if call.get("reverse"):
            raise UnsupportedMixerError("it runs from the last token to the first")
        outputs = result[0] if isinstance(result, tuple) else result
        return Captured(
            operator=self.operator(call),
            inputs=heads_first(call["v"]),
            outputs=heads_first(outputs.detach()).to(call["v"].dtype),
        )


@register_adapter
class GatedLinearAttention(_FlashFunction):
    """`S_i = Diag(e^{g_i}) S_{i-1} + k_i v_i'`, `o_i = s S_i' q_i`: a decay for each key channel.

    Source: Yang et al., "Gated Linear Attention Transformers with Hardware-Efficient Training",
    ICML 2024, eq. 3; Qin et al., "HGRN2", COLM 2024 (keys are one minus the decay).
    """

    mixer = "gated linear attention"
    models = "GatedLinearAttention and HGRN2Attention of fla; GLA, WLA, GLA-S6 of hf_ess.synthetics"
    functions = ("chunk_gla", "fused_chunk_gla", "fused_recurrent_gla")

    def operator(self, call: dict[str, Any]) -> LinearOperator:
        if call.get("gv") is not None:
            raise UnsupportedMixerError("its decays differ between value channels")
        gate = call["g"] if "g" in call else call["gk"]
        if gate is None:
            return _attention(call, ScalarDecay(_none(call)))
        return _attention(call, DiagonalDecay(log_decay=heads_first(gate)))


@register_adapter
class SimpleGatedLinearAttention(_FlashFunction):
    """`S_i = e^{g_i} S_{i-1} + k_i v_i'`, `o_i = s S_i' q_i`: one decay for each head and token.

    Source: Yang et al., "Gated Linear Attention Transformers", ICML 2024, table 1; Dao and Gu,
    "Transformers are SSMs", ICML 2024.
    """

    mixer = "simple gated linear attention"
    models = "SimpleGatedLinearAttention of fla"
    functions = (
        "chunk_simple_gla",
        "fused_chunk_simple_gla",
        "fused_recurrent_simple_gla",
        "parallel_simple_gla",
    )

    def operator(self, call: dict[str, Any]) -> LinearOperator:
        gate, constant = call["g"], call.get("g_gamma")
        decay = _none(call) if gate is None else gate.transpose(1, 2).double()
        if constant is not None:
            decay = decay + constant.double()[None, :, None]
        return _attention(call, ScalarDecay(decay))


@register_adapter
class Retention(_FlashFunction):
    """`M_ij = s (q_i . k_j) d_h^(i-j)` with the constants `d_h = 1 - 2^(-5-h)`.

    Source: Sun et al., "Retentive Network: A Successor to Transformer for Large Language Models",
    2023, eq. 5 and section 2.2.
    """

    mixer = "retention"
    models = "MultiScaleRetention of fla"
    functions = (
        "chunk_retention",
        "fused_chunk_retention",
        "fused_recurrent_retention",
        "parallel_retention",
    )

    def operator(self, call: dict[str, Any]) -> LinearOperator:
        heads = torch.arange(call["q"].shape[2], device=call["q"].device, dtype=torch.float64)
        return _attention(call, ScalarDecay(torch.log1p(-(2.0 ** (-5 - heads)))[None, :, None]))


@register_adapter
class LinearAttention(_FlashFunction):
    """`M_ij = s q_i . k_j`, where asked divided by the sum of its row.

    Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020, eq. 5.
    """

    mixer = "linear attention"
    models = "LinearAttention of fla; LA of hf_ess.synthetics"
    functions = ("chunk_linear_attn", "fused_chunk_linear_attn", "fused_recurrent_linear_attn")

    def operator(self, call: dict[str, Any]) -> LinearOperator:
        scale = _scale(call)
        if call.get("normalize"):
            keys = heads_first(call["k"]).double().cumsum(2)
            scale = scale / (scale * (heads_first(call["q"]) * keys).sum(-1) + DENOMINATOR)
        return _attention(call, ScalarDecay(_none(call)), scale=scale)


@register_adapter
class DeltaNet(_FlashFunction):
    """`S_i = (I - b_i k_i k_i') S_{i-1} + b_i k_i v_i'`, `o_i = s S_i' q_i`.

    Source: Schlag et al., "Linear Transformers Are Secretly Fast Weight Programmers", ICML 2021,
    eq. 24; Yang et al., "Parallelizing Linear Transformers with the Delta Rule", NeurIPS 2024.
    """

    mixer = "delta rule"
    models = "DeltaNet of fla"
    functions = ("chunk_delta_rule", "fused_recurrent_delta_rule")

    def operator(self, call: dict[str, Any]) -> LinearOperator:
        if call["use_qk_l2norm_in_kernel"]:
            call = call | {name: _normalised(call[name]) for name in ("q", "k")}
        beta = call["beta"]
        if beta is None or beta.ndim != 3:
            raise UnsupportedMixerError("its strengths beta are not one for each head and token")
        beta, key = beta.transpose(1, 2), heads_first(call["k"])
        return _attention(call, DeltaRule(key, beta), strength=beta)


@register_adapter
class RWKV6(_FlashFunction):
    """`o_i = s (S_{i-1} + Diag(u) k_i v_i')' r_i`, `S_i = Diag(e^{w_i}) S_{i-1} + k_i v_i'`.

    So the present token has a weight u of its own, and the decay of a token acts on later ones.

    Source: Peng et al., "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence",
    COLM 2024, eq. 16-18.
    """

    mixer = "RWKV-6"
    models = "RWKV6Attention of fla"
    functions = ("chunk_rwkv6", "fused_recurrent_rwkv6")

    def operator(self, call: dict[str, Any]) -> LinearOperator:
        call = call | {"q": call["r"]}
        read, write, scale = heads_first(call["r"]), heads_first(call["k"]), _scale(call)
        present = read.double() * call["u"].double()[None, :, None] * write
        return StateSpaceOperator(
            DiagonalDecay(log_decay=heads_first(call["w"])),
            write=write,
            read=read,
            direct=scale * present.sum(-1),
            read_scale=scale,
            reads="before",
        )


@register_adapter
class RWKV7(_FlashFunction):
    """`S_i = (Diag(e^{w_i}) + b_i a_i') S_{i-1} + k_i v_i'`, `o_i = s S_i' r_i`.

    Source: Peng et al., "RWKV-7 'Goose' with Expressive Dynamic State Evolution", 2025, eq. 17.
    """

    mixer = "RWKV-7"
    models = "RWKV7Attention of fla"
    functions = ("chunk_rwkv7", "fused_recurrent_rwkv7", "fused_mul_recurrent_rwkv7")

    def operator(self, call: dict[str, Any]) -> LinearOperator:
        call = call | {"q": call["r"]}
        if "kk" in call:
            right, left = -call["kk"], call["kk"].double() * call["a"]
        else:
            right, left = call["a"], call["b"]
        decay = heads_first(call["w"]).double().exp()
        return _attention(call, DiagonalPlusLowRank(decay, heads_first(left), heads_first(right)))


def heads_first(features: Tensor) -> Tensor:
    """`[B, L, H, N]` as `[B, H, L, N]`."""
    return features.transpose(1, 2)


def _attention(
    call: dict[str, Any],
    transition: Any,
    *,
    scale: Tensor | None = None,
    strength: Tensor | None = None,
) -> StateSpaceOperator:
    """A recurrence that keys write and queries read."""
    return StateSpaceOperator(
        transition,
        write=heads_first(call["k"]),
        read=heads_first(call["q"]),
        write_scale=strength,
        read_scale=_scale(call) if scale is None else scale,
    )


def _scale(call: dict[str, Any]) -> Tensor:
    """`[1, 1, 1]`, the factor on the queries."""
    scale = call["q"].shape[-1] ** -0.5 if call["scale"] is None else float(call["scale"])
    return torch.full((1, 1, 1), scale, dtype=torch.float64, device=call["q"].device)


def _none(call: dict[str, Any]) -> Tensor:
    """The logarithm of no decay, `[1, 1, 1]`."""
    return torch.zeros(1, 1, 1, dtype=torch.float64, device=call["q"].device)


def _normalised(features: Tensor) -> Tensor:
    """Length one; the kernels sum in float32 and round to the dtype of the features."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    length = torch.rsqrt((wide * wide).sum(-1, keepdim=True) + EPSILON)
    return (wide * length).to(features.dtype)
