"""Mixers with a diagonal state for every channel: S6 and Mamba.

Source: Gu and Dao, "Mamba", 2023, section 3; Parnichkun et al., ICML 2025, appendix D.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from hf_ess.synthetics.configuration import SyntheticConfig
from hf_ess.synthetics.masks import UNMASKED, Masks
from hf_ess.synthetics.scans import causal_conv1d_fn, mamba_selective_scan


class SelectiveStateSpace(nn.Module):
    """S6, Mamba without its short convolution: `[B, L, d]` to `[B, L, d]`.

    `dt = softplus(W_dt u + b)` for each channel, `A = exp(-[1 .. N] / alpha dt)`, `B = dt W_B u`,
    `C = W_C u`; the rates [1 .. N] / alpha are learned and have these values before training.
    """

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__()
        width, state = config.hidden_size, state_size or config.state_size
        self.alpha = config.alpha
        self.steps = config.smallest_step, config.largest_step
        self.in_proj = nn.Linear(width, width, bias=False)
        self.dt_proj = nn.Linear(width, width)
        self.b_proj = nn.Linear(width, state, bias=False)
        self.c_proj = nn.Linear(width, state, bias=False)
        self.log_rate = nn.Parameter(torch.zeros(width, state))
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, hidden_states: Tensor, masks: Masks = UNMASKED) -> Tensor:
        inputs = self.in_proj(hidden_states).mT
        output: Tensor = self.out_proj(self.scan(inputs, hidden_states).mT)
        return output

    def scan(
        self,
        inputs: Tensor,
        chosen_by: Tensor,
        *,
        direct: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> Tensor:
        """The state space on inputs `[B, d, L]`, selected by `[B, L, d]`; `[B, d, L]`."""
        wide = torch.promote_types(inputs.dtype, torch.float32)
        step = nn.functional.linear(chosen_by, self.dt_proj.weight).mT
        return mamba_selective_scan(
            inputs,
            step,
            -self.log_rate.to(wide).exp(),
            self.b_proj(chosen_by).mT,
            self.c_proj(chosen_by).mT,
            D=direct,
            z=gate,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
        )

    def reset_parameters(self) -> None:
        """Gives the mixer's own parameters their values before training."""
        channels = torch.arange(1, self.log_rate.shape[-1] + 1, device=self.log_rate.device)
        init.copy_(self.log_rate, (channels / self.alpha).log().expand_as(self.log_rate))
        smallest, largest = self.steps
        spread = torch.rand_like(self.dt_proj.bias) * math.log(largest / smallest)
        steps = smallest * spread.exp()
        init.copy_(self.dt_proj.bias, steps.expm1().log())


class Mamba(SelectiveStateSpace):
    """S6 behind a short convolution and silu, with a direct term and a gate."""

    def __init__(self, config: SyntheticConfig, state_size: int | None = None) -> None:
        super().__init__(config, state_size)
        width = config.hidden_size
        self.gate_proj = nn.Linear(width, width, bias=False)
        self.conv1d = nn.Conv1d(width, width, config.conv_kernel, groups=width)
        self.direct = nn.Parameter(torch.ones(width))

    def forward(self, hidden_states: Tensor, masks: Masks = UNMASKED) -> Tensor:
        inputs = causal_conv1d_fn(
            self.in_proj(hidden_states).mT, self.conv1d.weight[:, 0], self.conv1d.bias, "silu"
        )
        inputs = masks.erase(inputs.mT).mT
        gate = self.gate_proj(hidden_states).mT
        mixed = self.scan(inputs, inputs.mT, direct=self.direct, gate=gate)
        output: Tensor = self.out_proj(mixed.mT)
        return output

    def reset_parameters(self) -> None:
        super().reset_parameters()
        init.ones_(self.direct)
