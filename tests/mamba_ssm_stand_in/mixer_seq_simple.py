"""A language model of either mixer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from transformers import MambaConfig


class MambaLMHeadModel(nn.Module):
    """A language model of such mixers; `use_cache` is what the tests pass to any model."""

    def __init__(self, mixers: list[nn.Module], width: int, vocabulary: int = 128) -> None:
        super().__init__()
        self.config = MambaConfig(vocab_size=vocabulary)
        self.backbone = nn.Module()
        self.backbone.embedding = nn.Embedding(vocabulary, width)
        self.backbone.layers = nn.ModuleList(_Block(mixer, width) for mixer in mixers)
        self.lm_head = nn.Linear(width, vocabulary)

    def forward(
        self, input_ids: Tensor, inference_params: Any = None, use_cache: bool = False
    ) -> SimpleNamespace:
        hidden = self.backbone.embedding(input_ids)
        for layer in self.backbone.layers:
            hidden = layer(hidden, inference_params)
        return SimpleNamespace(logits=self.lm_head(hidden))


class _Block(nn.Module):
    def __init__(self, mixer: nn.Module, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixer = mixer

    def forward(self, hidden: Tensor, inference_params: Any) -> Tensor:
        return hidden + self.mixer(self.norm(hidden), inference_params)
