"""Attention to a window of tokens and to summaries of whole windows (DeepSeek-V4).

A layer reads two kinds of keys at once: those of the last tokens, and entries that each sum up a
window of tokens in another projection. They are two operators, on two inputs, under one softmax.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import PlacedAttentionOperator, SoftmaxAttentionOperator
from model_adapters.exact_attention import rectangle_reason
from model_adapters.function_adapter import Captured
from model_adapters.module_adapter import ModuleAdapter, ModuleRun
from model_adapters.registry import register_adapter


@register_adapter
class CompressedAttention(ModuleAdapter):
    """`y = M_local u + M_compressed c`, one pair of operators per head.

    A compressed entry is a token of the second operator: the last one of its window, with which
    it is complete. Its own making (a weighted mean of the window, per channel) is upstream of
    the operator, as are the rotations; a window that is still open lies in no operator. What the
    layer computed is compared less the share of the other operator, so that the residual of
    each proves both.

    Source: DeepSeek-AI, "DeepSeek-V4", 2026, section 2.3 (compressed sparse attention, heavily
    compressed attention).
    """

    mixer = "compressed attention"
    models = "deepseek_v4"
    composes = True

    def knows(self, module: nn.Module) -> bool:
        rate = getattr(getattr(module, "compressor", None), "compress_rate", None)
        return isinstance(rate, int)

    def captured(self, module: Any, run: ModuleRun) -> dict[str, Captured | str]:
        (found,) = run.found
        attention, rate = found.operator, module.compressor.compress_rate
        length, sources = attention.length, found.inputs.shape[2]
        if sources - length != length // rate:
            raise UnsupportedMixerError(rectangle_reason(length, sources))
        if not isinstance(attention, SoftmaxAttentionOperator) or not _covers(attention, sources):
            raise UnsupportedMixerError("its mask does not say which compressed keys are visible")
        places = torch.arange(length), _closing_tokens(length, rate)
        inputs = [_placed(found.inputs, place) for place in places]
        operators = [PlacedAttentionOperator(attention, place) for place in places]
        names = f"{self.mixer} (local keys)", f"{self.mixer} (compressed keys)"
        shares = [operator.apply(u) for operator, u in zip(operators, inputs, strict=True)]
        captured: dict[str, Captured | str] = {}
        for own, other in ((0, 1), (1, 0))[: 1 if sources == length else 2]:
            outputs = (found.outputs.double() - shares[other]).to(found.outputs.dtype)
            captured[names[own]] = Captured(operators[own], inputs[own], outputs)
        return captured


def _covers(attention: SoftmaxAttentionOperator, sources: int) -> bool:
    return attention.mask is not None and attention.mask.shape[-1] == sources


def _closing_tokens(length: int, rate: int) -> Tensor:
    """For each token the source that its window becomes when it ends there, -1 for none, `[L]`."""
    tokens = torch.arange(length)
    closes = (tokens + 1) % rate == 0
    return torch.where(closes, length + tokens // rate, -1)


def _placed(features: Tensor, places: Tensor) -> Tensor:
    """Sources `[B, H, S, D]` at the tokens that they belong to, zero elsewhere, `[B, H, L, D]`."""
    places = places.to(features.device)
    chosen = features[:, :, places.clamp(min=0)]
    return chosen.masked_fill((places < 0)[:, None], 0)
