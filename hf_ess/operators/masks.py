"""Masks of attention: which key each query may look at, for all queries or for some."""

from __future__ import annotations

import torch
from torch import Tensor


def causal_rows(rows: slice, length: int, device: torch.device) -> Tensor:
    """Rows of the causal mask, bool `[R, length]`.

    Example:
        >>> import torch
        >>> from hf_ess.operators.masks import causal_rows
        >>> causal_rows(slice(1, 3), 3, torch.device("cpu")).int()
        tensor([[1, 1, 0],
                [1, 1, 1]], dtype=torch.int32)
    """
    queries = torch.arange(rows.start, rows.stop, device=device)
    return torch.arange(length, device=device) <= queries[:, None]


def rows_of(mask: Tensor, rows: slice) -> Tensor:
    """Some rows of a mask `[..., L|1, L]`, of which one may stand for all."""
    return mask if mask.shape[-2] == 1 else mask[..., rows, :]


def additive_mask(mask: Tensor | None, length: int, device: torch.device) -> Tensor:
    """A mask as float64 that is added to scores; None means causal."""
    if mask is None:
        mask = causal_rows(slice(0, length), length, device)
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float64, device=device).masked_fill_(
            ~mask, -torch.inf
        )
    return mask.to(torch.float64)


def visible_pairs(mask: Tensor | None, length: int, device: torch.device) -> Tensor:
    """Which key each query may look at, bool, as a mask says it; None means causal.

    Additive masks hide a pair by an entry below half of the most negative number of their dtype.
    """
    if mask is None:
        return causal_rows(slice(0, length), length, device)[None, None]
    if mask.dtype == torch.bool:
        return mask
    return mask > torch.finfo(mask.dtype).min / 2


def counts_within(begin: Tensor, end: Tensor) -> Tensor:
    """How many of the L intervals `begin < i <= end` hold each i in 0..L, int64 `[..., L + 1]`.

    Args:
        begin: int64 `[..., L]`, from 0 to L.
        end: int64 `[..., L]`, from -1 to L - 1; no interval where it does not exceed `begin`.

    Example:
        >>> import torch
        >>> from hf_ess.operators.masks import counts_within
        >>> counts_within(torch.tensor([0, 1, 2]), torch.tensor([2, 2, 2]))
        tensor([0, 1, 2, 0])
    """
    real = (begin < end).to(torch.int64)
    length = begin.shape[-1]
    changes = torch.zeros(*begin.shape[:-1], length + 2, dtype=torch.int64, device=begin.device)
    changes.scatter_add_(-1, begin + 1, real)
    changes.scatter_add_(-1, end + 1, -real)
    return changes.cumsum(-1)[..., : length + 1]
