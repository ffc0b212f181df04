"""A report as rows of named numbers, for data frames and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_ess.report import aggregates
from hf_ess.report.choices import chosen
from hf_ess.report.layer import LayerESS
from hf_ess.report.records import plain

if TYPE_CHECKING:
    import pandas as pd

    from hf_ess.report.report import ESSReport

Row = dict[str, Any]


def to_pandas(report: ESSReport, level: str) -> pd.DataFrame:
    """A frame with a row per layer, per group, or per layer and position.

    Raises:
        InvalidInputError: the level is unknown.
    """
    import pandas as pd

    return pd.DataFrame(rows(report, level))


def to_dict(report: ESSReport) -> Row:
    """The numbers of the summary in the types of JSON; None stands for what does not exist."""
    return {
        "provenance": plain(report.provenance),
        "created_at": report.created_at,
        "scope": report.scope,
        "texts": [sample.length for sample in report.samples],
        "positions": report.positions.tolist(),
        "tolerances": list(report.tolerances),
        "relative": report.relative,
        "window": list(report.window) if report.window else None,
        "complete": report.complete,
        "incomplete_reason": report.incomplete_reason,
        "model": _model_numbers(report),
        "layers": [_without_nan(row) for row in rows(report, "layer")],
        "unsupported": [
            {"name": x.name, "index": x.index, "mixer": x.mixer, "reason": x.reason}
            for x in report.unsupported
        ],
        "warnings": list(report.warnings),
    }


def rows(report: ESSReport, level: str) -> list[Row]:
    """One dictionary per row; the values of unverified layers are NaN.

    Raises:
        InvalidInputError: the level is unknown.
    """
    builders: dict[str, Callable[[ESSReport, LayerESS], list[Row]]] = {
        "layer": _layer_rows,
        "group": _group_rows,
        "position": _position_rows,
    }
    build = chosen("level", level, builders)
    return [row for layer in report.layers for row in build(report, layer)]


def _model_numbers(report: ESSReport) -> Row | None:
    """For each metric the averages and totals over verified layers, None if there are none."""
    if not any(layer.verified for layer in report.layers):
        return None
    return {
        report.metric_label(metric): _without_nan(
            {
                "average_per_channel": report.average_ess(metric),
                "standard_error_over_texts": report.standard_error(metric),
                "total_mean_of_layers": report.total_ess(metric),
                "total_sum_of_layers": report.total_ess(metric, layers="sum"),
                "utilization": report.utilization(metric),
            }
        )
        for metric in report.metrics
    }


def _without_nan(row: Row) -> Row:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
    }


def _layer_rows(report: ESSReport, layer: LayerESS) -> list[Row]:
    row = _identity(layer) | {
        "groups": layer.groups,
        "multiplicity": layer.multiplicity,
        "state_size": np.nan if layer.state_size is None else float(layer.state_size),
    }
    row |= _metric_columns(report, layer)
    row |= {"attainable": _if_verified(layer, aggregates.mean_of(layer.attainable_by_group))}
    row |= _flag_columns(report, layer)
    return [row | _verification(layer)]


def _group_rows(report: ESSReport, layer: LayerESS) -> list[Row]:
    columns: dict[str, Any] = {}
    for metric in report.metrics:
        name = report.metric_column(metric)
        columns[f"average_{name}"] = aggregates.mean_by_group(layer.values(metric))
        columns[f"total_{name}"] = columns[f"average_{name}"] * layer.multiplicity
        ratio = aggregates.ess_over_capacity(layer, metric)
        columns[f"utilization_{name}"] = aggregates.mean_by_group(ratio)
    columns["attainable"] = aggregates.mean_by_group(layer.attainable_by_group)
    verification = _verification(layer)
    return [
        _identity(layer)
        | {"group": group, "multiplicity": layer.multiplicity}
        | {name: _if_verified(layer, float(column[group])) for name, column in columns.items()}
        | verification
        for group in range(layer.groups)
    ]


def _position_rows(report: ESSReport, layer: LayerESS) -> list[Row]:
    columns: dict[str, Any] = {}
    for metric in report.metrics:
        values = layer.values(metric)
        name = report.metric_column(metric)
        columns[f"average_{name}"] = aggregates.mean_by_position(values)
        columns[f"total_{name}"] = columns[f"average_{name}"] * layer.channels
    columns["attainable"] = aggregates.mean_by_position(layer.attainable_by_group)
    columns["capacity"] = aggregates.mean_by_position(layer.capacity)
    return [
        _identity(layer)
        | {"position": int(position)}
        | {name: _if_verified(layer, float(column[p])) for name, column in columns.items()}
        | {"verified": layer.verified}
        for p, position in enumerate(layer.positions)
    ]


def _identity(layer: LayerESS) -> Row:
    return {"index": layer.index, "name": layer.name, "call": layer.call, "mixer": layer.mixer}


def _verification(layer: LayerESS) -> Row:
    residual = layer.residual[~np.isnan(layer.residual)]
    return {
        "residual": float(residual.max()) if residual.size else np.nan,
        "verified": layer.verified,
        "reason": layer.reason,
        "method": layer.method,
        "method_reason": layer.method_reason,
    }


def _metric_columns(report: ESSReport, layer: LayerESS) -> Row:
    """Average, total over the channels of the layer, and utilization, for each metric."""
    row: Row = {}
    for metric in report.metrics:
        name = report.metric_column(metric)
        mean = aggregates.mean_of(layer.values(metric))
        share = aggregates.mean_of(aggregates.ess_over_capacity(layer, metric))
        row[f"average_{name}"] = _if_verified(layer, mean)
        row[f"total_{name}"] = _if_verified(layer, mean * layer.channels)
        row[f"utilization_{name}"] = _if_verified(layer, share)
    return row


def _flag_columns(report: ESSReport, layer: LayerESS) -> Row:
    """The share of blocks, for each tolerance, whose count is uncertain or rounding noise."""
    present = ~np.isnan(layer.entropy_ess)
    row: Row = {"entropy_half_width": _if_verified(layer, aggregates.largest_half_width(layer))}
    for tolerance in report.tolerances:
        name = report.metric_column(tolerance)
        if present.any():
            undecided = float((layer.undecided[tolerance][present] > 0).mean())
            below = float(layer.below_floor[tolerance][present].mean())
        else:
            undecided = below = np.nan
        row[f"undecided_{name}"] = _if_verified(layer, undecided)
        row[f"below_floor_{name}"] = _if_verified(layer, below)
    return row


def _if_verified(layer: LayerESS, value: float) -> float:
    # NaN, so that the mean of a column of the frame is no mean over unverified layers.
    return value if layer.verified else np.nan
