"""Which channels of a state stay, and by which factors they make up for those that go.

Channels are chosen in units that stay or go together: one channel, or the two of a rotary pair.
`gram` is that of the operators of the units, `[U, U]` float64, `gram[n, m] = <M_n, M_m>_F` summed
over all operators that share the choice; their sum is M.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Relative to a unit's own square: what keeps the equations of dependent units solvable.
RIDGE = 1e-12
# Losses that differ by less, relative to ||M||_F^2, are equal: the later unit goes first.
TIE = 1e-12


def ridge_of(dtype: torch.dtype) -> float:
    """What a factor of one costs, as a share of the unit's square, once it is rounded to a dtype.

    Large factors that cancel each other would be rounded to something else: the square of the
    rounding error is their price.

    Example:
        >>> import torch
        >>> ridge_of(torch.float32), ridge_of(torch.bfloat16)
        (1e-12, 6.103515625e-05)
    """
    return max(RIDGE, torch.finfo(dtype).eps ** 2)


def units_gram(gram: Tensor, units: Tensor) -> Tensor:
    """The Gram of units `[U, k]` of channels, `[..., U, U]` from `[..., N, N]`.

    Example:
        >>> import torch
        >>> units_gram(torch.eye(4), torch.tensor([[0, 2], [1, 3]]))
        tensor([[2., 0.],
                [0., 2.]])
    """
    rows = gram[..., units, :].sum(-2)
    return rows[..., units].sum(-1)


def removal_order(gram: Tensor, *, rescale: bool, ridge: float = RIDGE) -> list[int]:
    """All units, in the order in which they go: each time the one whose loss is least.

    The loss is `||M - sum_n w_n M_n||_F^2` over the units that stay, with the best factors w, or
    with w = 1 without `rescale`; `ridge` is the price of large ones (`ridge_of`). What stays of n
    units is part of what stays of more.

    Source: backward elimination in least squares; for the operators of state channels it is ours.

    Example:
        >>> import torch
        >>> removal_order(torch.diag(torch.tensor([4.0, 1.0, 9.0])).double(), rescale=True)
        [1, 0, 2]
    """
    kept, order = list(range(len(gram))), []
    tie = TIE * float(gram.sum().abs())
    while kept:
        losses = _losses_of_removal(gram, kept, ridge if rescale else None)
        near = torch.nonzero(losses <= losses.min() + tie)
        order.append(kept.pop(int(near[-1])))
    return order


def _losses_of_removal(gram: Tensor, kept: list[int], ridge: float | None) -> Tensor:
    """By how much the loss grows with the removal of each that is left; None without factors."""
    if ridge is None:
        gone = [unit for unit in range(len(gram)) if unit not in set(kept)]
        return gram.diagonal()[kept] + 2 * gram[kept][:, gone].sum(-1)
    inverse, factors, _ = _least_squares(gram, kept, ridge)
    return factors.square() / inverse.diagonal()


def rescaling(gram: Tensor, kept: list[int], ridge: float = RIDGE) -> Tensor:
    """The factors w of the units that stay which make `||M - sum_n w_n M_n||_F` least, `[n]`.

    Example:
        >>> import torch
        >>> twice = torch.ones(2, 2, dtype=torch.float64)  # two equal channels
        >>> round(rescaling(twice, [0]).item(), 6)
        2.0
    """
    if len(kept) == len(gram):
        return torch.ones(len(kept), dtype=gram.dtype, device=gram.device)
    _, factors, sizes = _least_squares(gram, kept, ridge)
    return factors / sizes


def _least_squares(gram: Tensor, kept: list[int], ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse and factors of the units that stay, in units of their sizes `[n]`."""
    sizes = gram.diagonal().clamp(min=0.0).sqrt()
    sizes = torch.where(sizes > 0, sizes, 1.0)
    shape = gram / (sizes[:, None] * sizes)
    inner = shape[kept][:, kept]
    # Not by LU: with several threads MKL's fails on some sizes (DLASWP), and this is symmetric.
    values, vectors = torch.linalg.eigh(inner)
    inverse = (vectors / (values.clamp(min=0.0) + ridge)) @ vectors.mT
    return inverse, inverse @ (shape[kept] @ sizes), sizes[kept]


def loss(gram: Tensor, kept: list[int], factors: Tensor) -> float:
    """`||M - sum_n w_n M_n||_F^2 / ||M||_F^2`, the share that is lost.

    Example:
        >>> import torch
        >>> loss(torch.diag(torch.tensor([3.0, 1.0])).double(), [0], torch.ones(1).double())
        0.25
    """
    left = torch.ones(len(gram), dtype=gram.dtype, device=gram.device)
    left[kept] -= factors
    whole = float(gram.sum())
    return float((left @ gram @ left).clamp(min=0.0)) / whole if whole > 0 else 0.0
