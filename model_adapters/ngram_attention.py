"""Attention of a main stream and of streams that predict several tokens ahead (ProphetNet)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import AttentionOperator, PlacedAttentionOperator
from model_adapters.function_adapter import Captured
from model_adapters.module_adapter import ModuleAdapter, ModuleRun
from model_adapters.registry import register_adapter


@register_adapter
class NgramAttention(ModuleAdapter):
    """Softmax attention of the main stream, and of each predicted stream to the main one.

    A token of a predicted stream reads the main stream and itself. Itself is on the diagonal of an
    operator of its own, which no memory passes through: its share is taken from the outputs.

    Source: Qi et al., "ProphetNet", Findings of EMNLP 2020, section 3.2 (n-stream self-attention).
    """

    mixer = "n-gram attention"
    models = "prophetnet"
    composes = True

    def knows(self, module: nn.Module) -> bool:
        parts = ("ngram", "get_main_relative_pos_embeddings", "get_predict_relative_pos_embeddings")
        return all(hasattr(module, name) for name in parts)

    def captured(self, module: Any, run: ModuleRun) -> dict[str, Captured | str]:
        names = f"{self.mixer} (main stream)", f"{self.mixer} (predicted streams)"
        if len(run.found) != 2:
            raise UnsupportedMixerError("its streams could not all be followed")
        main, predicted = run.found
        return dict(zip(names, (main, _to_main_stream(predicted)), strict=True))


def _to_main_stream(predicted: Captured) -> Captured | str:
    """Attention `[B, n H, L, 2 L]` to the main stream and to itself, without the latter."""
    attention, length = predicted.operator, predicted.operator.length
    if not isinstance(attention, AttentionOperator) or predicted.inputs.shape[2] != 2 * length:
        return "it reads another number of keys than those of the main stream and its own"
    tokens = torch.arange(length)
    itself = PlacedAttentionOperator(attention, tokens + length)
    if _off_diagonal(itself.visible()):
        return "its tokens read other tokens of their own stream"
    share = itself.apply(predicted.inputs[:, :, length:])
    return Captured(
        operator=PlacedAttentionOperator(attention, tokens),
        inputs=predicted.inputs[:, :, :length],
        outputs=(predicted.outputs.double() - share).to(predicted.outputs.dtype),
    )


def _off_diagonal(visible: Tensor) -> bool:
    return bool(visible.tril(-1).any() or visible.triu(1).any())
