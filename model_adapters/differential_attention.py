"""Differential attention: the difference of two attention maps, head by head (DiffLlama)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import AttentionOperator, DifferentialAttentionOperator
from model_adapters.exact_attention import refuse_rectangle
from model_adapters.function_adapter import Captured
from model_adapters.module_adapter import ModuleAdapter, ModuleRun
from model_adapters.registry import register_adapter
from model_adapters.weights import weight_of

_LAMBDAS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


@register_adapter
class DifferentialAttention(ModuleAdapter):
    """`M = T_h - lambda T_{h + H/2}` on the values `[v1 | v2]` of a pair of heads.

    The module asks for attention twice, each time with the same queries and keys and half of the
    values. The norm after the difference is no part of the operator.

    Source: Ye et al., "Differential Transformer", ICLR 2025, eqs. 1 and 2.
    """

    mixer = "differential attention"
    models = "diffllama"
    parts = ("groupnorm",)
    composes = True

    def knows(self, module: nn.Module) -> bool:
        return all(isinstance(getattr(module, name, None), Tensor) for name in _LAMBDAS) and all(
            hasattr(module, name) for name in ("groupnorm", "lambda_init")
        )

    def captured(self, module: Any, run: ModuleRun) -> Captured:
        if len(run.found) != 2:
            raise UnsupportedMixerError(
                f"it asked for attention {len(run.found)} time(s) instead of twice"
            )
        first, second = run.found
        attention = first.operator
        refuse_rectangle(attention.length, first.inputs.shape[2])
        if not isinstance(attention, AttentionOperator) or attention.groups % 2:
            raise UnsupportedMixerError("its attention maps do not come in pairs of heads")
        pairs = attention.groups // 2
        return Captured(
            operator=DifferentialAttentionOperator(attention, share_of(module, first.inputs.dtype)),
            inputs=torch.cat([first.inputs, second.inputs], dim=-1)[:, :pairs],
            outputs=run.parts["groupnorm"].features.detach().transpose(1, 2),
        )


def share_of(module: Any, dtype: torch.dtype) -> float:
    """Lambda, rounded where the module rounds it."""
    vectors = [weight_of(module, name) for name in _LAMBDAS]
    exponents = (
        torch.sum(query * key, dim=-1, dtype=torch.float32)
        for query, key in zip(vectors[::2], vectors[1::2], strict=True)
    )
    with torch.no_grad():
        first, second = (torch.exp(exponent).to(dtype) for exponent in exponents)
        return float(first - second + module.lambda_init)
