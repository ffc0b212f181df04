"""Small causal language models put together by hand, one mixer per layer."""

from __future__ import annotations

import torch
from torch import nn

VOCABULARY, WIDTH, HEADS = 64, 32, 2


class Decoder(nn.Module):
    """`layers.0`, `layers.1`, ... each a residual mixer, between an embedding and a head."""

    def __init__(self, *mixers):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer(mixer()) for mixer in mixers)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.eval()

    def forward(self, input_ids):
        features = self.embedding(input_ids)
        for layer in self.layers:
            features = layer(features)
        return self.head(features)


class Layer(nn.Module):
    """Normalises, mixes, adds, and treats every token alone afterwards."""

    def __init__(self, mixer):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mixer = mixer
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, features):
        mixed = self.mixer(self.norm(features))
        features = features + mixed
        return features + self.mlp(features)


class InlineAttention(nn.Module):
    """Softmax attention written out by hand."""

    causal = True

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, features):
        samples, length, width = features.shape
        query, key, value = (
            part.reshape(samples, length, HEADS, -1).transpose(1, 2)
            for part in self.projection(features).chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if self.causal:
            hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, -torch.inf)
        output = torch.softmax(scores, dim=-1) @ value
        return output.transpose(1, 2).reshape(samples, length, width)


class BidirectionalAttention(InlineAttention):
    """The same without a mask."""

    causal = False


class LongTextAttention(InlineAttention):
    """Attends to texts of more than 15 tokens only."""

    def forward(self, features):
        return super().forward(features) if features.shape[1] != 15 else features


class Lstm(nn.Module):
    """A recurrence without a closed form."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, features):
        return self.cell(features)[0]


class RunningSum(nn.Module):
    """A mixer without any part of its own: a scaled cumulative sum."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.full((WIDTH,), 0.1))

    def forward(self, features):
        return torch.cumsum(features, dim=1) * self.gain


class RunningMean(nn.Module):
    """The mean of all tokens so far."""

    def forward(self, features):
        counts = torch.arange(1, features.shape[1] + 1, dtype=features.dtype)
        return torch.cumsum(features, dim=1) / counts[:, None]


class Pointwise(nn.Module):
    """Treats every token alone."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, features):
        return torch.tanh(self.linear(features))
