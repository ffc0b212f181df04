"""The operator of each channel of a diagonal state as a dense matrix, one entry after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.operators import StateSpaceOperator


def of_channels(operator: StateSpaceOperator) -> Tensor:
    """`[N, B, G, L, L]`, without the direct term."""
    decay, write, read, _ = operator.channels(slice(None), 0, operator.length)
    dense = torch.zeros(operator.width, *operator.shape, dtype=torch.float64)
    for j in range(operator.length):
        state = write[:, :, j]
        for i in range(j, operator.length):
            state = state if i == j else decay[:, :, i] * state
            dense[..., i, j] = (read[:, :, i] * state).movedim(-1, 0)
    return dense
