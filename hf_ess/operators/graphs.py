"""Arithmetic in place where no gradient is asked for, and by copies where autograd follows."""

from __future__ import annotations

import torch
from torch import Tensor


def tracked(*tensors: Tensor) -> bool:
    """Whether autograd follows what is computed from the tensors now.

    Example:
        >>> import torch
        >>> from hf_ess.operators.graphs import tracked
        >>> weight = torch.ones(2, requires_grad=True)
        >>> with torch.no_grad():
        ...     inside = tracked(weight)
        >>> tracked(weight), inside
        (True, False)
    """
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def multiply_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Puts `left * right` into `out`, keeping to its strides.

    Example:
        >>> import torch
        >>> from hf_ess.operators.graphs import multiply_into
        >>> out = torch.empty(2)
        >>> multiply_into(out, torch.tensor([1.0, 2.0]), torch.tensor(3.0))
        >>> out
        tensor([3., 6.])
    """
    if tracked(left, right):
        out.copy_(left * right)
    else:
        torch.mul(left, right, out=out)


def before_change(rows: Tensor, *factors: Tensor) -> Tensor:
    """The rows for a product with factors, after which they are changed in place.

    A copy where autograd keeps them for the gradient of the factors, else the rows themselves.
    """
    return rows.clone() if tracked(rows, *factors) else rows
