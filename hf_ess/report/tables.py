"""A report as tables for the terminal, through rich, or as plain text."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.errors import ReportError
from hf_ess.plain_text import printable
from hf_ess.report import aggregates
from hf_ess.report.layer import LayerESS
from hf_ess.report.names import ENTROPY, Metric
from hf_ess.report.text import counted

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
    from rich.table import Table

    from hf_ess.report.report import ESSReport

ABSENT = "-"
NARROWEST = 40
WIDEST_LABEL = 26


@dataclass(frozen=True)
class Column:
    """A column of a table before it is known in which table it fits."""

    header: str
    cells: list[str]
    justify_right: bool = True

    @property
    def width(self) -> int:
        return max(len(line) for line in [*self.header.split("\n"), *self.cells])


class SummaryView:
    """The tables and notes of a report, to be printed by rich at the width of its console.

    A table that is too wide is continued in a second one.

    Example:
        `rich.console.Console().print(SummaryView(report))`
    """

    def __init__(self, report: ESSReport) -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        width = options.max_width
        yield from layer_tables(self.report, width)
        try:
            yield from model_tables(self.report, width)
        except ReportError as error:
            yield Text(error.what)
        yield from (Text(line) for line in notes(self.report))


def summary(report: ESSReport, width: int = 120) -> str:
    """The tables and notes of a report as plain text without colours, at most `width` wide."""
    return plain_text(SummaryView(report), width)


def plain_text(view: ConsoleRenderable, width: int) -> str:
    """What rich would print, without colours, at most `width` wide."""
    from rich.console import Console

    width = max(width, NARROWEST)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(view)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def summary_tables(report: ESSReport) -> SummaryView:
    """What the command line prints: a view that fits itself to the terminal."""
    return SummaryView(report)


def layer_tables(report: ESSReport, width: int = 120) -> list[Table]:
    """A row per layer: averages per channel, the total over the channels of the layer.

    Utilization is that of the entropy-ESS.
    """
    first, *rest = layer_columns(report)
    return fitted_tables(_title(report), first, rest, width)


def layer_columns(report: ESSReport) -> list[Column]:
    """The columns of the table of layers, the first of which names them."""
    first = Column("layer", [layer.label for layer in report.layers], justify_right=False)
    return [first, *_layer_columns(report)]


def model_tables(report: ESSReport, width: int = 120) -> list[Table]:
    """A row per metric: average, total in both definitions, utilization, over verified layers.

    Raises:
        ReportError: no layer is verified.
    """
    used = counted(len(report.verified_layers), "verified layer")
    first, *rest = model_columns(report)
    title = f"Model, over {used}"
    return fitted_tables(title, first, rest, width)


def model_columns(report: ESSReport) -> list[Column]:
    """The columns of the table of metrics, the first of which names them.

    Raises:
        ReportError: no layer is verified.
    """
    metrics = report.metrics
    averages = [number(report.average_ess(x)) + model_flag(report, x) for x in metrics]
    errors = [number(report.standard_error(metric)) for metric in metrics]
    means = [number(report.total_ess(metric)) for metric in metrics]
    sums = [number(report.total_ess(metric, layers="sum")) for metric in metrics]
    shares = [share(report.utilization(metric)) for metric in metrics]
    return [
        Column("metric", [report.metric_label(x) for x in metrics], justify_right=False),
        Column("average\nper channel", averages),
        Column("standard error\nover texts", errors),
        Column("total,\nmean of layers", means),
        Column("total,\nsum of layers", sums),
        Column("utilization", shares),
    ]


def notes(report: ESSReport) -> list[str]:
    """What the reader has to know besides the numbers, a line each."""
    lines = []
    if not report.complete:
        lines.append(f"INCOMPLETE: {report.incomplete_reason}")
    widest = aggregates.widest_half_width(report.layers)
    if widest > 0:
        lines.append(f"Entropy-ESS is certified: no value is off by more than {share(widest)}")
    lines += flag_notes(report)
    lines += layer_notes(report)
    lines += [f"Warning: {warning}" for warning in report.warnings]
    return [printable(line) for line in lines]


def layer_notes(report: ESSReport) -> list[str]:
    """Each layer that enters no average, and why; not yet made safe to print."""
    return [
        *(f"Not verified: {x.name}: {x.reason}" for x in report.layers if not x.verified),
        *(f"Unsupported: {x.name} ({x.mixer}): {x.reason}" for x in report.unsupported),
    ]


def number(value: float) -> str:
    """Three or four digits, a dash for NaN.

    Example:
        >>> number(3.14159), number(12345.6), number(float("nan"))
        ('3.14', '12346', '-')
    """
    if math.isnan(value):
        return ABSENT
    whole_digits = len(f"{abs(value):.0f}")
    return f"{value:.{max(0, min(2, 4 - whole_digits))}f}"


def share(value: float) -> str:
    """A share in percent, a dash for NaN.

    Example:
        >>> share(0.1234)
        '12.3%'
    """
    return ABSENT if math.isnan(value) else f"{100 * value:.1f}%"


def _layer_columns(report: ESSReport) -> Iterator[Column]:
    """The columns after the first; headers are broken into short lines, for width is scarce."""
    layers = report.layers
    kind = "windowed\n" if report.window else ""
    relative = "relative\n" if report.relative else ""
    yield Column("mixer", [layer.mixer for layer in layers], justify_right=False)
    yield Column("heads", [str(layer.groups) for layer in layers])
    yield Column(
        "state\nsize", ["grows" if x.state_size is None else str(x.state_size) for x in layers]
    )
    averages = [aggregates.mean_of(x.entropy_ess) if x.verified else math.nan for x in layers]
    totals = [value * x.channels for value, x in zip(averages, layers, strict=True)]
    yield Column(f"average\n{kind}entropy\nESS", [number(value) for value in averages])
    yield Column(f"total\n{kind}entropy\nESS", [number(value) for value in totals])
    for tolerance in report.tolerances:
        yield Column(
            f"average\n{kind}{relative}tol.ESS\n({tolerance:g})",
            [_tolerance_cell(layer, tolerance) for layer in layers],
        )
    yield Column(f"{kind}utili-\nzation", [_utilization_cell(layer) for layer in layers])
    yield Column("resid-\nual", [_residual_cell(layer) for layer in layers])
    yield Column("veri-\nfied", ["yes" if layer.verified else "NO" for layer in layers])


def _tolerance_cell(layer: LayerESS, tolerance: float) -> str:
    if not layer.verified:
        return ABSENT
    return number(aggregates.mean_of(layer.tolerance_ess[tolerance])) + flag(layer, tolerance)


def _utilization_cell(layer: LayerESS) -> str:
    if not layer.verified:
        return ABSENT
    return share(aggregates.mean_of(aggregates.ess_over_capacity(layer, ENTROPY)))


def _residual_cell(layer: LayerESS) -> str:
    known = layer.residual[~np.isnan(layer.residual)]
    return f"{known.max():.1e}" if known.size else ABSENT


def flag(layer: LayerESS, tolerance: float) -> str:
    """The marks of a count: `*` where it is rounding noise, `~` where it may be off by some."""
    below = "*" if layer.below_floor[tolerance].any() else ""
    return below + ("~" if np.nansum(layer.undecided[tolerance]) > 0 else "")


def model_flag(report: ESSReport, metric: Metric) -> str:
    """The marks of all verified layers together."""
    if isinstance(metric, str):
        return ""
    flags = {mark for x in report.verified_layers for mark in flag(x, metric)}
    return "".join(sorted(flags))


def flag_notes(report: ESSReport) -> list[str]:
    """What the marks mean that stand behind numbers of this report."""
    verified = [layer for layer in report.layers if layer.verified]
    flags = {mark for x in verified for tau in report.tolerances for mark in flag(x, tau)}
    meaning = {
        "*": "the tolerance is at or below the rounding error of some blocks; do not trust it",
        "~": "some singular values are too close to the tolerance to be counted for certain",
    }
    return [f"{mark} {text}" for mark, text in meaning.items() if mark in flags]


def _title(report: ESSReport) -> str:
    kind = " (windowed {}x{})".format(*report.window) if report.window else ""
    model = report.provenance.get("model", "")
    name = f" of {model}" if isinstance(model, str) and model else ""
    counts = {"text": len(report.samples), "position": len(report.positions)}
    sizes = [counted(count, noun) for noun, count in counts.items()]
    return f"Effective state-size{kind}{name}: {', '.join(sizes)}"


def fitted_tables(title: str, first: Column, rest: list[Column], width: int) -> list[Table]:
    """As many tables as it takes to show the columns, each beginning with the first column."""
    room = width - 2 - min(first.width, WIDEST_LABEL)
    chunks: list[list[Column]] = [[]]
    left = room
    for column in rest:
        if chunks[-1] and column.width + 2 > left:
            chunks.append([])
            left = room
        chunks[-1].append(column)
        left -= column.width + 2
    titles = [title] + ["(continued)"] * (len(chunks) - 1)
    return [_table(name, [first, *chunk]) for name, chunk in zip(titles, chunks, strict=True)]


def _table(title: str, columns: list[Column]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, not str: square brackets in the name of a model are no markup.
    table = Table(
        title=Text(printable(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        table.add_column(
            Text(column.header),
            justify="right" if column.justify_right else "left",
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
