"""Models put together by hand: attention of many kinds between mixers that nobody knows.

Each attention can say its operator itself, from its weights and the hidden states, in numpy and
float64: nothing of the package, and nothing that it watches, takes part in that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from analysis.handmade import VOCABULARY, WIDTH, Decoder, Lstm, Pointwise, RunningMean, RunningSum
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UNKNOWN", "VOCABULARY", "HandmadeAttention", "composed_model"]

UNKNOWN = {"lstm": Lstm, "sum": RunningSum, "mean": RunningMean}
THETA = 100.0


@dataclass(frozen=True)
class Form:
    """What kind of attention: scores, masks, heads."""

    kv_heads: int = 1
    shared_by: int = 1
    width: int = 4
    window: int | None = None
    soft_cap: float | None = None
    sinks: bool = False
    qk_norm: bool = False
    rotary: int = 0
    alibi: bool = False

    @property
    def heads(self) -> int:
        return self.kv_heads * self.shared_by


class HandmadeAttention(nn.Module):
    """Causal softmax attention in one of many forms, with a softmax of its own or torch's fused.

    The fused function has no soft cap and no sinks; those are left out then.
    """

    def __init__(self, form: Form, *, fused: bool) -> None:
        super().__init__()
        self.form, self.fused = form, fused
        self.q_proj = nn.Linear(WIDTH, form.heads * form.width)
        self.k_proj = nn.Linear(WIDTH, form.kv_heads * form.width)
        self.v_proj = nn.Linear(WIDTH, form.kv_heads * form.width)
        self.o_proj = nn.Linear(form.heads * form.width, WIDTH)
        self.sinks = nn.Parameter(torch.randn(form.heads))

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = (self._heads(p, features) for p in (self.q_proj, self.k_proj, None))
        bias = self._bias(features.shape[1]).to(features.dtype)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            mixed = self._weights(query, key, bias) @ value
        return self.o_proj(mixed.transpose(1, 2).flatten(-2))

    def _weights(self, query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if self.form.soft_cap:
            scores = torch.tanh(scores / self.form.soft_cap) * self.form.soft_cap
        scores = scores + bias
        if not self.form.sinks:
            return torch.softmax(scores, dim=-1)
        sink = self.sinks[:, None, None].expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat([scores, sink], dim=-1), dim=-1)[..., :-1]

    def _heads(self, projection: nn.Linear | None, features: Tensor) -> Tensor:
        """`[B, H, L, D]`, turned and normalised unless they are values."""
        projected = (projection or self.v_proj)(features)
        heads = projected.unflatten(-1, (-1, self.form.width)).transpose(1, 2)
        if projection is not None and self.form.qk_norm:
            heads = functional.rms_norm(heads, heads.shape[-1:])
        if projection is not None and self.form.rotary:
            heads = self._turned(heads)
        return heads.repeat_interleave(self.form.heads // heads.shape[1], dim=1)

    def _turned(self, heads: Tensor) -> Tensor:
        """The first channels as pairs of neighbours, turned by the token's angle."""
        half = self.form.rotary // 2
        first, second = heads[..., : 2 * half : 2], heads[..., 1 : 2 * half : 2]
        rates = THETA ** (-torch.arange(half, dtype=torch.float64) / max(half, 1))
        angles = (torch.arange(heads.shape[-2])[:, None] * rates).to(heads.dtype)
        pairs = (
            (first * angles.cos() - second * angles.sin()),
            (second * angles.cos() + first * angles.sin()),
        )
        return torch.cat([torch.stack(pairs, -1).flatten(-2), heads[..., 2 * half :]], -1)

    def _bias(self, length: int) -> Tensor:
        """`[H, L, L]`: minus infinity where nothing is seen, and ALiBi's slopes."""
        distance = torch.arange(length)[:, None] - torch.arange(length)
        hidden = (distance < 0) | (distance >= (self.form.window or length))
        slopes = 2.0 ** -torch.arange(1, self.form.heads + 1) if self.form.alibi else torch.zeros(1)
        bias = -slopes[:, None, None] * distance
        return bias.masked_fill(hidden, -torch.inf).expand(self.form.heads, -1, -1)

    def true_operator(self, features: Tensor) -> np.ndarray:
        """M `[B, H, L, L]` of hidden states `[B, L, WIDTH]`, number by number as defined."""
        query, key = (self._true_heads(part, features) for part in (self.q_proj, self.k_proj))
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(self.form.width)
        length = features.shape[1]
        cap = None if self.fused else self.form.soft_cap
        operator = np.zeros(scores.shape)
        for head, i in np.ndindex(self.form.heads, length):
            first = max(0, i + 1 - (self.form.window or length))
            seen = scores[:, head, i, first : i + 1]
            seen = cap * np.tanh(seen / cap) if cap else seen
            if self.form.alibi:
                seen = seen - 2.0 ** -(head + 1) * np.arange(i - first, -1, -1)
            powers = np.exp(seen)
            total = powers.sum(-1, keepdims=True)
            if self.form.sinks and not self.fused:
                total = total + np.exp(float(self.sinks[head].detach()))
            operator[:, head, i, first : i + 1] = powers / total
        return operator

    def _true_heads(self, projection: nn.Linear, features: Tensor) -> np.ndarray:
        weight, bias = (part.detach().double().numpy() for part in projection.parameters())
        projected = features.double().numpy() @ weight.T + bias
        heads = projected.reshape(*projected.shape[:2], -1, self.form.width).swapaxes(1, 2)
        if self.form.qk_norm:
            # torch's own smallest number beside the mean of squares.
            smallest = torch.finfo(features.dtype).eps
            heads = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + smallest)
        heads = heads.copy()
        half = self.form.rotary // 2
        for pair in range(half):
            angles = np.arange(heads.shape[2]) * THETA ** (-pair / half)
            turned = (heads[..., 2 * pair] + 1j * heads[..., 2 * pair + 1]) * np.exp(1j * angles)
            heads[..., 2 * pair], heads[..., 2 * pair + 1] = turned.real, turned.imag
        return np.repeat(heads, self.form.heads // heads.shape[1], axis=1)


def composed_model(config: Mapping[str, Any]) -> nn.Module:
    """A decoder of the named mixers; "shared" is one and the same attention wherever it stands."""
    entries = dict(config)
    names = entries.pop("mixers", ["attention"])
    form = Form(**entries)
    shared = HandmadeAttention(form, fused=False)
    builders = {
        "attention": lambda: HandmadeAttention(form, fused=False),
        "fused": lambda: HandmadeAttention(form, fused=True),
        "shared": lambda: shared,
        "pointwise": Pointwise,
        **UNKNOWN,
    }
    return Decoder(*(builders[name] for name in names))
