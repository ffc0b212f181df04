"""Spectra of anything: a matrix, or an operator by the route that fits its structure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.operators import DenseOperator, LinearOperator
from hf_ess.spectra.blocks import Window, resolve_window
from hf_ess.spectra.engine import (
    DEFAULT_MEMORY_BUDGET,
    Request,
    dense_block_singular_values,
)
from hf_ess.spectra.positions import Positions, resolve_positions
from hf_ess.spectra.spectra import Spectra
from hf_ess.spectra.windowed import streams, windowed_block_singular_values


def block_singular_values(
    matrix_or_operator: Tensor | np.ndarray[Any, Any] | LinearOperator,
    positions: Positions,
    *,
    method: str = "auto",
    window: Window = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    tolerance_floor: float | None = None,
    differentiable: bool = False,
) -> Spectra:
    """Singular values of the blocks `H_i = M[i:, :i]` of a causal operator, with error bounds.

    Args:
        matrix_or_operator: `[..., L, L]` real (tensor or array), lower triangular up to
            rounding, or an operator `[B, G, L, L]`.
        positions: see `resolve_positions`.
        method: "gram" (cumulative Gram in float64), "svd" (each block on its own), or "auto":
            Gram, and SVD where the Gram's error bound reaches `tolerance_floor`.
        window: None, or widths `w` or `(f, p)` for the windowed spectra of `M[i:i+f, i-p:i]`.
        memory_budget: bytes for formed operators and the work on them; the result comes on top.
        tolerance_floor: the smallest tolerance at which values will be counted, absolute.
        differentiable: the same values, with a graph back to what the operator was made of
            (`gradients.py`); needs the memory of the features or blocks at all positions.

    Returns:
        values `[..., P, K]` float64, descending and zero padded, K the largest `min(i, L - i)`
        (or of the windowed blocks), and their error, on the device of the operator.

    Raises:
        InvalidTypeError: not an operator, not real numbers, positions that are no integers.
        InvalidInputError: wrong shape, positions, window or method.
        NotCausalError: entries above the diagonal.
        NonFiniteError: NaN or infinite entries, or singular values that overflow float64.
        MemoryBudgetError: one operator of all samples is larger than the budget.
        NotDifferentiableError: a gradient is asked for of an operator that has none.

    Source: Parnichkun et al., ICML 2025, section 3 and Theorem 3.2 (the rank of `H_i` is the
    smallest state that can carry the past across i). Cumulative Gram, bounds, and windows
    are ours.

    Example:
        >>> import torch
        >>> from hf_ess.spectra import block_singular_values
        >>> average = torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None]
        >>> spectra = block_singular_values(average, "all")
        >>> (spectra.values > 1e-3).sum(-1)
        tensor([1, 1, 1, 1, 1])
    """
    if isinstance(matrix_or_operator, LinearOperator):
        operator, leading = matrix_or_operator, None
    else:
        operator, leading = _as_operator(matrix_or_operator)
    request = Request(
        resolve_positions(positions, operator.length),
        resolve_window(window),
        method,
        tolerance_floor,
    )
    with torch.no_grad():
        spectra = operator_block_singular_values(operator, request, memory_budget=memory_budget)
    if differentiable:
        from hf_ess.spectra.gradients import with_graph

        spectra = with_graph(spectra, operator)
    return spectra if leading is None else spectra.reshape(leading)


@singledispatch
def operator_block_singular_values(
    operator: LinearOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """The route of one type of operator; the default forms M, as many groups as fit at a time.

    Register a function of the same signature for an operator whose structure gives its
    spectra without forming M. It returns spectra of shape `[B, G, P, K]`.

    Example:
        >>> from hf_ess.operators import LinearOperator
        >>> from hf_ess.spectra import operator_block_singular_values
        >>> operator_block_singular_values.dispatch(LinearOperator).__name__
        'operator_block_singular_values'
    """
    return formed_block_singular_values(operator, request, memory_budget=memory_budget)


def formed_block_singular_values(
    operator: LinearOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """Spectra by forming M, or rows of it for short windows, whatever the structure.

    Arguments and errors are those of `operator_block_singular_values`.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator
        >>> from hf_ess.spectra.dispatch import formed_block_singular_values
        >>> from hf_ess.spectra.engine import Request
        >>> operator = DenseOperator(torch.ones(3, 3).tril())
        >>> formed_block_singular_values(operator, Request((1,))).method
        'svd'
    """
    if not isinstance(operator, LinearOperator):
        raise InvalidTypeError(f"Not an operator: {type(operator).__name__}.")
    if streams(operator.length, request):
        return windowed_block_singular_values(operator, request, memory_budget=memory_budget)
    parts = [
        dense_block_singular_values(operator.to_dense(chunk), request, memory_budget=memory_budget)
        for chunk in operator.group_chunks(memory_budget)
    ]
    return Spectra.concatenate(parts, dim=1)


def has_own_route(operator: LinearOperator) -> bool:
    """Whether the spectra of this type of operator are computed without forming M.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator
        >>> from hf_ess.spectra import has_own_route
        >>> has_own_route(DenseOperator(torch.ones(3, 3).tril()))
        False
    """
    route = operator_block_singular_values.dispatch
    return route(type(operator)) is not route(LinearOperator)


def _as_operator(matrix: object) -> tuple[DenseOperator, Sequence[int]]:
    """A matrix `[..., L, L]` as operators `[1, G, L, L]`, and its leading shape."""
    if isinstance(matrix, np.ndarray):
        matrix = _as_tensor(matrix)
    if not isinstance(matrix, Tensor):
        raise InvalidTypeError(
            f"Spectra need a matrix or an operator, got {type(matrix).__name__}.",
            fix="Pass a tensor or array [..., L, L], or a LinearOperator.",
        )
    if matrix.ndim < 2:
        raise InvalidInputError(f"A matrix needs two axes [L, L], got {list(matrix.shape)}.")
    leading = matrix.shape[:-2]
    return DenseOperator(matrix.reshape(1, -1, *matrix.shape[-2:])), leading


def _as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.kind != "f":
        raise InvalidTypeError(f"A matrix needs real floating-point numbers, got {array.dtype}.")
    # A copy in a dtype that torch knows: arrays may be long double, byte-swapped or read-only.
    known = array.dtype.itemsize if array.dtype.itemsize in (2, 4) else 8
    return torch.from_numpy(np.array(array, dtype=f"f{known}"))
