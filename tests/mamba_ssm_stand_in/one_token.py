"""What both mixers share."""

from __future__ import annotations

import torch
from torch import Tensor


def selective_state_update(state: Tensor, x: Tensor) -> Tensor:
    """One token after a cache; only that it is called counts."""
    return state + x


def wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
