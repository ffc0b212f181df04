"""Recurrences with exponential gates, kept finite as the models keep them: by a running maximum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StabilizedGates:
    """Gates of `h_i = exp(f_i) h_{i-1} + exp(g_i) b_i u_i`, divided by `exp(m_i)` at each step.

    The maximum `m_i = max(f_i + m_{i-1}, g_i)` is the largest exponent in `h_i`, so that nothing
    overflows however large the gates are: `h_i exp(-m_i)` decays by `exp(log_decay_i)` and is
    written with `write`, both at most one.

    Attributes:
        log_decay: `f_i + m_{i-1} - m_i`, float64 `[..., L]`.
        write: `exp(g_i - m_i)`, float64 `[..., L]`.
        maximum: `m_i`, float64 `[..., L]`.

    Source: Beck et al., "xLSTM", NeurIPS 2024 (stabilizer state); Peng et al., "RWKV", EMNLP
    2023 (numerically stable WKV).
    """

    log_decay: Tensor
    write: Tensor
    maximum: Tensor

    @classmethod
    def of(cls, log_decay: Tensor, log_write: Tensor, *, start: float) -> StabilizedGates:
        """Stabilizes `f` and `g`, both `[..., L]`; `start` is the maximum before the first step."""
        log_decay, log_write = log_decay.double().expand(log_write.shape), log_write.double()
        maxima = [torch.full_like(log_write[..., 0], start)]
        for decay, write in zip(log_decay.unbind(-1), log_write.unbind(-1), strict=True):
            maxima.append(torch.maximum(maxima[-1] + decay, write))
        before, after = torch.stack(maxima[:-1], -1), torch.stack(maxima[1:], -1)
        return cls(log_decay + before - after, torch.exp(log_write - after), after)
