"""A Hyena operator with the names of HyenaDNA's code, written from the paper (definition 3.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hyena_stand_in.engine import wide


def fftconv(u: Tensor, k: Tensor, D: Tensor) -> Tensor:  # noqa: N803 - name of the public code
    """`[B, D, L]` convolved with filters `[D, L]`, and `+ D u`."""
    points = 2 * u.shape[-1]
    spectrum = torch.fft.rfft(wide(u), points) * torch.fft.rfft(wide(k), points)
    return (torch.fft.irfft(spectrum, points)[..., : u.shape[-1]] + u * D[..., None]).to(u.dtype)


class HyenaFilter(nn.Module):
    """Filters as functions of the position: a small network under an exponential window."""

    def __init__(self, width: int, order: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn((order - 1) * width))
        self.implicit_filter = nn.Sequential(
            nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, (order - 1) * width)
        )

    def filter(self, length: int) -> Tensor:
        """`[1, L, (order - 1) * D]`."""
        time = torch.linspace(0, 1, length)[:, None]
        position = torch.cat([time, torch.cos(6 * time), torch.sin(6 * time)], -1)
        weight = self.implicit_filter[0].weight
        return (self.implicit_filter(position.to(weight)) * torch.exp(-3 * time).to(weight))[None]

    def forward(self, x: Tensor, L: int, k: Tensor, bias: Tensor) -> Tensor:  # noqa: N803
        return fftconv(x, k, bias)


class HyenaOperator(nn.Module):
    def __init__(self, width: int, order: int = 2) -> None:
        super().__init__()
        self.d_model, self.order = width, order
        self.in_proj = nn.Linear(width, (order + 1) * width)
        inner = (order + 1) * width
        self.short_filter = nn.Conv1d(inner, inner, 3, groups=inner, padding=2)
        self.filter_fn = HyenaFilter(width, order)
        self.dropout = nn.Dropout(0.1)
        self.out_proj = nn.Linear(width, width)

    def forward(self, u: Tensor, inference_params: Any = None) -> Tensor:
        length = u.shape[1]
        *x, v = self.short_filter(self.in_proj(u).mT)[..., :length].split(self.d_model, dim=1)
        k = self.filter_fn.filter(length)[0].mT.reshape(self.order - 1, self.d_model, length)
        bias = self.filter_fn.bias.reshape(self.order - 1, self.d_model)
        for o, x_i in enumerate(reversed(x[1:])):
            v = self.filter_fn(self.dropout(v * x_i), length, k=k[o], bias=bias[o])
        return self.out_proj((v * x[0]).mT)
