"""Hyena: a gated convolution as long as the text, whose filter a small network writes.

Source: Poli et al., "Hyena Hierarchy", ICML 2023, definition 3.1 (order 2) and section 3.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from hf_ess.synthetics.configuration import SyntheticConfig
from hf_ess.synthetics.masks import UNMASKED, Masks
from hf_ess.synthetics.scans import fftconv

# Pairs of sine and cosine that describe a position.
BANDS = 8
# The window of a channel falls to this share, the fastest and the slowest after these parts of
# the filter length.
FALLEN = 0.01
FASTEST, SLOWEST = 0.3, 1.5


class ImplicitFilter(nn.Module):
    """Filters as functions of the position: a network of sines under an exponential window."""

    def __init__(self, config: SyntheticConfig) -> None:
        super().__init__()
        width = config.filter_width
        self.length = config.filter_length
        self.frequency = config.filter_frequency
        self.channels = config.hidden_size
        self.first = nn.Linear(1 + 2 * BANDS, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, config.hidden_size, bias=False)
        self.direct = nn.Parameter(torch.ones(config.hidden_size))

    def taps(self, length: int) -> Tensor:
        """`[d, L]`, that of the present token first; the same filter for every length."""
        weight = self.first.weight
        wide = torch.promote_types(weight.dtype, torch.float32)
        time = torch.arange(length, device=weight.device, dtype=wide)[:, None] / self.length
        turns = 2 * math.pi * torch.arange(1, BANDS + 1, device=weight.device, dtype=wide)
        position = torch.cat([time, (turns * time).cos(), (turns * time).sin()], -1)
        hidden = torch.sin(self.frequency * self.first(position.to(weight.dtype)))
        features: Tensor = self.last(torch.sin(self.frequency * self.second(hidden)))
        ends = torch.linspace(FASTEST, SLOWEST, self.channels, device=weight.device, dtype=wide)
        return (features * (math.log(FALLEN) * time / ends).exp().to(weight.dtype)).mT

    def forward(self, inputs: Tensor) -> Tensor:
        return fftconv(inputs, self.taps(inputs.shape[-1]), self.direct)

    def reset_parameters(self) -> None:
        """Gives the filter's own parameters their values before training."""
        init.ones_(self.direct)


class CausalConvolution(nn.Conv1d):
    """A convolution of a few taps for each channel, `[B, D, L]` to `[B, D, L]`.

    It has no bias, which would put numbers where padding is erased.
    """

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__(channels, channels, taps, groups=channels, padding=taps - 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features)[..., : features.shape[-1]]


class Hyena(nn.Module):
    """`y_i = x0_i sum_j h_{i-j} x1_j v_j`, `[B, L, d]` to `[B, L, d]`."""

    def __init__(self, config: SyntheticConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.in_proj = nn.Linear(width, 3 * width, bias=False)
        self.short_filter = CausalConvolution(3 * width, config.conv_kernel)
        self.filter_fn = ImplicitFilter(config)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, hidden_states: Tensor, masks: Masks = UNMASKED) -> Tensor:
        last, first, values = self.short_filter(self.in_proj(hidden_states).mT).chunk(3, dim=1)
        output: Tensor = self.out_proj((last * self.filter_fn(first * values)).mT)
        return output
