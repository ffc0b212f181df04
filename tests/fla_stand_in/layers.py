"""Layers that call one function, as those of fla do; features are `[B, L, H, N]`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS, KEY, VALUE = 2, 3, 4
SWITCHES = "use_qk_l2norm_in_kernel", "use_gate_in_kernel", "use_beta_sigmoid_in_kernel"


def wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def scan(q, k, v, step, scale) -> tuple[Tensor, Tensor]:
    """`step(i, S)` is the state after token i without what it writes."""
    dtype, (q, k, v) = v.dtype, (wide(x) for x in (q, k, v))
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    state = k.new_zeros(*k[:, 0].shape, v.shape[-1])
    outputs = []
    for i in range(k.shape[1]):
        state = step(i, state) + k[:, i, :, :, None] * v[:, i, :, None]
        outputs.append((state * q[:, i, :, :, None]).sum(-2) * scale)
    return torch.stack(outputs, 1).to(dtype), state


def chunk_gla(
    q, k, v, g, scale=None, initial_state=None, output_final_state=False,
    state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None,
):  # fmt: skip
    return scan(q, k, v, lambda i, state: wide(g)[:, i, :, :, None].exp() * state, scale)


def fused_recurrent_gla(
    q, k, v, gk=None, gv=None, scale=None, initial_state=None, output_final_state=False,
    reverse=False, state_v_first=False, cu_seqlens=None, **kwargs,
):  # fmt: skip
    return chunk_gla(q, k, v, gk if gk is not None else torch.zeros_like(k), scale)


def chunk_simple_gla(
    q, k, v, g=None, g_gamma=None, scale=None, initial_state=None, output_final_state=False,
    state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None, **kwargs,
):  # fmt: skip
    decay = torch.zeros_like(wide(q)[..., 0]) if g is None else wide(g)
    decay = decay if g_gamma is None else decay + g_gamma
    return scan(q, k, v, lambda i, state: decay[:, i, :, None, None].exp() * state, scale)


def chunk_retention(
    q, k, v, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None, **kwargs
):
    gamma = 1 - 2.0 ** (-5 - torch.arange(q.shape[2], dtype=wide(q).dtype))
    return scan(q, k, v, lambda _, state: gamma[:, None, None] * state, scale)


def chunk_linear_attn(
    q, k, v, scale=None, initial_state=None, output_final_state=False, normalize=True,
    cu_seqlens=None,
):  # fmt: skip
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    o, state = scan(q, k, v, lambda _, state: state, scale)
    if normalize:
        o = wide(o) / ((wide(q) * scale * wide(k).cumsum(1)).sum(-1, keepdim=True) + 1e-10)
    return o.to(v.dtype), state


def chunk_delta_rule(
    q, k, v, beta, scale=None, initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None, **kwargs,
):  # fmt: skip
    if use_qk_l2norm_in_kernel:
        q, k = (
            (wide(x) * torch.rsqrt(wide(x).square().sum(-1, keepdim=True) + 1e-6)).to(x.dtype)
            for x in (q, k)
        )
    keys, strength = wide(k), wide(beta)[..., None]

    def step(i: int, state: Tensor) -> Tensor:
        held = (keys[:, i, :, :, None] * state).sum(-2, keepdim=True)
        return state - (strength * keys)[:, i, :, :, None] * held

    return scan(q, keys, strength * wide(v), step, scale)[0].to(v.dtype), None


def chunk_rwkv6(
    r, k, v, w, u, scale=None, initial_state=None, output_final_state=False,
    cu_seqlens=None, cu_seqlens_cpu=None, **kwargs,
):  # fmt: skip
    dtype, (r, k, v, w, u) = v.dtype, (wide(x) for x in (r, k, v, w, u))
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    state = k.new_zeros(*k[:, 0].shape, v.shape[-1])
    outputs = []
    for i in range(k.shape[1]):
        new = k[:, i, :, :, None] * v[:, i, :, None]
        outputs.append(((state + u[:, :, None] * new) * r[:, i, :, :, None]).sum(-2) * scale)
        state = w[:, i, :, :, None].exp() * state + new
    return torch.stack(outputs, 1).to(dtype), state


def chunk_rwkv7(
    r, w, k, v, a, b, scale=1.0, initial_state=None, output_final_state=False, cu_seqlens=None,
    cu_seqlens_cpu=None, safe_gate=False, chunk_size=None, disable_recompute=False,
    cp_context=None, lower_bound=None,
):  # fmt: skip
    w, a, b = wide(w), wide(a), wide(b)

    def step(i: int, state: Tensor) -> Tensor:
        held = (a[:, i, :, :, None] * state).sum(-2, keepdim=True)
        return w[:, i, :, :, None].exp() * state + b[:, i, :, :, None] * held

    return scan(r, k, v, step, scale)


def fused_mul_recurrent_rwkv7(
    r, w, k, v, kk, a, scale=1.0, initial_state=None, output_final_state=False, reverse=False,
    cu_seqlens=None,
):  # fmt: skip
    return chunk_rwkv7(r, w, k, v, -wide(kk), wide(kk) * wide(a), scale)


def chunk_gated_delta_rule(
    q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False,
    state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None, chunk_indices=None,
    cp_context=None, **kwargs,
):  # fmt: skip
    strength = wide(beta).sigmoid() * (2 if allow_neg_eigval else 1)
    decay = wide(g) + wide(kwargs["dt_bias"])
    decay = -wide(kwargs["A_log"]).exp() * functional.softplus(decay)
    return _gated(q, k, v, decay[..., None], strength, scale)


def chunk_kda(
    q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False, use_beta_sigmoid_in_kernel=False,
    allow_neg_eigval=False, safe_gate=False, lower_bound=None, disable_recompute=False,
    return_intermediate_states=False, state_v_first=False, cu_seqlens=None,
    cu_seqlens_cpu=None, cp_context=None, use_graph=False, max_num_seqs=None, **kwargs,
):  # fmt: skip
    rate = wide(kwargs["A_log"]).exp()[:, None]
    decay = wide(g) + wide(kwargs["dt_bias"]).reshape(HEADS, KEY)
    bounded = lower_bound is not None
    decay = (
        lower_bound * (rate * decay).sigmoid() if bounded else -rate * functional.softplus(decay)
    )
    return _gated(q, k, v, decay, wide(beta).sigmoid(), scale)


def _gated(q, k, v, decay, strength, scale) -> tuple[Tensor, None]:
    unit = [wide(x) * torch.rsqrt(wide(x).square().sum(-1, keepdim=True) + 1e-6) for x in (q, k)]
    query, key = unit
    written = strength[..., None] * key

    def step(i: int, state: Tensor) -> Tensor:
        state = decay[:, i, :, :, None].exp() * state
        return state - written[:, i, :, :, None] * (key[:, i, :, :, None] * state).sum(-2, True)

    return scan(query, written, wide(v), step, scale)[0].to(v.dtype), None


class Layer(nn.Module):
    """A mixer that calls the function `kind` with what it projects."""

    def __init__(self, kind: str, **more: Any) -> None:
        super().__init__()
        width = HEADS * VALUE
        self.kind, self.more = kind, more
        self.qkv = nn.Linear(width, HEADS * (2 * KEY + VALUE))
        self.gates = nn.Linear(width, HEADS * 2 * KEY)
        self.u = nn.Parameter(torch.randn(HEADS, KEY))
        self.A_log = nn.Parameter(torch.randn(HEADS))
        self.dt_bias = nn.Parameter(torch.randn(HEADS * (KEY if kind == "chunk_kda" else 1)))
        self.o_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, inference_params: Any = None) -> Tensor:
        batch, length, _ = hidden.shape
        features = self.qkv(hidden).reshape(batch, length, HEADS, -1)
        q, k, v = features.split([KEY, KEY, VALUE], dim=-1)
        gate, other = self.gates(hidden).reshape(batch, length, HEADS, -1).chunk(2, dim=-1)
        decay = functional.logsigmoid(gate)
        if self.kind == "chunk_linear_attn":
            q, k = functional.elu(q) + 1, functional.elu(k) + 1
        unit = functional.normalize(other, dim=-1)
        named = {
            "chunk_gla": (q, k, v, decay),
            "fused_recurrent_gla": (q, k, v, decay),
            "chunk_simple_gla": (q, k, v, decay[..., 0]),
            "chunk_retention": (q, k, v),
            "chunk_linear_attn": (q, k, v),
            "chunk_delta_rule": (q, k, v, gate[..., 0].sigmoid()),
            "chunk_gated_delta_rule": (q, k, v, gate[..., 0], other[..., 0]),
            "chunk_kda": (q, k, v, gate, other[..., 0]),
            "chunk_rwkv6": (q, k, v, decay, self.u),
            "chunk_rwkv7": (q, decay, k, v, -unit, unit * gate.sigmoid()),
            "fused_mul_recurrent_rwkv7": (q, decay, k, v, unit, gate.sigmoid()),
        }
        function = globals()[self.kind]
        more = self.more if inference_params is None else {"initial_state": inference_params}
        if self.kind in ("chunk_gated_delta_rule", "chunk_kda"):
            switches = dict.fromkeys(SWITCHES, True)
            more = more | switches | {"A_log": self.A_log, "dt_bias": self.dt_bias}
        outputs, _ = function(*named[self.kind], **more)
        return self.o_proj(outputs.reshape(batch, length, -1))
