"""The table of dips, of one model or of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.modulation.result import ModulatedText, Modulation
from hf_ess.plain_text import printable
from hf_ess.report.names import Metric
from hf_ess.report.tables import ABSENT, Column, fitted_tables
from hf_ess.report.text import counted, shortened

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

MEANING = (
    "depth: 1 - lowest total ESS at a separator / median of its surroundings, mean over "
    "separators; in brackets, the fall as a share of what is attainable",
    "elsewhere: the same at cuts as far from the ends with no separator near, mean and deepest",
    "excess: depth - mean elsewhere, with an interval of 95 %; p: random cuts that fall as far",
)
LONGEST_NAME = 26


class ModulationView:
    """Tables and notes, to be printed by rich at the width of its console."""

    def __init__(self, results: Sequence[Modulation]) -> None:
        self.results = results

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        first, *rest = _columns(self.results)
        title = f"State modulation of {counted(len(self.results), 'model')}"
        if len(self.results) == 1:
            title = f"State modulation of {self.results[0].model}"
        yield from fitted_tables(title, first, rest, options.max_width)
        yield from (Text(printable(line)) for line in [*MEANING, *_notes(self.results)])


def _columns(results: Sequence[Modulation]) -> Iterator[Column]:
    rows = [
        (result, run, metric)
        for result in results
        for run in result.runs
        for metric in result.metrics
    ]
    if len(results) > 1:
        names = [shortened(result.model, LONGEST_NAME) for result, _, _ in rows]
        yield Column("model", names, justify_right=False)
    yield Column("text", [run.text for _, run, _ in rows], justify_right=False)
    yield Column("separator", [run.separator for _, run, _ in rows], justify_right=False)
    labels = [result.metric_label(metric) + run.flags[metric] for result, run, metric in rows]
    yield Column("metric", labels, justify_right=False)
    for header, cell in (
        ("depth\n(attainable)", _depth),
        ("elsewhere\nmean  deepest", _elsewhere),
        ("excess\n[95 %]", _excess),
        ("p", _p_value),
    ):
        yield Column(header, [cell(run, metric) for _, run, metric in rows])


def _depth(run: ModulatedText, metric: Metric) -> str:
    dips = run.dips[metric]
    fall = ABSENT if np.isnan(dips.fall) else f"{dips.fall:.1%}"
    return f"{_number(dips.depth)} ({fall})"


def _elsewhere(run: ModulatedText, metric: Metric) -> str:
    dips = run.dips[metric]
    return f"{_number(dips.expected)}  {_number(dips.deepest_elsewhere)}"


def _excess(run: ModulatedText, metric: Metric) -> str:
    dips = run.dips[metric]
    if np.isnan(dips.excess):
        return ABSENT
    interval = ABSENT if np.isnan(dips.low) else f"[{dips.low:.2f}, {dips.high:.2f}]"
    return f"{dips.excess:+.2f} {interval}"


def _p_value(run: ModulatedText, metric: Metric) -> str:
    p_value = run.dips[metric].p_value
    return ABSENT if np.isnan(p_value) else f"{p_value:.2g}"


def _number(value: float) -> str:
    return ABSENT if np.isnan(value) else f"{value:.2f}"


def _notes(results: Sequence[Modulation]) -> Iterator[str]:
    for result in results:
        left_out = sorted({name for run in result.runs for name in run.left_out})
        if left_out:
            yield f"{result.model}: not measured: {', '.join(left_out)}"
        yield from (f"{result.model}: {warning}" for warning in result.warnings)
    flags = {flag for result in results for run in result.runs for flag in run.flags.values()}
    if any("~" in flag for flag in flags):
        yield "~ some singular values are too close to the tolerance to be counted for certain"
    if any("*" in flag for flag in flags):
        yield "* the tolerance is at or below the rounding error of some blocks; do not trust it"
