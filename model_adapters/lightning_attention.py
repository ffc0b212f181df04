"""Lightning attention: linear attention with one constant decay per head (MiniMax)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.operators import ScalarDecay, StateSpaceOperator
from model_adapters.function_adapter import Captured, refuse_earlier_state
from model_adapters.module_adapter import ModuleAdapter, ModuleRun, heads_first
from model_adapters.registry import register_adapter
from model_adapters.weights import weight_of

_TENSORS = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
_MODULES = ("qkv_proj", "norm", "act_fn")


@register_adapter
class LightningAttention(ModuleAdapter):
    """`M_ij = (q_i . k_j) exp(-s_h (i - j))`; the state of a head is `head_dim` wide.

    The norm and the output gate after it are no part of the operator.

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with
    Lightning Attention", ICML 2024; MiniMax, "MiniMax-01", 2025.
    """

    mixer = "lightning attention"
    models = "minimax"
    parts = ("qkv_proj", "norm")

    def knows(self, module: nn.Module) -> bool:
        return all(isinstance(getattr(module, name, None), Tensor) for name in _TENSORS) and all(
            isinstance(getattr(module, name, None), nn.Module) for name in _MODULES
        )

    def before(self, module: Any, call: dict[str, Any]) -> dict[str, Any]:
        cache = call.get("past_key_values")
        state = None if cache is None else cache.get_linear_cache(module.layer_idx)
        return {"state": state if isinstance(state, Tensor) else None}

    def captured(self, module: Any, run: ModuleRun) -> Captured:
        refuse_earlier_state(run.before, "state")
        heads = module.num_attention_heads
        with torch.no_grad():
            features = module.act_fn(run.parts["qkv_proj"].result.detach())
        mask = run.call.get("attention_mask")
        if mask is not None:
            features = (features * mask[:, :, None]).to(features.dtype)
        query, key, value = torch.split(heads_first(features, heads), module.head_dim, dim=-1)
        return Captured(
            operator=StateSpaceOperator(
                ScalarDecay(-weight_of(module, "slope_rate").reshape(1, heads, 1)),
                write=key,
                read=query,
            ),
            inputs=value,
            outputs=heads_first(run.parts["norm"].features, heads),
        )
