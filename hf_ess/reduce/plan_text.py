"""A plan as tables for the terminal, through rich."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hf_ess.plain_text import printable
from hf_ess.report.tables import ABSENT, Column, fitted_tables, number
from hf_ess.report.text import counted

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from hf_ess.reduce.reduction_plan import LayerPlan, ReductionPlan

KIB = 1024


class PlanView:
    """The table and notes of a plan, to be printed by rich at the width of its console."""

    def __init__(self, plan: ReductionPlan) -> None:
        self.plan = plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        first, *rest = _columns(self.plan)
        yield from fitted_tables(_title(self.plan), first, rest, options.max_width)
        yield from (Text(printable(line)) for line in _notes(self.plan))


def _title(plan: ReductionPlan) -> str:
    kind = "relative tolerance" if plan.relative else "tolerance"
    goal = f"{kind} {plan.tolerance:g}" if plan.tolerance else f"{plan.state_budget} numbers"
    name = f" of {plan.model}" if plan.model else ""
    return f"State that suffices{name}: {goal}"


def _columns(plan: ReductionPlan) -> list[Column]:
    layers = plan.layers
    return [
        Column("layer", [str(x.index) if x.index >= 0 else x.name for x in layers], False),
        Column("mixer", [layer.mixer for layer in layers], justify_right=False),
        Column("state\nnow", [_known(x.state_size, otherwise="grows") for x in layers]),
        Column("suf-\nfices", [_known(layer.size) for layer in layers]),
        Column("at every\nposition", [_known(layer.between) for layer in layers]),
        Column("toler-\nance", [_known(layer.tolerance) for layer in layers]),
        Column("block error\nat most", [_error(layer.largest_error) for layer in layers]),
        Column("no state\nbelow", [_error(layer.unbeatable) for layer in layers]),
        Column("numbers\nnow", [str(layer.numbers_now(plan.length)) for layer in layers]),
        Column("numbers\nthen", [_then(plan, layer) for layer in layers]),
    ]


def _known(value: float | None, otherwise: str = ABSENT) -> str:
    return otherwise if value is None else f"{value:g}"


def _error(value: float) -> str:
    return ABSENT if math.isnan(value) else f"{value:.2g}"


def _then(plan: ReductionPlan, layer: LayerPlan) -> str:
    return str(layer.numbers_then(plan.length)) if layer.shrinks else ABSENT


def _notes(plan: ReductionPlan) -> list[str]:
    now, then = plan.state_numbers_now, plan.state_numbers_then
    lines = []
    if now:
        saved = number(100 * (1 - then / now))
        lines.append(
            f"States of fixed size: {now} -> {then} numbers ({saved}% less), in float32 "
            f"{plan.bytes_now() / KIB:.1f} -> {plan.bytes_then() / KIB:.1f} KiB for a text"
        )
    for layer in plan.layers:
        if layer.reason:
            lines.append(f"Not planned: {layer.name}: {layer.reason}")
        elif layer.remark:
            lines.append(f"{layer.name}: {layer.remark}")
    if plan.recurrences:
        count = counted(len(plan.recurrences), "layer")
        one = "a recurrence" if len(plan.recurrences) == 1 else "recurrences"
        numbers = sum(layer.channels * (layer.size or 0) for layer in plan.recurrences)
        cache = sum(layer.numbers_now(plan.length) for layer in plan.recurrences)
        lines.append(
            f"{count} of growing state could become {one}: values for every channel of "
            f"{plan.length} tokens are {cache} numbers (heads that share them keep fewer), these "
            f"states {numbers}"
        )
    return [*lines, *(f"Note: {remark}" for remark in plan.remarks)]
