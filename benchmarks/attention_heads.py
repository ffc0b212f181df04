"""Attention heads to measure: real ones of SmolLM2, or synthetic ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from smollm2 import demo_ids, smollm2_path
from torch import Tensor

import hf_ess
from model_adapters import LayerOperator
from model_adapters.loading import load


def peaked_attention(heads: int, length: int, seed: int = 0) -> Tensor:
    """Synthetic causal attention that favours few and near tokens, `[heads, L, L]` float64."""
    generator = torch.Generator().manual_seed(seed)
    query, noise = torch.randn(2, heads, length, 64, generator=generator, dtype=torch.float64)
    scores = (query @ (0.6 * query + noise).mT) / 8 * 2
    steps = torch.arange(length, dtype=torch.float64)
    scores -= 0.02 * (steps[:, None] - steps).clamp(min=0)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)


class RealAttention:
    """Heads of a model that reads the demo text.

    Args:
        path: of the model, SmolLM2 from the installed package by default.
    """

    def __init__(self, path: str | None = None) -> None:
        loaded = load(path or smollm2_path(), dtype=torch.float32)
        self.model, self.tokenizer = loaded.model, loaded.tokenizer

    def layers(self, length: int) -> list[LayerOperator]:
        """The operator of every layer, not yet formed."""
        found: list[LayerOperator] = []
        with hf_ess.record_operators(self.model, found.append), torch.no_grad():
            self.model(demo_ids(self.tokenizer, length), use_cache=False)
        return found

    def some(self, heads: int, length: int) -> Tensor:
        """Heads evenly spread over all of them, `[heads, L, L]` float64."""
        layers = self.layers(length)
        groups = layers[0].operator.groups
        total = len(layers) * groups
        numbers = [(2 * k + 1) * total // (2 * heads) for k in range(heads)]
        formed = [
            layers[number // groups].operator.to_dense(slice(number % groups, number % groups + 1))
            for number in numbers
        ]
        return torch.cat([matrix[0] for matrix in formed])

    def every(self, length: int) -> Iterator[Tensor]:
        """All heads, `[1, L, L]` float64 at a time."""
        for layer in self.layers(length):
            for head in range(layer.operator.groups):
                yield layer.operator.to_dense(slice(head, head + 1))[0]
