"""Gated delta rule: a state that decays, forgets what it held under a key, and writes anew.

Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks: Improving Mamba2 with Delta Rule",
ICLR 2025, eq. 10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_adapters.delta_rule_adapter import EPSILON, DeltaRuleAdapter
from model_adapters.registry import register_adapter


@register_adapter
class GatedDeltaRule(DeltaRuleAdapter):
    """A delta rule with `A_i = e^{g_i} (I - b_i k_i k_i')`: one decay for each head and token."""

    mixer = "gated delta rule"
    models = "qwen3_next, qwen3_5, qwen3_5_moe, qwen4_exp, olmo_hybrid; GatedDeltaNet of fla"
    functions = (
        "torch_chunk_gated_delta_rule",
        "torch_recurrent_gated_delta_rule",
        "chunk_gated_delta_rule",
        "fused_recurrent_gated_delta_rule",
    )

    def normalised(self, features: Tensor) -> Tensor:
        return features * torch.rsqrt((features * features).sum(-1, keepdim=True) + EPSILON)

    def log_decay(self, gate: Tensor) -> Tensor:
        return gate[..., None]
