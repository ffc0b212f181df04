"""What C reads of the channels that stay, fitted anew to the whole operator.

M is linear in the weights W of C: row i of M is `sum_n (W f_i)_n r_in`, where f are the features
that W is applied to, and r_in is what channel n makes of all earlier inputs. So the best W for the
channels that stay solves one system of linear equations; the products `r_in . r_im` that it needs
are the states of one pass over the sequence (`hf_ess.operators.channel_products`).

Source: least squares; its use here is ours.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, UnsupportedMixerError
from hf_ess.operators import StateSpaceOperator, residual_bound
from hf_ess.operators.channel_products import states

# Relative to the mean square: directions of the features that no text shows stay as they are.
RIDGE = 1e-4
# Equations of one set of operators, of which a matrix is formed.
MOST_EQUATIONS = 2**13


def refitted(
    operator: StateSpaceOperator,
    features: Tensor,
    weights: Tensor,
    turns: Tensor,
    kept: Tensor,
    begin: Tensor,
) -> Tensor:
    """The weights of C for the channels that stay which make `||M - M_kept||_F` least.

    Args:
        operator: M, `[B, G, L, L]`, with G a multiple of S.
        features: f, `[B, L, d]`.
        weights: W of all channels, `[S, N, d]`.
        turns: what is applied to `W f_i` before it reads the state, `[L|1, S|1, N, N]`.
        kept: the channels that stay, `[S, n]`; turns leave them among themselves.
        begin: where the fit begins, and stays as far as texts do not say better, `[S, n, d]`.

    Returns:
        `[S, n, d]` float64.

    Raises:
        UnsupportedMixerError: C is not what the weights make of the features.
        InvalidInputError: n x d is too large for one system of equations.
    """
    sets, count = kept.shape
    width = features.shape[-1]
    if count * width > MOST_EQUATIONS:
        raise InvalidInputError(
            f"{count} channels of {width} features are too many to fit at once.",
            fix=f"Fit at most {MOST_EQUATIONS} weights for each head, or pass refit=False.",
        )
    products, targets = _equations(operator, features, weights, turns, kept)
    first = begin.double().flatten(1)
    ridge = RIDGE * products.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    ridge = torch.where(ridge > 0, ridge, 1.0)
    identity = torch.eye(count * width, dtype=products.dtype, device=products.device)
    missing = targets - (products @ first[..., None])[..., 0]
    # Not by LU: with several threads MKL's fails on some sizes (DLASWP), and these are symmetric.
    factor = torch.linalg.cholesky(products + ridge * identity)
    change = torch.cholesky_solve(missing[..., None], factor)[..., 0]
    fitted: Tensor = first + change
    return fitted.reshape(sets, count, width)


def _equations(
    operator: StateSpaceOperator, features: Tensor, weights: Tensor, turns: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """Products `[S, n d, n d]` and right sides `[S, n d]`."""
    sets, count = kept.shape
    width = features.shape[-1]
    wide = features.double()
    products = wide.new_zeros(sets, count, count, width, width)
    targets = wide.new_zeros(sets, count, width)
    rows = torch.arange(sets, device=kept.device)[:, None]
    everything = states(operator.length, partial(operator.channels, slice(None)))
    for at, (step, state) in enumerate(everything):
        feature, turn = wide[:, at], turns[min(at, len(turns) - 1)].double()
        _check(step.read, feature, weights, turn, operator)
        read = (state @ step.read[..., None])[..., 0]
        state, read = (
            part.reshape(len(part), sets, -1, *part.shape[2:]).sum(2) for part in (state, read)
        )
        state = (turn.mT @ state @ turn)[:, rows[..., None], kept[..., None], kept[:, None, :]]
        read = (turn.mT @ read[..., None])[..., 0][:, rows, kept]
        outer = feature[:, :, None] * feature[:, None, :]
        products += torch.einsum("bsnm,bde->snmde", state, outer)
        targets += torch.einsum("bsn,bd->snd", read, feature)
    square = products.transpose(2, 3).reshape(sets, count * width, count * width)
    return square, targets.flatten(1)


def _check(
    read: Tensor, feature: Tensor, weights: Tensor, turn: Tensor, operator: StateSpaceOperator
) -> None:
    """Refuses features of which the weights do not make what the operator reads."""
    made = torch.einsum("snd,bd->bsn", weights.double(), feature)
    made = (turn @ made[..., None])[..., 0].repeat_interleave(operator.groups // len(weights), 1)
    if (read - made).abs().max() > residual_bound(weights.dtype) * read.abs().max():
        raise UnsupportedMixerError("C is not what its weights make of the features of the layer")
