"""A graph for singular values: from the blocks back to what an operator was made of.

The values themselves come from the ordinary routes, bit for bit. With the singular vectors
`H = U diag(s) V'` held fixed, `s_k = u_k' H v_k` has the gradient of the singular value, so that a
function f of them has `dH = U diag(f'(s)) V'`: no gap between singular values enters a
denominator, and equal ones give what any choice of their vectors gives, if f treats them alike.
Values that are not larger than their error are rounding: they get no gradient.

For a recurrence H is never formed: `H = O R` with thin factors, of which the vectors are found by
QR, and `u' O` and `R v` lead back to the features.

Source: ours; the gradient of a function of singular values is that of Lewis and Sendov,
"Nonsmooth analysis of singular values", Set-Valued Analysis 2005, theorem 7.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor
from torch.nn import functional

from hf_ess.errors import NotDifferentiableError
from hf_ess.operators import (
    ConvolutionOperator,
    JacobianOperator,
    LinearOperator,
    MimoOperator,
    RecurrentOperator,
)
from hf_ess.operators.compositions import Composition
from hf_ess.operators.groups import GroupsOfRealizable
from hf_ess.spectra.blocks import block_shape
from hf_ess.spectra.realized import small_realization
from hf_ess.spectra.spectra import Spectra


@dataclass(frozen=True)
class BlockRange:
    """Rows `position..bottom-1` and columns `left..position-1` of one block."""

    position: int
    bottom: int
    left: int


def with_graph(spectra: Spectra, operator: LinearOperator) -> Spectra:
    """The same spectra, whose values autograd follows back to the operator's features.

    Args:
        spectra: of this operator, `[B, G, P, K]`.
        operator: made of tensors that require gradients.

    Raises:
        NotDifferentiableError: the operator is a Jacobian, or mixes channels.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator
        >>> from hf_ess.spectra import block_singular_values
        >>> log_decay = torch.full((1, 1, 8), -0.5, dtype=torch.float64, requires_grad=True)
        >>> ones = torch.ones(1, 1, 8, 1)
        >>> sums = StateSpaceOperator(ScalarDecay(log_decay), ones, ones)
        >>> block_singular_values(sums, [4], differentiable=True).values.sum().backward()
        >>> bool((log_decay.grad[0, 0, 1:] > 0).all())  # slower decay, larger block
        True
    """
    size = spectra.values.shape[-1]
    ranges = [_range(position, operator.length, spectra) for position in spectra.positions]
    followed = [
        functional.pad(values[..., :size], (0, max(0, size - values.shape[-1])))
        for values in traced_values(operator, ranges)
    ]
    traced = torch.stack(followed, -2)
    traced = torch.where(spectra.values > spectra.value_errors(), traced, 0.0)
    return replace(spectra, values=spectra.values + (traced - traced.detach()))


def _range(position: int, length: int, spectra: Spectra) -> BlockRange:
    rows, columns = block_shape(position, length, spectra.window)
    return BlockRange(position, position + rows, position - columns)


@singledispatch
def traced_values(operator: LinearOperator, ranges: list[BlockRange]) -> Iterator[Tensor]:
    """`u_k' H v_k` of each block, `[B, G, k]` descending; the default forms the blocks.

    Register a function of the same signature for an operator whose structure gives them without
    forming the blocks, as for `operator_block_singular_values`.
    """
    top, left = ranges[0].position, min(part.left for part in ranges)
    bottom, right = max(part.bottom for part in ranges), ranges[-1].position
    matrix = operator.to_dense_block(None, slice(top, bottom), slice(left, right))
    for part in ranges:
        rows = slice(part.position - top, part.bottom - top)
        columns = slice(part.left - left, part.position - left)
        yield _of_block(matrix[..., rows, columns])


@traced_values.register(MimoOperator)
@traced_values.register(JacobianOperator)
def _refused(operator: LinearOperator, ranges: list[BlockRange]) -> Iterator[Tensor]:
    raise NotDifferentiableError(
        f"The singular values of a {type(operator).__name__} have no gradient here.",
        causes=["it is known by its values alone, or mixes channels"],
        fix="Use an operator of single channels: attention, a recurrence, a convolution, a matrix.",
    )


@traced_values.register(RecurrentOperator)
def _of_recurrence(operator: RecurrentOperator, ranges: list[BlockRange]) -> Iterator[Tensor]:
    groups = slice(0, operator.groups)
    for part in ranges:
        past = operator.stretch(groups, part.left, part.position).written()
        future = operator.stretch(groups, part.position, part.bottom).readings()
        left, right = _vectors_of_product(future.detach(), past.detach())
        yield ((future.mT @ left) * (past.mT @ right)).sum(-2)


@traced_values.register(Composition)
@traced_values.register(GroupsOfRealizable)
def _of_composition(
    operator: Composition | GroupsOfRealizable, ranges: list[BlockRange]
) -> Iterator[Tensor]:
    recurrence = small_realization(operator)
    if recurrence is None:
        return traced_values.dispatch(LinearOperator)(operator, ranges)
    return _of_recurrence(recurrence, ranges)


@traced_values.register(ConvolutionOperator)
def _of_convolution(operator: ConvolutionOperator, ranges: list[BlockRange]) -> Iterator[Tensor]:
    """From the corner of each block that the taps reach."""
    for part in ranges:
        bottom = min(part.bottom, part.position + operator.memory)
        left = max(part.left, part.position - operator.memory)
        rows, columns = slice(part.position, bottom), slice(left, part.position)
        yield _of_block(operator.to_dense_block(None, rows, columns))


def _of_block(block: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(block.detach(), full_matrices=False)
    values: Tensor = (left * (block @ right.mT)).sum(-2)
    return values


def _vectors_of_product(future: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """Singular vectors `[.., a, k]`, `[.., b, k]` of `future past'`, from those of triangles."""
    after, upper = torch.linalg.qr(future)
    before, lower = torch.linalg.qr(past)
    left, _, right = torch.linalg.svd(upper @ lower.mT, full_matrices=False)
    return after @ left, before @ right.mT
