"""Attention whose value heads are partly those of the token before (ZAYA)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import AttentionOperator, PlacedAttentionOperator
from model_adapters.exact_attention import refuse_rectangle
from model_adapters.function_adapter import Captured
from model_adapters.module_adapter import ModuleAdapter, ModuleRun, heads_first
from model_adapters.registry import register_adapter
from model_adapters.weights import bias_of

_DELAYED = "qkv_proj.v_proj_delayed"


@register_adapter
class DelayedValueAttention(ModuleAdapter):
    """`M = T` for the first half of the heads and `M = T S` for the others, S a delay by a token.

    The convolutions on queries and keys and their norm make features of the attention map T.

    Source: Figliolia et al., "Compressed Convolutional Attention", 2025 (value shift).
    """

    mixer = "softmax attention (delayed values)"
    models = "zaya"
    parts = (_DELAYED,)
    composes = True

    def knows(self, module: nn.Module) -> bool:
        projection = getattr(module, "qkv_proj", None)
        return isinstance(getattr(projection, "v_proj_delayed", None), nn.Module)

    def captured(self, module: Any, run: ModuleRun) -> Captured:
        (found,) = run.found
        attention, delay = found.operator, run.parts[_DELAYED]
        refuse_rectangle(attention.length, found.inputs.shape[2])
        heads, kept = attention.groups, module.num_key_value_heads // 2
        if module.num_key_value_heads % 2 or not isinstance(attention, AttentionOperator):
            raise UnsupportedMixerError("half of a value head is delayed, the other half is not")
        if bias_of(module.qkv_proj.v_proj_delayed) is not None:
            raise UnsupportedMixerError("a bias stands for the value before the first token")
        delayed = heads_first(delay.result, kept).repeat_interleave(heads // (2 * kept), dim=1)
        inputs = torch.cat([found.inputs[:, : heads // 2], delayed], dim=1)
        return Captured(
            operator=PlacedAttentionOperator(attention, _sources(heads, attention.length)),
            inputs=inputs,
            outputs=found.outputs,
        )


def _sources(heads: int, length: int) -> Tensor:
    """For each head and token the place of its value, `[H, L]`; no later one has the last value."""
    itself = torch.arange(length)
    later = torch.cat([itself[1:], itself.new_tensor([-1])])
    return torch.stack([itself] * (heads // 2) + [later] * (heads - heads // 2))
