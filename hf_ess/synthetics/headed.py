"""Mixers of heads: queries read what keys wrote, and values are carried (LA, GLA, WLA, SA).

Names: q, k are C and B of the paper. Source: Parnichkun et al., ICML 2025, appendix D.2.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_ess.synthetics.configuration import SyntheticConfig
from hf_ess.synthetics.masks import UNMASKED, Masks
from hf_ess.synthetics.scans import chunk_gla, chunk_linear_attn


class HeadedMixer(nn.Module):
    """Queries, keys, values and output of h heads, `[B, L, d]` to `[B, L, d]`.

    Values have d / h channels for each head, queries and keys N, by default as many.
    """

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.state_size = config.head_dim if state_size is None else state_size
        self.q_proj = nn.Linear(width, self.heads * self.state_size, bias=False)
        self.k_proj = nn.Linear(width, self.heads * self.state_size, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def split(self, features: Tensor) -> Tensor:
        """`[B, L, h * N]` as `[B, L, h, N]`."""
        return features.reshape(*features.shape[:-1], self.heads, -1)

    def joined(self, mixed: Tensor) -> Tensor:
        """The output `[B, L, d]` of heads `[B, L, h, d / h]`."""
        output: Tensor = self.o_proj(mixed.flatten(-2))
        return output

    def features(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[B, L, h, N]`, keys `[B, L, h, N]`, and values `[B, L, h, d / h]`."""
        projections = self.q_proj, self.k_proj, self.v_proj
        query, key, value = (self.split(project(hidden_states)) for project in projections)
        return query, key, value

    def reset_parameters(self) -> None:
        """Gives the mixer's own parameters their values before training."""


class LinearAttention(HeadedMixer):
    """LA: `A = I`, rotary embeddings on B and C.

    With a state size of its own it knows how fast each pair of channels of each head turns, so
    that pairs which are left of a larger state turn as before: by `theta^(-turns[0] / turns[1])`,
    whole numbers, which no change of the dtype rounds.
    """

    turns: Tensor | None

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__(config, state_size)
        self.theta = config.rope_theta
        turns = None if state_size is None else standard_turns(state_size, self.heads)
        self.register_buffer("turns", turns)

    def forward(self, hidden_states: Tensor, masks: Masks = UNMASKED) -> Tensor:
        query, key, value = self.features(hidden_states)
        query, key = (rotated(features, self.theta, self.turns) for features in (query, key))
        mixed = chunk_linear_attn(query, key, value, scale=1.0)
        return self.joined(mixed)

    def reset_parameters(self) -> None:
        if self.turns is not None:
            init.copy_(self.turns, standard_turns(self.state_size, self.heads))


class DecayedMixer(HeadedMixer):
    """Linear attention whose states decay, each channel by a logarithm that subclasses give."""

    @abstractmethod
    def log_decay(self, hidden_states: Tensor) -> Tensor:
        """`[B|1, L|1, h, N]`, at most 0, in float32 at least."""

    def forward(self, hidden_states: Tensor, masks: Masks = UNMASKED) -> Tensor:
        query, key, value = self.features(hidden_states)
        mixed = chunk_gla(query, key, value, self.log_decay(hidden_states), scale=1.0)
        return self.joined(mixed)


class WeightedLinearAttention(DecayedMixer):
    """WLA: `A = diag(sigmoid(a) ^ (1 / beta))` with learned a, 0 before training."""

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__(config, state_size)
        self.temperature = config.decay_temperature
        self.decay_logits = nn.Parameter(torch.zeros(self.heads, self.state_size))

    def log_decay(self, hidden_states: Tensor) -> Tensor:
        return _log_sigmoid(self.decay_logits, self.temperature)[None, None]

    def reset_parameters(self) -> None:
        init.zeros_(self.decay_logits)


class GatedMixer(DecayedMixer):
    """Gates `W_A2 W_A1 u` for each channel of each head."""

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__(config, state_size)
        self.gate_down = nn.Linear(config.hidden_size, config.decay_rank, bias=False)
        self.gate_up = nn.Linear(config.decay_rank, self.heads * self.state_size, bias=False)

    def gate(self, hidden_states: Tensor) -> Tensor:
        """`[B, L, h, N]`."""
        return self.split(self.gate_up(self.gate_down(hidden_states)))


class GatedLinearAttention(GatedMixer):
    """GLA: `A_i = diag(sigmoid(W_A2 W_A1 u_i) ^ (1 / beta))`."""

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__(config, state_size)
        self.temperature = config.decay_temperature

    def log_decay(self, hidden_states: Tensor) -> Tensor:
        return _log_sigmoid(self.gate(hidden_states), self.temperature)


