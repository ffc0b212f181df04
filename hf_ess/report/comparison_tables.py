"""A comparison as tables for the terminal, through rich, or as plain text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_ess.plain_text import printable
from hf_ess.report.comparison_facts import ATTAINABLE, CAPACITY, fact_rows, facts
from hf_ess.report.comparison_numbers import AVERAGE, MEAN_TOTAL, UTILIZATION, Row
from hf_ess.report.names import Metric
from hf_ess.report.tables import ABSENT, Column, fitted_tables, notes, number, share
from hf_ess.report.text import shortened

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from hf_ess.report.comparison import Comparison, ComparisonLevel

Floats = NDArray[np.float64]
UNDECIDED = "\N{ALMOST EQUAL TO}"
SMALLEST_WITH_TWO_DIGITS = 0.01
SMALLEST_WITH_THREE_DIGITS, LARGEST_WITH_THREE_DIGITS = 0.1, 10
NOT_DECIDED = "the difference is smaller than what the two numbers may be off: not decided"
LONGEST_NAME = 36
LONGEST_LINE_OF_NAME = 14
MOST_POSITIONS = 32
SHORT_FINGERPRINT = 12
FACTS = {
    "model": "model",
    "revision": "revision",
    "mixers": "mixers",
    "state_size": "state size",
    CAPACITY: CAPACITY,
    ATTAINABLE: ATTAINABLE,
    "verified_layers": "layers verified",
    "parameters": "parameters",
    "dtype": "dtype",
    "quantization": "quantization",
    "texts": "text",
    "tokens": "length",
    "positions": "positions",
    "tolerances": "tolerances",
    "window": "window",
    "scope": "scope",
    "fingerprint": "fingerprint",
}


class ComparisonView:
    """The tables of a comparison, to be printed by rich at the width of its console.

    Differences that were overruled stand above all of them.

    Args:
        comparison: what to show.
        metric: the one that is shown by layer, depth or position.
        by: "layer", "depth", "position", or "model" for none of them.

    Raises:
        InvalidInputError: the metric or `by` is unknown.
        NotComparableError: positions are not the same places in these reports.
    """

    def __init__(self, comparison: Comparison, metric: Metric, by: ComparisonLevel) -> None:
        self.comparison = comparison
        self.metric = comparison.resolved(metric)
        self.by = by
        # Before anything is printed: what cannot be shown is refused as a whole.
        self._models = [comparison.rows("model", metric) for metric in comparison.metrics]
        self._places = self._place_rows()
        self._step = 1
        if by == "position":
            self._step = max(1, -(-len(self._places) // MOST_POSITIONS))
            self._places = self._places[:: self._step]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        width = options.max_width
        yield from (Text(line) for line in warnings(self.comparison))
        yield from fact_tables(self.comparison, width)
        for rows in self._models:
            yield from model_tables(self.comparison, rows, width)
        yield from self._place_tables(width)
        shown = [*(row for rows in self._models for row in rows), *self._places]
        if any(False in row.decided for row in shown):
            yield Text(f"{UNDECIDED} {NOT_DECIDED}")
        yield from (Text(line) for line in comparison_notes(self.comparison))

    def _place_rows(self) -> list[Row]:
        if self.by == "model":
            return []
        what = MEAN_TOTAL if self.by == "position" else AVERAGE
        rows = self.comparison.rows(self.by, self.metric)
        return [row for row in rows if row.keys["quantity"] == what]

    def _place_tables(self, width: int) -> list[Table]:
        if not self._places:
            return []
        keys = self._places[0].keys
        title = f"{keys['metric']}: {keys['quantity']}, by {self.by}"
        title += f" (one in {self._step})" if self._step > 1 else ""
        places = [_place(row.keys[self.by]) for row in self._places]
        columns = _mixer_columns(self.comparison, self._places)
        columns += _columns(self.comparison, [_cells(row) for row in self._places])
        return fitted_tables(title, Column(self.by, places, justify_right=False), columns, width)


def warnings(comparison: Comparison) -> list[str]:
    """What was overruled, a line each."""
    if not comparison.differences:
        return []
    lines = ["NOT COMPARABLE, shown because that was asked for:"]
    found = [*comparison.differences, *comparison.position_differences]
    lines += [f"  - {difference}" for difference in found]
    return [printable(line) for line in lines]


def fact_tables(comparison: Comparison, width: int) -> list[Table]:
    """A column per report: its model, and how it was measured."""
    each = [facts(report) for report in comparison.reports]
    for one in each:
        one["verified_layers"] = f"{one['verified_layers']} of {one['layers']}"
        one["fingerprint"] = one["fingerprint"][:SHORT_FINGERPRINT]
        one["parameters"] = ABSENT if one["parameters"] is None else f"{one['parameters']:,}"
    rows = {str(row.keys["quantity"]): row for row in fact_rows(comparison.reports)}
    for quantity in (CAPACITY, ATTAINABLE):
        for one, value in zip(each, rows[quantity].numbers, strict=True):
            one[quantity] = number(value)
    known = {key: label for key, label in FACTS.items() if any(one[key] for one in each)}
    columns = [
        Column(header, [shortened(printable(one[key]), LONGEST_NAME) or ABSENT for key in known])
        for header, one in zip(headers(comparison.names), each, strict=True)
    ]
    title = f"{len(each)} reports, compared with the first"
    return fitted_tables(
        title, Column("", list(known.values()), justify_right=False), columns, width
    )


def model_tables(comparison: Comparison, rows: Sequence[Row], width: int) -> list[Table]:
    """Average, totals and utilization of one metric over all verified layers."""
    average, *rest = rows
    labels = [str(average.keys["quantity"])]
    lines = [_cells(average)]
    if (average.half_widths > 0).any():
        labels.append("  certified within")
        lines.append(_bounds(average))
    if not np.isnan(average.standard_errors).all():
        labels.append("  standard error")
        lines.append(_errors(average))
    labels += [str(row.keys["quantity"]) for row in rest]
    lines += [_cells(row) for row in rest]
    first = Column("", labels, justify_right=False)
    return fitted_tables(str(average.keys["metric"]), first, _columns(comparison, lines), width)


def comparison_notes(comparison: Comparison) -> list[str]:
    """What the reader has to know besides the numbers, a line each."""
    by_position = comparison.position_differences if not comparison.differences else ()
    lines = [f"Not comparable by position: {difference}" for difference in by_position]
    lines += _assumed_tokens(comparison)
    each = [notes(report) for report in comparison.reports]
    for line in dict.fromkeys(line for said in each for line in said):
        who = [name for name, said in zip(comparison.names, each, strict=True) if line in said]
        everyone = len(who) == len(each)
        lines.append(line if everyone else f"{', '.join(who)}: {line}")
    return [printable(line) for line in lines]


def _assumed_tokens(comparison: Comparison) -> list[str]:
    hidden = [
        name
        for name, report in zip(comparison.names, comparison.reports, strict=True)
        if any(sample.text_withheld for sample in report.samples)
    ]
    if not hidden or comparison.differences or comparison.position_differences:
        return []
    return [
        f"By position: {', '.join(hidden)} without tokens; the text has equally many in every "
        "report, which is taken as the same tokens"
    ]


def headers(names: Sequence[str]) -> list[str]:
    r"""Names as short headers of several lines, different as the names are.

    Example:
        >>> headers(["one", "a-rather-long-name"])
        ['one', 'a-rather-long-\nname']
    """
    short = [shortened(printable(name), LONGEST_NAME) for name in names]
    if len(set(short)) < len(short):
        short = [f"{number}. {name}" for number, name in enumerate(short, 1)]
    return [
        "\n".join(
            name[start : start + LONGEST_LINE_OF_NAME]
            for start in range(0, len(name), LONGEST_LINE_OF_NAME)
        )
        for name in short
    ]


def ratio(value: float) -> str:
    """Three or four digits, a dash for NaN.

    Example:
        >>> ratio(0.43219), ratio(12.3456), ratio(float("nan"))
        ('0.432', '12.35', '-')
    """
    if 0 < abs(value) < SMALLEST_WITH_THREE_DIGITS:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < LARGEST_WITH_THREE_DIGITS else number(value)


def _all_headers(comparison: Comparison) -> list[str]:
    names = headers(comparison.names)
    against = [f"{word}\n{name}" for name in names[1:] for word in ("difference", "ratio")]
    return [*names, *against]


def _columns(comparison: Comparison, lines: Sequence[Sequence[str]]) -> list[Column]:
    return [
        Column(header, [line[k] for line in lines])
        for k, header in enumerate(_all_headers(comparison))
    ]


def _mixer_columns(comparison: Comparison, rows: Sequence[Row]) -> list[Column]:
    """What each layer is, of reports whose layers are not all alike."""
    columns = []
    for k, header in enumerate(headers(comparison.names)):
        mixers = [str(row.keys["mixers"][k]) for row in rows if "mixers" in row.keys]
        if len(set(mixers) - {""}) > 1:
            columns.append(Column(f"mixer\n{header}", [x or ABSENT for x in mixers], False))
    return columns


def _cells(row: Row) -> list[str]:
    """A row in the order of the headers: values, then for each other report its difference."""
    is_share = row.keys["quantity"] == UTILIZATION
    show: Callable[[float], str] = share if is_share else number
    cells = [show(x) + mark for x, mark in zip(row.numbers, row.flags, strict=True)]
    others = zip(row.differences, row.ratios, row.decided, strict=True)
    for difference, of_first, decided in list(others)[1:]:
        mark = UNDECIDED if decided is False else ""
        cells += [_signed(difference, is_share) + mark, ratio(of_first)]
    return cells


def _signed(difference: float, is_share: bool) -> str:
    """With its sign; a difference of shares is in percentage points."""
    if math.isnan(difference):
        return ABSENT
    text = f"{100 * difference:.1f} pp" if is_share else number(difference)
    return text if difference <= 0 else f"+{text}"


def _bounds(row: Row) -> list[str]:
    return _line(row.half_widths, (row.half_widths + row.half_widths[0])[1:])


def _errors(row: Row) -> list[str]:
    return _line(row.standard_errors, row.difference_errors[1:])


def _line(values: Floats, of_differences: Floats) -> list[str]:
    def shown(value: float) -> str:
        if math.isnan(value):
            return ABSENT
        if not value:
            return "exact"
        few = f"{value:.1g}" if 0 < value < SMALLEST_WITH_TWO_DIGITS else number(value)
        return f"\N{PLUS-MINUS SIGN}{few}"

    def beside() -> Iterator[str]:
        for value in of_differences:
            yield from (shown(value), "")

    return [*map(shown, values), *beside()]


def _place(value: str | int | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
