"""Figures of several reports, in the style of those of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import ReportError
from hf_ess.report import aggregates
from hf_ess.report.choices import chosen
from hf_ess.report.comparison_depth import Mixer, middle, mixers_in_order
from hf_ess.report.comparison_numbers import (
    AVERAGE,
    UTILIZATION,
    Measured,
    layer_numbers,
    measured,
)
from hf_ess.report.drawing import (
    COLOURS,
    MARKS,
    drawn,
    empty_figure,
    finish_curves,
    legend_above,
    legend_entry,
    scale_from_zero,
    small_mark,
    write_tokens,
)
from hf_ess.report.names import Metric
from hf_ess.report.report import ESSReport
from hf_ess.report.text import counted
from hf_ess.report.uncertainty import half_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_ess.report.comparison import Comparison

Floats = NDArray[np.float64]
Places = Callable[[Sequence[Mixer]], Floats]
LONGEST_NAME = 44


@dataclass(frozen=True)
class _Curve:
    """What is drawn of one report: places, values, how far each may be off, and shares in percent.

    NaN where a mixer was not verified, so that the line is broken there.
    """

    name: str
    colour: str
    mark: str
    places: Floats
    values: Floats
    half_widths: Floats
    shares: Floats


def plot(
    comparison: Comparison, kind: str, path: str | os.PathLike[str] | None, metric: Metric
) -> Figure:
    """Draw one kind of figure, and write it to the path if there is one.

    Raises:
        InvalidInputError: the kind is unknown, or matplotlib cannot write that kind of file.
        NotComparableError: positions are not the same places in these reports.
        OutputPathError: the path cannot be written.
        ReportError: no report has a verified layer with the metric.
    """
    kinds: dict[str, Callable[[Comparison, Metric], Figure]] = {
        "layer": by_layer,
        "depth": by_depth,
        "position": by_position,
    }
    draw = chosen("plot of kind", kind, kinds)
    if kind == "position":
        comparison.check_positions()
    return drawn(lambda: draw(comparison, metric), path)


def by_layer(comparison: Comparison, metric: Metric) -> Figure:
    """Average and utilization of every mixer, by the number of its layer."""
    from matplotlib.ticker import MaxNLocator

    figure, upper, lower = _by_place(comparison, metric, _layer_numbers)
    for axes in (upper, lower):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.set_xlabel("layer")
    return figure


def by_depth(comparison: Comparison, metric: Metric) -> Figure:
    """The same by relative depth, from the first mixer at 0 to the last at 1."""
    figure, upper, lower = _by_place(comparison, metric, _relative_depths)
    for axes in (upper, lower):
        axes.set_xlim(0, 1)
    lower.set_xlabel("relative depth")
    return figure


def by_position(comparison: Comparison, metric: Metric) -> Figure:
    """Total ESS by position, and its share of what is attainable."""
    curves = [
        _position_curve(found, name, rank) for found, name, rank in _measured(comparison, metric)
    ]
    figure, upper, lower = _panels(comparison, metric, curves, (11.0, 6.5))
    mark = small_mark(max(len(curve.places) for curve in curves))
    for curve in curves:
        style: dict[str, Any] = {"color": curve.colour, "linewidth": 1.2, "marker": mark}
        upper.plot(curve.places, curve.values, label=curve.name, **style)
        low, high = curve.values - curve.half_widths, curve.values + curve.half_widths
        upper.fill_between(curve.places, low, high, color=curve.colour, alpha=0.2, linewidth=0)
        lower.plot(curve.places, curve.shares, **style)
    upper.set_ylabel("total per layer\n(state dimensions)")
    lower.set_ylabel("share of\nattainable (%)")
    samples = [report.samples for report in comparison.reports]
    finish_curves(upper, lower, max(sample.length for each in samples for sample in each))
    scale_from_zero(upper, np.concatenate([curve.values for curve in curves]))
    legend_above(upper, 2)
    tokens = samples[0][0].tokens
    same_tokens = not comparison.position_differences
    if tokens is not None and same_tokens and all(len(each) == 1 for each in samples):
        write_tokens(upper, lower, tokens, comparison.reports[0].positions)
    return figure


def _by_place(
    comparison: Comparison, metric: Metric, places_of: Places
) -> tuple[Figure, Axes, Axes]:
    curves = [
        _layer_curve(found, name, rank, places_of)
        for found, name, rank in _measured(comparison, metric)
    ]
    figure, upper, lower = _panels(comparison, metric, curves, (9.0, 5.5))
    for curve in curves:
        style: dict[str, Any] = {
            "color": curve.colour,
            "marker": curve.mark,
            "markersize": 4,
            "linewidth": 1.0,
        }
        upper.plot(curve.places, curve.values, label=curve.name, **style)
        low, high = curve.values - curve.half_widths, curve.values + curve.half_widths
        upper.vlines(curve.places, low, high, color=curve.colour, linewidth=2.5, alpha=0.4)
        lower.plot(curve.places, curve.shares, **style)
    scale_from_zero(upper, np.concatenate([curve.values for curve in curves]))
    upper.set_ylabel("average per channel\n(state dimensions)")
    lower.set_ylabel("utilization\n(% of capacity)")
    lower.set_ylim(bottom=0)
    for axes in (upper, lower):
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    legend_above(upper, 2)
    return figure, upper, lower


def _measured(comparison: Comparison, metric: Metric) -> Iterator[tuple[Measured, str, int]]:
    """Reports with the metric, each with its name and its number, which is that of its colour."""
    for rank, (report, name) in enumerate(zip(comparison.reports, comparison.names, strict=True)):
        found = measured(report, metric)
        if found is not None:
            yield found, name, rank


def _relative_depths(mixers: Sequence[Mixer]) -> Floats:
    return np.array([middle(place, len(mixers)) for place in range(len(mixers))])


def _layer_numbers(mixers: Sequence[Mixer]) -> Floats:
    """Several mixers of one layer share the room up to the next; mixers without a number follow."""
    numbers = [mixer.index for mixer in mixers]
    last = max(numbers)
    places = []
    for k, number in enumerate(numbers):
        before = numbers[:k].count(number)
        shared = before / numbers.count(number)
        places.append(number + shared if number >= 0 else last + 1.0 + before)
    return np.array(places)


def _layer_curve(found: Measured, name: str, rank: int, places_of: Places) -> _Curve:
    mixers = mixers_in_order(found.report)
    nothing = {AVERAGE: (np.nan, np.nan), UTILIZATION: (np.nan, np.nan)}
    numbers = [nothing if x.layer is None else layer_numbers(x.layer, found.metric) for x in mixers]
    averages = np.array([each[AVERAGE] for each in numbers])
    shares = np.array([100 * each[UTILIZATION][0] for each in numbers])
    return _curve(name, rank, places_of(mixers), averages[:, 0], averages[:, 1], shares)


def _position_curve(found: Measured, name: str, rank: int) -> _Curve:
    layers = found.layers
    grids = [[layer.values(found.metric) for layer in layers]]
    grids += [[half_widths(layer, found.metric) for layer in layers]]
    grids += [[layer.attainable_by_group for layer in layers]]
    total, width, most = (aggregates.total_by_position(layers, x, "mean") for x in grids)
    share = np.full(len(total), np.nan)
    np.divide(100 * total, most, out=share, where=most > 0)
    places = found.report.positions.astype(np.float64)
    return _curve(name, rank, places, total, width, share)


def _curve(
    name: str, rank: int, places: Floats, values: Floats, widths: Floats, shares: Floats
) -> _Curve:
    colour, mark = COLOURS[rank % len(COLOURS)], MARKS[rank % len(MARKS)]
    entry = legend_entry(name, LONGEST_NAME) or f"report {rank + 1}"
    return _Curve(entry, colour, mark, places, values, widths, shares)


def _panels(
    comparison: Comparison, metric: Metric, curves: Sequence[_Curve], size: tuple[float, float]
) -> tuple[Figure, Axes, Axes]:
    if not curves:
        raise ReportError(
            "None of these reports has a verified layer with this metric, so there is nothing to "
            "draw.",
            fix="Read report.unsupported and the reason of each layer in report.layers.",
        )
    figure, (upper, lower) = empty_figure(_title(comparison, metric), size, 2)
    upper.tick_params(labelbottom=False)
    return figure, upper, lower


def _title(comparison: Comparison, metric: Metric) -> str:
    aspects = ", ".join(difference.aspect for difference in comparison.differences)
    parts = [f"NOT COMPARABLE ({aspects})"] if aspects else []
    if not comparison.differences:
        parts.append(counted(len(comparison.reports[0].samples), "text"))
    left_out = sum(_left_out(report) for report in comparison.reports)
    if left_out:
        parts.append(f"{counted(left_out, 'mixer')} not measured")
    return " \N{MIDDLE DOT} ".join(parts) + "\n" + comparison.metric_label(metric)


def _left_out(report: ESSReport) -> int:
    return sum(mixer.layer is None for mixer in mixers_in_order(report))