class SelectiveLinearAttention(GatedMixer):
    """GLA-S6: `A_i = exp(-[1 .. N] / alpha softplus(W_A2 W_A1 u_i))`; the rates are learned."""

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__(config, state_size)
        self.alpha = config.alpha
        self.log_rate = nn.Parameter(torch.zeros(self.heads, self.state_size))

    def log_decay(self, hidden_states: Tensor) -> Tensor:
        gate = self.gate(hidden_states)
        gate = gate.to(torch.promote_types(gate.dtype, torch.float32))
        return -self.log_rate.to(gate.dtype).exp() * functional.softplus(gate)

    def reset_parameters(self) -> None:
        channels = torch.arange(1, self.state_size + 1, device=self.log_rate.device)
        init.copy_(self.log_rate, (channels / self.alpha).log().expand_as(self.log_rate))


class SoftmaxAttention(HeadedMixer):
    """SA: softmax attention, rotary embeddings on B and C, through transformers' interface."""

    is_causal = True
    num_key_value_groups = 1

    def __init__(self, config: SyntheticConfig) -> None:
        super().__init__(config)
        self.config = config
        self.theta = config.rope_theta
        self.scaling = config.head_dim**-0.5

    def forward(self, hidden_states: Tensor, masks: Masks = UNMASKED) -> Tensor:
        query, key, value = self.features(hidden_states)
        query, key = (rotated(features, self.theta) for features in (query, key))
        query, key, value = (features.transpose(1, 2) for features in (query, key, value))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mixed, _ = attend(self, query, key, value, masks.pairs, scaling=self.scaling)
        return self.joined(mixed)


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Attention in plain PyTorch, as transformers asks for it.

    Args:
        module: the mixer.
        query: `[B, h, L, d / h]`.
        key: `[B, h, L, d / h]`.
        value: `[B, h, L, d / h]`.
        attention_mask: added to the scores, `[B, 1, L, L]`; None for the causal one.
        scaling: factor on the scores.
        **kwargs: of no effect.

    Returns:
        Outputs `[B, L, h, d / h]` and weights `[B, h, L, L]`.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, eq. 1.

    Example:
        >>> import torch
        >>> query, key, value = torch.ones(3, 1, 1, 2, 4)
        >>> eager_attention_forward(torch.nn.Identity(), query, key, value, None, 0.5)[1]
        tensor([[[[1.0000, 0.0000],
                  [0.5000, 0.5000]]]])
    """
    scores = scaling * query @ key.mT
    if attention_mask is None:
        length = query.shape[-2]
        future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    else:
        scores = scores + attention_mask
    wide = torch.promote_types(query.dtype, torch.float32)
    weights = functional.softmax(scores, dim=-1, dtype=wide).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def rotated(features: Tensor, theta: float, turns: Tensor | None = None) -> Tensor:
    """Rotary embedding of `[B, L, h, N]`: token i turns the pair (n, n + N/2) by `i theta^(-2n/N)`.

    With `turns` `[2, h, N/2]` it turns by `i theta^(-turns[0] / turns[1])`.

    Source: Su et al., "RoFormer", 2021, eq. 34.

    Example:
        >>> import torch
        >>> rotated(torch.tensor([1.0, 0.0]).expand(1, 2, 1, 2), 10000.0)[0, 1, 0]
        tensor([0.5403, 0.8415])
    """
    length, width = features.shape[1], features.shape[-1]
    wide = torch.promote_types(features.dtype, torch.float32)
    turns = standard_turns(width, 1) if turns is None else turns
    exponents = -torch.div(*turns.to(features.device, wide))
    steps = torch.arange(length, device=features.device, dtype=wide)
    angles = steps[:, None, None] * theta**exponents
    cos, sin = angles.cos(), angles.sin()
    first, second = features.to(wide).chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(features.dtype)


def standard_turns(width: int, heads: int) -> Tensor:
    """`2n` and N of each pair n of N = `width` channels, int64 `[2, heads, N/2]`.

    Example:
        >>> standard_turns(4, 1).tolist()
        [[[0, 2]], [[4, 4]]]
    """
    pairs = torch.arange(0, width, 2)
    return torch.stack([pairs, torch.full_like(pairs, width)])[:, None].repeat(1, heads, 1)


def _log_sigmoid(gate: Tensor, temperature: float) -> Tensor:
    """`log(sigmoid(gate) ^ (1 / temperature))` in float32 at least."""
    wide = torch.promote_types(gate.dtype, torch.float32)
    return functional.logsigmoid(gate.to(wide)) / temperature
