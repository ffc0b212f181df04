"""Many rank-one transitions at once, by matrix products instead of one step after another."""

from __future__ import annotations

import torch
from torch import Tensor

# Shorter stretches go step by step; longer ones are cut, since work per step grows with them:
# with a decay for each channel, by all channels for each pair of steps.
LEAST_STEPS = 8
MOST_STEPS = 64
MOST_STEPS_PER_CHANNEL = 16


def products_between(diagonal: Tensor) -> Tensor:
    """`d_i d_{i+1} ... d_{t-1}` for 0 <= i <= t <= s, 0 below: `[.., s+1, s+1, n]` of `[.., s, n]`.

    Each product is multiplied out on its own: quotients of longer ones fail at resets (d = 0),
    and where channels decay at very different rates.

    Example:
        >>> import torch
        >>> from hf_ess.operators.blocked import products_between
        >>> products_between(torch.tensor([[2.0], [3.0]]))[..., 0]
        tensor([[1., 2., 6.],
                [0., 1., 3.],
                [0., 0., 1.]])
    """
    steps = diagonal.shape[-2]
    starts = torch.arange(steps + 1, device=diagonal.device)[:, None, None]
    times = torch.arange(steps + 1, device=diagonal.device)[:, None]
    factors = torch.where(times[:-1] >= starts, diagonal[..., None, :, :], 1.0)
    products = torch.nn.functional.pad(factors.cumprod(-2), (0, 0, 1, 0), value=1.0)
    return products.masked_fill_(times < starts, 0.0)


def _shares(vectors: Tensor, between: Tensor, right: Tensor) -> Tensor:
    """`(v_j d_{j+1} ... d_{t-1}) . right_t` for every j and t, `[B, g, s, s]`."""
    if between.shape[-1] == 1:
        return between[..., 0] * (vectors @ right.mT)
    return ((between * right[..., None, :, :]) @ vectors[..., None])[..., 0]


def send_rows(rows: Tensor, new: Tensor, diagonal: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Rows through s transitions `x -> d_t x + (x . right_t) left_t`, and new rows from theirs on.

    A new row t joins after transition t. With p the shares `x . right_t` of every row, p solves a
    triangular system, and what a row becomes is itself and p times the left vectors, each decayed.

    Args:
        rows: `[B, g, r, N]`.
        new: `[B, g, s, N]`.
        diagonal: `[B|1, g|1, s, N|1]`.
        left: `[B|1, g|1, s, N]`, what is added.
        right: `[B|1, g|1, s, N]`, what is measured.

    Returns:
        `[B, g, r + s, N]`, the new rows last.

    Source: the UT transform of Yang et al., "Parallelizing Linear Transformers with the Delta
    Rule", NeurIPS 2024, section 3.2 (for transitions of any sign and size here, and with a decay
    for each channel, as in Kimi Team, "Kimi Linear", 2025).

    Example:
        >>> import torch
        >>> from hf_ess.operators.blocked import send_rows
        >>> one = torch.ones(1, 1, 2, 1)
        >>> send_rows(one, one, one, one, one)[0, 0, :, 0]  # every transition doubles
        tensor([4., 4., 2., 1.])
    """
    between = products_between(diagonal)
    known, last = between[:, :, 0, :-1], between[:, :, :, -1]
    # Row j of what joins after transition j: nothing before j + 1.
    joined = between[:, :, 1:, :-1]
    system = torch.eye(joined.shape[2], dtype=rows.dtype, device=rows.device)
    system = system - _shares(left, joined, right)
    shares = torch.cat([rows @ (known * right).mT, _shares(new, joined, right)], -2)
    system = system.expand(*shares.shape[:2], -1, -1)
    solved: Tensor = torch.linalg.solve_triangular(
        system, shares, upper=True, left=False, unitriangular=True
    )
    carried = torch.cat([rows * last[:, :, :1], new * last[:, :, 1:]], -2)
    carried += solved @ (left * last[:, :, 1:])
    return carried
