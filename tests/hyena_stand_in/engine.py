"""An engine that is no module: convolutions between two gates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class HyenaInferenceEngine:
    """`parallel_fir` in front and, with gates, for explicit filters; `parallel_iir` for modes."""

    def __init__(self, flip: bool = False) -> None:
        self.hyena_flip_x1x2 = flip

    def parallel_fir(
        self,
        fir_fn: Any,
        u: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        L: int,  # noqa: N803 - names of the package
        dims: tuple[int, ...] | None = None,
        groups: int | None = None,
        gated_bias: bool = False,
        column_split_hyena: bool = False,
        dim_last: bool = True,
        fir_length: int = 3,
        gate: bool = False,
        inference_params: Any = None,
        padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        u = u.mT if dim_last else u
        after = torch.ones((), dtype=u.dtype)
        if gate:
            after, before, values = self._gates(u, dims, column_split_hyena)
            u = before * values
        taps = wide(weight)
        if gate and fir_length >= 128:
            z = _convolved(u, taps[:, 0, :L])
        else:
            z = fir_fn(wide(u), taps, padding=fir_length - 1, groups=u.shape[1])[..., :L]
        z = z.to(u.dtype)
        if bias is not None:
            z = z + bias[:, None] * (u if gated_bias else 1)
        if padding_mask is not None:
            z = z * padding_mask[:, None]
        return after * z, None

    def parallel_iir(
        self,
        z_pre: Tensor,
        h: Tensor,
        D: Tensor,  # noqa: N803
        L: int,  # noqa: N803
        poles: Tensor,
        residues: Tensor,
        t: Tensor,
        dims: tuple[int, ...],
        layer_idx: int,
        inference_params: Any = None,
        column_split_hyena: bool = False,
        long_fir_threshold: int | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        after, before, values = self._gates(z_pre, dims, column_split_hyena)
        u = before * values
        y = _convolved(u, h[0, :, : long_fir_threshold or L]).to(u.dtype)
        return ((y + u * D[:, None]) * after).mT

    def step_fir(self, u: Tensor, fir_state: Tensor, weight: Tensor) -> Tensor:
        """One token after a cache; only that it is called counts."""
        return u * weight[:, 0, -1] + fir_state

    def _gates(self, z: Tensor, dims: tuple[int, ...], by_head: bool) -> list[Tensor]:
        heads = dims[1] if by_head else 1
        three = [[], [], []]
        for head in z.chunk(heads, dim=1):
            for part, piece in zip(three, head.chunk(3, dim=1), strict=True):
                part.append(piece)
        after, before, values = (torch.cat(part, dim=1) for part in three)
        return [before, after, values] if self.hyena_flip_x1x2 else [after, before, values]


def _convolved(u: Tensor, taps: Tensor) -> Tensor:
    """Taps `[D, K]` that are stored with the present first."""
    points = 2 * u.shape[-1]
    spectrum = torch.fft.rfft(wide(u), points) * torch.fft.rfft(wide(taps), points)
    return torch.fft.irfft(spectrum, points)[..., : u.shape[-1]]


def conv1d(u: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    """The depthwise convolution of torch."""
    return functional.conv1d(u, weight, padding=padding, groups=groups)


def wide(tensor: Tensor) -> Tensor:
    """At least float32, in which the packages compute."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
