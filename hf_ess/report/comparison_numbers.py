"""The numbers of several reports in rows: a value of each, differences and ratios to the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError
from hf_ess.report import aggregates
from hf_ess.report.layer import LayerESS
from hf_ess.report.names import Metric, resolve_metric
from hf_ess.report.report import ESSReport
from hf_ess.report.tables import flag, model_flag
from hf_ess.report.uncertainty import half_widths

Floats = NDArray[np.float64]
Grids = Sequence[Floats]
Quantity = Callable[[Sequence[LayerESS], Grids], float]

AVERAGE = "average per channel"
TOTAL = "total over channels"
MEAN_TOTAL = "total, mean of layers"
SUMMED_TOTAL = "total, sum of layers"
UTILIZATION = "utilization"


@dataclass(frozen=True, eq=False)
class Row:
    """One number of every report.

    R reports; everything is NaN for a report that lacks the number.

    Attributes:
        keys: what the number is: metric, quantity, and where in the model or the text.
        numbers: `[R]`.
        half_widths: `[R]`, how far each number may be from the true one.
        standard_errors: `[R]`, of each number over texts.
        difference_errors: `[R]`, of each difference over texts, which are the same in both.
        flags: for each report the marks of its count.
    """

    keys: dict[str, Any]
    numbers: Floats
    half_widths: Floats
    standard_errors: Floats
    difference_errors: Floats
    flags: tuple[str, ...] = field(default=())

    @classmethod
    def of(
        cls,
        keys: dict[str, Any],
        values: Sequence[float] | Floats,
        half_widths: Sequence[float] | Floats | None = None,
        flags: Sequence[str] = (),
    ) -> Row:
        """A row without standard errors; of exact numbers, where no half widths are given."""
        numbers = np.asarray(values, dtype=np.float64)
        exact = np.where(np.isnan(numbers), np.nan, 0.0)
        nothing = np.full(len(numbers), np.nan)
        widths = exact if half_widths is None else np.asarray(half_widths, dtype=np.float64)
        return cls(keys, numbers, widths, nothing, nothing, tuple(flags) or ("",) * len(numbers))

    @property
    def differences(self) -> Floats:
        """`[R]`, each number less the first."""
        return np.asarray(self.numbers - self.numbers[0])

    @property
    def ratios(self) -> Floats:
        """`[R]`, each number over the first, NaN where that is 0."""
        first = self.numbers[0]
        return np.asarray(self.numbers / first if first else np.full(len(self.numbers), np.nan))

    @property
    def decided(self) -> list[bool | None]:
        """Whether each difference is larger than what both numbers may be off; None without one."""
        room = self.half_widths + self.half_widths[0]
        return [
            None if math.isnan(difference) else bool(abs(difference) > width or width == 0)
            for difference, width in zip(self.differences, room, strict=True)
        ]


@dataclass(frozen=True)
class Measured:
    """A metric of one report: its verified layers and its own name of the metric."""

    report: ESSReport
    layers: list[LayerESS]
    metric: Metric

    def numbers(self, quantity: Quantity) -> tuple[float, float]:
        """A quantity over all verified layers, and how far it may be off."""
        return _numbers(quantity, self.layers, self.metric)


def measured(report: ESSReport, metric: Metric) -> Measured | None:
    """The metric of a report; None if it has none, or no verified layer."""
    layers = usable_layers(report)
    try:
        key = resolve_metric(metric, report.tolerances)
    except InvalidInputError:
        return None
    return Measured(report, layers, key) if layers else None


def usable_layers(report: ESSReport) -> list[LayerESS]:
    """The verified layers that have at least one value, in order; there may be none."""
    return [x for x in report.layers if x.verified and not np.isnan(x.entropy_ess).all()]


def model_rows(reports: Sequence[ESSReport], metric: Metric, label: str) -> list[Row]:
    """Average, totals and utilization of one metric over all verified layers."""
    each = [measured(report, metric) for report in reports]
    rows = []
    for name, quantity in _MODEL_QUANTITIES.items():
        pairs = [(math.nan, math.nan) if x is None else x.numbers(quantity) for x in each]
        marks = ["" if x is None else model_flag(x.report, x.metric) for x in each]
        rows.append(_row({"metric": label, "quantity": name}, pairs, marks))
    rows[0] = _with_errors(rows[0], each)
    return rows


def layer_rows(reports: Sequence[ESSReport], metric: Metric, label: str) -> list[Row]:
    """The same of every layer, side by side by layer number; rows go to the longest."""
    placed = [_by_index(report) for report in reports]
    found = [measured(report, metric) for report in reports]
    places = sorted({place for layers in placed for place in layers}, key=_reading_order)
    rows: list[Row] = []
    for place in places:
        layers = [each.get(place) for each in placed]
        keys = {"metric": label, "layer": layer_label(place)}
        mixers = ["" if layer is None else layer.mixer for layer in layers]
        rows += _rows_of_layers(keys, layers, found, mixers)
    return rows


def position_rows(reports: Sequence[ESSReport], metric: Metric, label: str) -> list[Row]:
    """The total by position, mean of layers, at every position of any report."""
    curves = [_by_position(measured(report, metric)) for report in reports]
    positions = sorted({position for curve in curves for position in curve})
    nothing = (math.nan, math.nan)
    return [
        _row(
            {"metric": label, "quantity": MEAN_TOTAL, "position": position},
            [curve.get(position, nothing) for curve in curves],
            [""] * len(reports),
        )
        for position in positions
    ]


def layer_label(place: tuple[int, int]) -> str:
    """How a place is written: the layer number, and which of its mixers after the first.

    Example:
        >>> layer_label((3, 0)), layer_label((3, 1)), layer_label((-1, 0))
        ('3', '3 (2)', 'unnumbered 1')
    """
    index, occurrence = place
    if index < 0:
        return f"unnumbered {occurrence + 1}"
    return f"{index} ({occurrence + 1})" if occurrence else str(index)


def layer_numbers(layer: LayerESS, metric: Metric) -> dict[str, tuple[float, float]]:
    """Average, total and utilization of one verified layer, each with how far it may be off."""
    return {name: _numbers(q, [layer], metric) for name, q in LAYER_QUANTITIES.items()}


def flags_of(layer: LayerESS, metric: Metric) -> str:
    """The marks of the counts of a layer, none for entropy-ESS."""
    return "" if isinstance(metric, str) else flag(layer, metric)


def _numbers(quantity: Quantity, layers: Sequence[LayerESS], metric: Metric) -> tuple[float, float]:
    grids = [layer.values(metric) for layer in layers]
    widths = [half_widths(layer, metric) for layer in layers]
    return quantity(layers, grids), quantity(layers, widths)


def _utilization(layers: Sequence[LayerESS], grids: Grids) -> float:
    shares = [
        aggregates.over_capacity(layer, grid) for layer, grid in zip(layers, grids, strict=True)
    ]
    return aggregates.mean_over(layers, shares)


def _mean_total(layers: Sequence[LayerESS], grids: Grids) -> float:
    return aggregates.total_over(layers, grids, "mean")


def _summed_total(layers: Sequence[LayerESS], grids: Grids) -> float:
    return aggregates.total_over(layers, grids, "sum")


_MODEL_QUANTITIES: dict[str, Quantity] = {
    AVERAGE: aggregates.mean_over,
    MEAN_TOTAL: _mean_total,
    SUMMED_TOTAL: _summed_total,
    UTILIZATION: _utilization,
}
LAYER_QUANTITIES: dict[str, Quantity] = {
    AVERAGE: aggregates.mean_over,
    TOTAL: _mean_total,
    UTILIZATION: _utilization,
}


def _row(keys: dict[str, Any], pairs: Sequence[tuple[float, float]], flags: Sequence[str]) -> Row:
    return Row.of(keys, [value for value, _ in pairs], [width for _, width in pairs], flags)


def _with_errors(row: Row, each: Sequence[Measured | None]) -> Row:
    """The row of an average with its standard errors over texts, and those of its differences."""
    nothing = np.array([np.nan])
    moved = [nothing if x is None else aggregates.influences(x.layers, x.metric) for x in each]
    hashes = [None if x is None else [s.text_sha256 for s in x.report.samples] for x in each]
    paired = [
        one - moved[0]
        if known is not None and known == hashes[0] and None not in known
        else nothing
        for one, known in zip(moved, hashes, strict=True)
    ]
    return Row(
        row.keys,
        row.numbers,
        row.half_widths,
        np.array([aggregates.error_from_influences(one) for one in moved]),
        np.array([aggregates.error_from_influences(one) for one in paired]),
        row.flags,
    )


def _by_index(report: ESSReport) -> dict[tuple[int, int], LayerESS]:
    """Every layer under its number and its rank among those of that number."""
    placed: dict[tuple[int, int], LayerESS] = {}
    for layer in report.layers:
        rank = sum(index == layer.index for index, _ in placed)
        placed[layer.index, rank] = layer
    return placed


def _reading_order(place: tuple[int, int]) -> tuple[bool, int, int]:
    return (place[0] < 0, *place)


def _rows_of_layers(
    keys: dict[str, Any],
    layers: Sequence[LayerESS | None],
    found: Sequence[Measured | None],
    mixers: Sequence[str],
) -> Iterator[Row]:
    nothing = dict.fromkeys(LAYER_QUANTITIES, (math.nan, math.nan))
    usable = [
        None if x is None or layer not in x.layers else (layer, x.metric)
        for layer, x in zip(layers, found, strict=True)
    ]
    numbers = [nothing if pair is None else layer_numbers(*pair) for pair in usable]
    marks = ["" if pair is None else flags_of(*pair) for pair in usable]
    for name in LAYER_QUANTITIES:
        yield _row(
            keys | {"quantity": name, "mixers": list(mixers)},
            [each[name] for each in numbers],
            marks,
        )


def _by_position(found: Measured | None) -> dict[int, tuple[float, float]]:
    if found is None:
        return {}
    values = [layer.values(found.metric) for layer in found.layers]
    widths = [half_widths(layer, found.metric) for layer in found.layers]
    curve = aggregates.total_by_position(found.layers, values, "mean")
    room = aggregates.total_by_position(found.layers, widths, "mean")
    positions = found.report.positions.tolist()
    return dict(zip(positions, zip(curve.tolist(), room.tolist(), strict=True), strict=True))
