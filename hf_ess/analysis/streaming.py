"""Windows measured and the operator proved from the same rows, each formed once and freed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hf_ess.operators.chunks import slices
from hf_ess.operators.dense import FutureMeter
from hf_ess.spectra import Request, Spectra
from hf_ess.spectra.windowed import RowPlan, WindowedSolver
from model_adapters import LayerOperator

Verify = Callable[[Tensor, slice, slice], None]


def streamed_spectra(
    layer: LayerOperator, request: Request, memory_budget: int, verify: Verify
) -> tuple[list[Spectra], float]:
    """Spectra of windows `[B, g, P, K]` of some groups each, and the share of the future.

    Args:
        layer: the operator `[B, G, L, L]` and its inputs.
        request: with a window.
        memory_budget: bytes, of which rows of M and the work on them may take half.
        verify: gets `(M u)[:, groups, rows]` in float64, `[B, g, R, C]`, with groups and rows.

    Raises:
        MemoryBudgetError: a row of one operator is larger than the budget.
        NonFiniteError: NaN or infinite entries.
    """
    operator = layer.operator
    plan = RowPlan.of(operator, request, memory_budget, whole_rows=True, share=2)
    parts, future = [], 0.0
    for groups in slices(operator.groups, plan.groups):
        inputs = layer.inputs[:, groups].to(torch.float64)
        solver, meter = WindowedSolver(operator, groups, request), FutureMeter()
        for rows in slices(operator.length, plan.rows):
            formed = operator.to_dense_block(groups, rows)
            solver.add(formed, rows.start)
            meter.add(formed, rows.start)
            verify(formed @ inputs, groups, rows)
        parts.append(solver.spectra())
        future = max(future, meter.share)
    return parts, future
