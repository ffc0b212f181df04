"""A report as tables for the terminal, through rich, or as plain text."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.errors import ReportError
from hf_ess.report import aggregates
from hf_ess.report.layer import LayerESS
from hf_ess.report.names import ENTROPY
from hf_ess.report.text import printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from hf_ess.report.report import ESSReport

ABSENT = "-"
NARROWEST = 40


def summary(report: ESSReport, width: int = 120) -> str:
    """The tables and notes of a report as plain text without colours, at most `width` wide."""
    body = summary_tables(report)
    from rich.console import Console

    console = Console(
        file=io.StringIO(), width=max(width, NARROWEST), color_system=None, force_terminal=False
    )
    with console.capture() as capture:
        console.print(body)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def summary_tables(report: ESSReport) -> Group:
    """The table of layers, the table of model totals, and the notes, to be printed by rich."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Table | Text] = [layer_table(report)]
    try:
        parts.append(model_table(report))
    except ReportError as error:
        parts.append(Text(error.what))
    parts.extend(Text(line) for line in notes(report))
    return Group(*parts)


def layer_table(report: ESSReport) -> Table:
    """A row per layer. Averages are per channel, totals over the channels of the layer."""
    from rich.text import Text

    table = _empty_table(_title(report))
    entropy = report.metric_label(ENTROPY)
    for name in ("layer", "mixer"):
        table.add_column(name, overflow="fold")
    headers = ["heads", "state size", f"average {entropy}", f"total {entropy}"]
    headers += [f"average {report.metric_label(tolerance)}" for tolerance in report.tolerances]
    for name in [*headers, f"utilization ({ENTROPY})", "residual", "verified"]:
        table.add_column(name, justify="right")
    for layer in report.layers:
        table.add_row(*(Text(printable(cell)) for cell in _layer_cells(report, layer)))
    return table


def model_table(report: ESSReport) -> Table:
    """A row per metric: average, total in both definitions, utilization, over verified layers.

    Raises:
        ReportError: no layer is verified.
    """
    used = len(report.verified_layers)
    table = _empty_table(f"Model, over {used} verified layer{'s' if used != 1 else ''}")
    table.add_column("metric", overflow="fold")
    for name in (
        "average per channel",
        "standard error over texts",
        "total, mean over layers",
        "total, sum over layers",
        "utilization",
    ):
        table.add_column(name, justify="right")
    for metric in report.metrics:
        table.add_row(
            report.metric_label(metric),
            number(report.average_ess(metric)),
            number(report.standard_error(metric)),
            number(report.total_ess(metric)),
            number(report.total_ess(metric, layers="sum")),
            share(report.utilization(metric)),
        )
    return table


def notes(report: ESSReport) -> list[str]:
    """What the reader has to know besides the numbers, a line each."""
    lines = []
    if not report.complete:
        lines.append(f"INCOMPLETE: {report.incomplete_reason}")
    lines += _flag_notes(report)
    lines += [
        f"Not verified: {layer.name}: {layer.reason}"
        for layer in report.layers
        if not layer.verified
    ]
    lines += [
        f"Unsupported: {layer.name} ({layer.mixer}): {layer.reason}" for layer in report.unsupported
    ]
    lines += [f"Warning: {warning}" for warning in report.warnings]
    return [printable(line) for line in lines]


def number(value: float) -> str:
    """Three or four digits, a dash for NaN.

    Example:
        >>> number(3.14159), number(12345.6), number(float("nan"))
        ('3.14', '12346', '-')
    """
    if math.isnan(value):
        return ABSENT
    decimals = max(0, min(2, 3 - len(f"{abs(value):.0f}") + 1))
    return f"{value:.{decimals}f}"


def share(value: float) -> str:
    """A share in percent, a dash for NaN.

    Example:
        >>> share(0.1234)
        '12.3%'
    """
    return ABSENT if math.isnan(value) else f"{100 * value:.1f}%"


def _layer_cells(report: ESSReport, layer: LayerESS) -> Iterable[str]:
    yield _layer_label(layer)
    yield layer.mixer
    yield str(layer.groups)
    yield "grows" if layer.state_size is None else str(layer.state_size)
    if layer.verified:
        mean = aggregates.mean_of(layer.entropy_ess)
        yield number(mean)
        yield number(mean * layer.channels)
        for tolerance in report.tolerances:
            value = aggregates.mean_of(layer.tolerance_ess[tolerance])
            yield number(value) + _flag(layer, tolerance)
        yield share(aggregates.mean_of(aggregates.ess_over_capacity(layer, ENTROPY)))
    else:
        yield from [ABSENT] * (3 + len(report.tolerances))
    residual = layer.residual[~np.isnan(layer.residual)]
    yield f"{residual.max():.1e}" if residual.size else ABSENT
    yield "yes" if layer.verified else "NO"


def _layer_label(layer: LayerESS) -> str:
    label = str(layer.index) if layer.index >= 0 else layer.name
    return f"{label} (run {layer.call + 1})" if layer.call else label


def _flag(layer: LayerESS, tolerance: float) -> str:
    below = "*" if layer.below_floor[tolerance].any() else ""
    return below + ("~" if np.nansum(layer.undecided[tolerance]) > 0 else "")


def _flag_notes(report: ESSReport) -> list[str]:
    flags = {
        mark
        for layer in report.layers
        if layer.verified
        for tolerance in report.tolerances
        for mark in _flag(layer, tolerance)
    }
    meaning = {
        "*": "the tolerance is at or below the rounding error of some blocks; do not trust it",
        "~": "some singular values are too close to the tolerance to be counted for certain",
    }
    return [f"{mark} {text}" for mark, text in meaning.items() if mark in flags]


def _title(report: ESSReport) -> str:
    texts = f"{len(report.samples)} text{'s' if len(report.samples) != 1 else ''}"
    model = report.provenance.get("model", "")
    name = f" of {model}" if isinstance(model, str) and model else ""
    return printable(f"Effective state-size{name}: {texts}, {len(report.positions)} positions")


def _empty_table(title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
