"""Kimi delta attention: the gated delta rule with one decay for each channel of the keys.

Source: Kimi Team, "Kimi Linear: An Expressive, Efficient Attention Architecture", 2025, eq. 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_adapters.delta_rule_adapter import EPSILON, DeltaRuleAdapter
from model_adapters.registry import register_adapter


@register_adapter
class KimiDeltaAttention(DeltaRuleAdapter):
    """A delta rule with `A_i = (I - b_i k_i k_i') Diag(e^{g_i})`, g of every key channel."""

    mixer = "kimi delta attention"
    models = "kimi_linear, bailing_hybrid, glm5_next; KimiDeltaAttention of fla"
    functions = (
        "chunk_kimi_delta_attention",
        "recurrent_kimi_delta_attention",
        "chunk_kda",
        "fused_recurrent_kda",
    )

    def normalised(self, features: Tensor) -> Tensor:
        return features / torch.sqrt((features * features).sum(-1, keepdim=True) + EPSILON)

    def log_decay(self, gate: Tensor) -> Tensor:
        return gate
