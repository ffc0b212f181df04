"""Spectra of compositions and convolutions: factored where a small state is known."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.operators import ConvolutionOperator, RecurrentOperator
from hf_ess.operators.compositions import Composition
from hf_ess.operators.groups import GroupsOfRealizable
from hf_ess.operators.realizations import RealizableOperator
from hf_ess.spectra.blocks import block_shape
from hf_ess.spectra.bounds import svd_error
from hf_ess.spectra.dispatch import (
    formed_block_singular_values,
    operator_block_singular_values,
)
from hf_ess.spectra.engine import DEFAULT_MEMORY_BUDGET, Request, refuse_overflow
from hf_ess.spectra.factored import factored_block_singular_values
from hf_ess.spectra.powers import error_times_powers, powers_above, times_powers
from hf_ess.spectra.spectra import Spectra

# A state of more than this share of the sequence is cheaper as a matrix.
SMALL_SHARE = 0.25
BANDED_REASON = "a short convolution: its blocks are not larger than the filter"


@operator_block_singular_values.register(Composition)
@operator_block_singular_values.register(GroupsOfRealizable)
def realized_block_singular_values(
    operator: Composition | GroupsOfRealizable,
    request: Request,
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Spectra:
    """Spectra of gates, sums and products: factored if all parts are recurrences of small state.

    Arguments and errors are those of `operator_block_singular_values`.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator, Product
        >>> from hf_ess.spectra import block_singular_values
        >>> delay = ConvolutionOperator(torch.tensor([[0.0, 1.0]]), length=32)
        >>> block_singular_values(Product(delay, delay), [16]).values
        tensor([[[[1., 1.]]]], dtype=torch.float64)
    """
    recurrence = small_realization(operator) if request.method == "auto" else None
    if recurrence is None:
        return formed_block_singular_values(operator, request, memory_budget=memory_budget)
    return factored_block_singular_values(recurrence, request, memory_budget=memory_budget)


def small_realization(operator: RealizableOperator) -> RecurrentOperator | None:
    """The recurrence behind an operator, None where its matrix is cheaper.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator
        >>> from hf_ess.spectra.realized import small_realization
        >>> taps = torch.ones(1, 4)
        >>> print(small_realization(ConvolutionOperator(taps, length=8)))
        None
        >>> small_realization(ConvolutionOperator(taps, length=32)).width
        3
    """
    recurrence = operator.realization()
    if recurrence is None or recurrence.width > SMALL_SHARE * operator.length:
        return None
    return recurrence


@operator_block_singular_values.register(ConvolutionOperator)
def convolution_block_singular_values(
    operator: ConvolutionOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """Spectra of a convolution: of a short one from the few entries that its blocks have.

    Arguments and errors are those of `operator_block_singular_values`.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator
        >>> from hf_ess.spectra import block_singular_values
        >>> average = ConvolutionOperator(torch.ones(1, 2) / 2, length=64)
        >>> block_singular_values(average, [32]).values
        tensor([[[[0.5000]]]], dtype=torch.float64)
    """
    if request.method != "auto" or not operator.short:
        return formed_block_singular_values(operator, request, memory_budget=memory_budget)
    with torch.inference_mode(False), torch.no_grad():
        return _banded(operator, request)


def _banded(operator: ConvolutionOperator, request: Request) -> Spectra:
    shapes = [_band_shape(operator, position, request) for position in request.positions]
    shape = operator.batch, operator.groups, len(request.positions)
    widest = max(1, *map(min, shapes))
    values = torch.zeros(*shape, widest, dtype=torch.float64, device=operator.device)
    error = torch.zeros(shape, dtype=torch.float64, device=operator.device)
    solved: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for index, (position, (rows, columns)) in enumerate(
        zip(request.positions, shapes, strict=True)
    ):
        if operator.memory == 0:
            continue
        # Blocks of the same shape are equal where the taps never change.
        if not operator.constant or (rows, columns) not in solved:
            solved[rows, columns] = _solve(operator, position, rows, columns)
        values[:, :, index, : min(rows, columns)], error[:, :, index] = solved[rows, columns]
    refuse_overflow(values, repr(operator))
    sizes = torch.tensor([min(shape) for shape in shapes], device=operator.device)
    return Spectra(
        values,
        error,
        sizes.expand(shape).clone(),
        torch.zeros_like(error, dtype=torch.bool),
        positions=request.positions,
        window=request.window,
        method="banded",
        reason=BANDED_REASON,
    )


def _band_shape(operator: ConvolutionOperator, position: int, request: Request) -> tuple[int, int]:
    rows, columns = block_shape(position, operator.length, request.window)
    return min(rows, operator.memory), min(columns, operator.memory)


def _solve(
    operator: ConvolutionOperator, position: int, rows: int, columns: int
) -> tuple[Tensor, Tensor]:
    """Values `[B|1, G|1, k]` and error `[B|1, G|1]` of the block around a position."""
    taps = operator.taps(slice(0, operator.groups), position, position + rows)
    after = torch.arange(rows, device=operator.device)[:, None]
    back = after + columns - torch.arange(columns, device=operator.device)
    reached = taps.gather(-1, back.clamp(max=operator.memory).expand(*taps.shape[:3], columns))
    block = reached.masked_fill(back > operator.memory, 0.0)
    scale = powers_above(block.abs().amax((-2, -1)))
    values = torch.linalg.svdvals(block / scale[..., None, None])
    error = svd_error(values[..., 0], rows, columns)
    return times_powers(values, scale[..., None]), error_times_powers(error, scale)
