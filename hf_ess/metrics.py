"""Effective state-size of a block from its singular values: pure functions.

Source: Parnichkun et al., "Quantifying Memory Utilization with Effective State-Size",
ICML 2025, section 3, equations 2 and 3.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hf_ess.arguments import check_number
from hf_ess.errors import InvalidInputError, InvalidTypeError, NonFiniteError


def tolerance_ess(
    singular_values: Tensor | ArrayLike, tol: float, *, relative: bool = False
) -> Tensor:
    """Number of singular values above a tolerance, int64 `[...]` (equation 2).

    The comparison is strict and made in the dtype of the singular values. The tolerance has the
    unit of the operator; with `relative` it is a fraction of the largest singular value (ours).

    Args:
        singular_values: `[..., K]`, non-negative, in any order; zero padding does no harm.
        tol: positive and finite.
        relative: count `s > tol * s_1` instead of `s > tol`.

    Raises:
        InvalidInputError: tol is not positive and finite, or a singular value is negative.
        InvalidTypeError: an argument is no number or no array of real numbers.
        NonFiniteError: a singular value is NaN or infinite.

    Example:
        >>> tolerance_ess([[2.0, 0.5, 0.0], [0.0, 0.0, 0.0]], 0.1)
        tensor([2, 0])
        >>> tolerance_ess([2.0, 0.5, 0.0], 0.3, relative=True)
        tensor(1)
    """
    values = _checked(singular_values)
    threshold = _checked_tolerance(tol)
    if not relative:
        return (values > threshold).sum(dim=-1)
    if values.shape[-1] == 0:
        return torch.zeros(values.shape[:-1], dtype=torch.int64, device=values.device)
    return (values > threshold * values.amax(dim=-1, keepdim=True)).sum(dim=-1)


def soft_tolerance_ess(
    singular_values: Tensor | ArrayLike, tol: float, *, width: float = 0.25
) -> Tensor:
    """Tolerance-ESS with a smooth step, for gradients: `sum 1 / (1 + (tol / s)^(1/width))` (ours).

    The step is a sigmoid of `(log s - log tol) / width`: of 0.12 for an s of `exp(-2 width) tol`,
    of 1/2 at the tolerance, of 0.88 for `exp(2 width) tol`. As the width goes to 0 the sum goes to
    `tolerance_ess`, if no value equals the tolerance. A value of 0 counts 0; gradients are finite
    everywhere, since the width is at most 1.

    Args:
        singular_values: `[..., K]`, non-negative, in any order; zero padding does no harm.
        tol: positive and finite, in the unit of the operator.
        width: of the step in log s, above 0 and at most 1.

    Returns:
        `[...]`, in the dtype that `entropy_ess` would give.

    Raises:
        InvalidInputError: tol or width is out of range, or a singular value is negative.
        InvalidTypeError: an argument is no number or no array of real numbers.
        NonFiniteError: a singular value is NaN or infinite.

    Example:
        >>> soft_tolerance_ess([2.0, 0.1, 0.0], 0.1)
        tensor(1.5000, dtype=torch.float64)
        >>> soft_tolerance_ess([2.0, 0.09, 0.0], 0.1, width=0.01).round()
        tensor(1., dtype=torch.float64)
    """
    values = _checked(singular_values)
    threshold = _checked_tolerance(tol)
    # Wider steps have infinite gradients at singular values of 0.
    check_number("width", width, above=0, most=1, fix="Use for example 0.25.")
    positive = values > 0
    # log is given 1 in place of 0: a NaN gradient would survive a `where` put after the log.
    logs = torch.where(positive, values, torch.ones_like(values)).log() - math.log(threshold)
    return torch.where(positive, torch.sigmoid(logs / width), 0.0).sum(dim=-1)


def entropy_ess(singular_values: Tensor | ArrayLike) -> Tensor:
    """Effective rank `exp(-sum p log p)` with `p = s / sum s`, `[...]` (equation 3).

    Between 1 and the number of positive singular values; 0 for a block without any (the limit
    that tolerance-ESS has too; ours). It does not change when all singular values are scaled.
    float64 stays float64, float32 stays float32, shorter floats become float32.

    Gradients are finite everywhere: where a singular value is 0 the derivative of `p log p` is
    infinite and its contribution is left out.

    Source of the effective rank: Roy and Vetterli, "The effective rank", EUSIPCO 2007.

    Args:
        singular_values: `[..., K]`, non-negative, in any order; zero padding does no harm.

    Raises:
        InvalidInputError: a singular value is negative, or there is no axis.
        InvalidTypeError: not an array of real numbers.
        NonFiniteError: a singular value is NaN or infinite.

    Example:
        >>> entropy_ess([[5.0, 5.0, 0.0], [0.0, 0.0, 0.0]])
        tensor([2., 0.], dtype=torch.float64)
    """
    values = _checked(singular_values)
    if values.shape[-1] == 0:
        return values.sum(dim=-1)
    largest = values.detach().amax(dim=-1, keepdim=True)
    # Divided first by the largest, so that neither 1e-300 nor 1e300 leaves the range in the sum.
    # The result does not depend on that scale, which is why it may be detached.
    scaled = values / torch.where(largest > 0, largest, torch.ones_like(largest))
    total = scaled.sum(dim=-1, keepdim=True)
    shares = scaled / torch.where(largest > 0, total, torch.ones_like(total))
    positive = shares > 0
    # log is given 1 in place of 0: a NaN gradient would survive a `where` put after the log.
    logs = torch.where(positive, shares, torch.ones_like(shares)).log()
    count = positive.sum(dim=-1).to(values.dtype)
    rank = torch.exp(-(shares * logs).sum(dim=-1))
    # Rounding may step outside [1, count] by one unit in the last place.
    rank = torch.minimum(torch.clamp(rank, min=1.0), torch.clamp(count, min=1.0))
    return torch.where(count > 0, rank, torch.zeros_like(rank))


def _checked(singular_values: Tensor | ArrayLike) -> Tensor:
    """The singular values as a real floating tensor of at least one axis, finite and >= 0."""
    values = _as_tensor(singular_values)
    if values.ndim == 0:
        raise InvalidInputError(
            "The singular values are a single number; their last axis is missing.",
            fix="Pass an array of shape [..., K].",
        )
    if not bool(torch.isfinite(values).all()):
        raise NonFiniteError(
            "The singular values contain NaN or infinity.",
            causes=["the operator they come from contains NaN or infinity", "padding with NaN"],
            fix="Pad with zeros, and select the finite blocks first.",
        )
    if bool((values < 0).any()):
        raise InvalidInputError(
            "The singular values contain negative numbers.",
            causes=["these are eigenvalues, or a matrix instead of its singular values"],
            fix="Pass the result of torch.linalg.svdvals.",
        )
    return values


def _as_tensor(singular_values: Tensor | ArrayLike) -> Tensor:
    values = singular_values
    if not isinstance(values, Tensor):
        try:
            values = torch.as_tensor(np.asarray(values))
        except (TypeError, ValueError) as error:
            raise InvalidTypeError(
                f"The singular values are no array of numbers: {error}"
            ) from error
    if values.is_complex():
        raise InvalidTypeError("The singular values are complex; they must be real.")
    if not values.is_floating_point():
        return values.to(torch.float64)
    short = values.dtype not in (torch.float32, torch.float64)
    return values.to(torch.float32) if short else values


def _checked_tolerance(tol: float) -> float:
    try:
        number = float(tol)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"The tolerance must be a number, got {tol!r}.") from error
    if not math.isfinite(number) or number <= 0:
        raise InvalidInputError(
            f"The tolerance must be positive and finite, got {tol!r}.",
            fix="Use for example 1e-3. To count every singular value, use a tiny tolerance.",
        )
    return number
