"""Small dense kernels of the factored route: reducing rows, and spectra of products."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.spectra.bounds import ROUNDING, UNDERFLOW


def powers_above(largest: Tensor) -> Tensor:
    """The powers of two just above numbers, 1 for zero and for what is not finite."""
    exponent = torch.frexp(largest).exponent.to(torch.int64)
    usual = torch.isfinite(largest) & (largest > 0)
    exponent = torch.where(usual, exponent, 0).clamp(-1022, 1023)
    # Put together from bits: exact, where exp2 may round.
    return ((exponent + 1023) << 52).view(torch.float64)


def reduced(rows: Tensor) -> Tensor:
    """At most N rows with the same Gram matrix as `[B, g, r, N]`: the R of a QR decomposition."""
    count, width = rows.shape[-2:]
    if count <= width:
        return rows
    if width == 1:
        return _norm(rows)
    triangle: Tensor = torch.linalg.qr(rows, mode="r").R
    return triangle


def _norm(matrices: Tensor) -> Tensor:
    """Norm of each of `[..., a, b]`, `[..., 1, 1]`, safe from overflow and underflow of squares."""
    scale = powers_above(matrices.abs().amax((-2, -1), keepdim=True))
    norm: Tensor = torch.linalg.vector_norm(matrices / scale, dim=(-2, -1), keepdim=True)
    return norm * scale


def _singular_values(matrices: Tensor) -> Tensor:
    """`[..., min(a, b)]` descending; a single row or column needs no decomposition."""
    if min(matrices.shape[-2:]) == 1:
        return _norm(matrices)[..., 0]
    values: Tensor = torch.linalg.svdvals(matrices)
    return values


def product_singular_values(
    future: Tensor, past: Tensor, *, steps: int, mixes: bool
) -> tuple[Tensor, Tensor]:
    """Singular values of `future @ past'` and a bound on their error.

    Args:
        future: `[B, g, a, N]`, triangular factor of the outputs.
        past: `[B, g, b, N]`, triangular factor of the inputs.
        steps: how many steps the factors went through.
        mixes: whether transitions mix the numbers of the state.

    Returns:
        values `[B, g, min(a, b)]` descending (not finite where a factor is not), error `[B, g]`.
    """
    after, before = (powers_above(f.abs().amax((-2, -1))) for f in (future, past))
    future, past = future / after[..., None, None], past / before[..., None, None]
    product = future @ past.mT
    finite = torch.isfinite(product).all(-1).all(-1)
    if finite.all():
        values = _singular_values(product)
    else:
        safe = torch.where(finite[..., None, None], product, 0.0)
        values = _singular_values(safe).masked_fill(~finite[..., None], torch.nan)
    error = factored_error(future, past, steps=steps, mixes=mixes)
    # In two steps, since the product of the powers need not be a normal float64.
    low, high = torch.minimum(after, before), torch.maximum(after, before)
    return values * low[..., None] * high[..., None], error * low * high


def factored_error(future: Tensor, past: Tensor, *, steps: int, mixes: bool) -> Tensor:
    """Bound on |error| of the singular values of a product of factors, `[B, g]`.

    Householder QR, diagonal transitions and the product itself err in every column in proportion
    to that column (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, theorem 19.4),
    so that the error of `O R` is a multiple of `u sum_n |o_n| |r_n|`: no scaling of the state
    matters. Where transitions mix columns it is a multiple of `u |O| |R|`. The multiple grows
    with the steps, as their rounding errors agree in sign where all steps are alike.
    """
    columns_after = torch.linalg.vector_norm(future, dim=-2)
    columns_before = torch.linalg.vector_norm(past, dim=-2)
    if mixes:
        size = columns_after.norm(dim=-1) * columns_before.norm(dim=-1)
    else:
        size = (columns_after * columns_before).sum(-1)
    bound: Tensor = (16 + 2 * future.shape[-1] + steps) * ROUNDING * size + UNDERFLOW
    return bound
