"""Filters of StripedHyena and StripedHyena 2, and the block around them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hyena_stand_in.engine import HyenaInferenceEngine, conv1d, wide

HEADS, WIDTH, STATE = 2, 8, 3


class _Filter(nn.Module):
    def __init__(self, flip: bool = False, column_split: bool = True) -> None:
        super().__init__()
        self.column_split_hyena = column_split
        self.engine = HyenaInferenceEngine(flip)
        self.short_filter_weight = nn.Parameter(torch.randn(3 * WIDTH, 1, 3))
        self.dims = WIDTH, HEADS, WIDTH // HEADS, STATE, 1
        self.long_fir_threshold = None
        self.D = nn.Parameter(torch.randn(WIDTH))
        self.h = None

    def forward(self, u: Tensor, inference_params: Any = None) -> Tensor:
        if inference_params is not None:
            return self.engine.step_fir(u, inference_params, weight=self.short_filter_weight)[
                ..., :WIDTH
            ]
        length = u.shape[1]
        z_pre, _ = self.engine.parallel_fir(
            conv1d, u, self.short_filter_weight, None, length, dims=self.dims
        )
        return self.mix(z_pre, length)

    def modes(self, z_pre: Tensor, length: int, poles: Tensor, residues: Tensor) -> Tensor:
        return self.engine.parallel_iir(
            z_pre,
            self.compute_filter(length) if self.h is None else self.h,
            self.D,
            length,
            t=torch.arange(length),
            poles=poles,
            residues=residues,
            dims=self.dims,
            layer_idx=0,
            column_split_hyena=self.column_split_hyena,
            long_fir_threshold=self.long_fir_threshold,
        )


class ParallelHyenaFilter(_Filter):
    """Complex modes, `[systems, state, 1, 2]`."""

    def __init__(self, systems: int = WIDTH, **options: Any) -> None:
        super().__init__(**options)
        self.poles = nn.Parameter(0.6 * torch.randn(systems, STATE, 1, 2).tanh())
        self.residues = nn.Parameter(torch.randn(systems, STATE, 1, 2))

    def compute_filter(self, length: int) -> Tensor:
        poles = torch.view_as_complex(wide(self.poles)).log()
        residues = torch.view_as_complex(wide(self.residues))
        h = (residues * (poles * torch.arange(length)).exp()).real.sum(1)[None]
        return h.repeat_interleave(WIDTH // h.shape[1], 1)

    def mix(self, z_pre: Tensor, length: int) -> Tensor:
        return self.modes(z_pre, length, self.poles, self.residues)


class HyenaCascade(_Filter):
    """An explicit filter of a number of taps, or real modes."""

    def __init__(self, taps: int | None = None, groups: int = WIDTH, **options: Any) -> None:
        super().__init__(**options)
        self.fir_inner_filter_length = taps
        if taps is None:
            self.log_poles = nn.Parameter(-torch.rand(WIDTH, STATE, 1))
            self.residues = nn.Parameter(torch.randn(WIDTH, STATE))
        else:
            self.h = nn.Parameter(torch.randn(groups, 1, taps))
            self.D = None if taps < 128 else self.D

    def compute_filter(self, length: int) -> Tensor:
        decays = (wide(self.log_poles) * torch.arange(length)).exp()
        return (wide(self.residues)[..., None] * decays).sum(1)[None]

    def mix(self, z_pre: Tensor, length: int) -> Tensor:
        if self.fir_inner_filter_length is None:
            return self.modes(z_pre, length, self.log_poles, self.residues)
        y, _ = self.engine.parallel_fir(
            conv1d,
            z_pre,
            self.h.repeat_interleave(WIDTH // self.h.shape[0], 0),
            self.D,
            length,
            dims=self.dims,
            gate=True,
            gated_bias=self.fir_inner_filter_length >= 128,
            dim_last=False,
            column_split_hyena=self.column_split_hyena,
            fir_length=self.fir_inner_filter_length,
        )
        return y.mT


class ParallelGatedConvBlock(nn.Module):
    """Projections, filter and output."""

    def __init__(self, hyena_filter: nn.Module) -> None:
        super().__init__()
        self.projections = nn.Linear(WIDTH, 3 * WIDTH)
        self.filter = hyena_filter
        self.out_filter_dense = nn.Linear(WIDTH, WIDTH)

    def forward(self, u: Tensor, inference_params: Any = None) -> Tensor:
        return self.out_filter_dense(self.filter(self.projections(u), inference_params))
