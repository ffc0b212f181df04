"""Models of different depth side by side, by relative depth.

The k-th of n mixers, counted from 0 in the order in which they run, takes up the part k/n to
(k + 1)/n of the depth; its middle is (k + 1/2)/n. Mixers that were not verified or not analysed
keep their part and leave it empty, so that they move no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hf_ess.report.comparison_facts import unsupported_names
from hf_ess.report.comparison_numbers import (
    LAYER_QUANTITIES,
    TOTAL,
    Row,
    flags_of,
    layer_numbers,
    measured,
    usable_layers,
)
from hf_ess.report.layer import LayerESS
from hf_ess.report.names import Metric
from hf_ess.report.report import ESSReport

Pair = tuple[float, float]
NOTHING: Pair = (math.nan, math.nan)


@dataclass(frozen=True)
class Mixer:
    """One mixer in the order of the model.

    Attributes:
        index: layer number, -1 where the name holds none.
        layer: None for a mixer without verified values.
    """

    index: int
    layer: LayerESS | None


def mixers_in_order(report: ESSReport) -> list[Mixer]:
    """Every mixer of the model, in the order in which they run.

    Mixers that were found and not analysed are placed by their layer number, and left out where
    they have none.
    """
    usable = {id(layer) for layer in usable_layers(report)}
    ordered = list(report.layers)
    missing = unsupported_names(report)
    gaps = []
    for index in {x.name: x.index for x in report.unsupported if x.name in missing}.values():
        if index >= 0:
            later = [k for k, layer in enumerate(ordered) if layer.index > index and not layer.call]
            gaps.append((later[0] if later else len(ordered), index))
    placed = [Mixer(x.index, x if id(x) in usable else None) for x in ordered]
    for place, index in sorted(gaps, reverse=True):
        placed.insert(place, Mixer(index, None))
    return placed


def middle(place: int, count: int) -> float:
    """The relative depth of one of `count` mixers.

    Example:
        >>> [middle(k, 4) for k in range(4)]
        [0.125, 0.375, 0.625, 0.875]
    """
    return (place + 0.5) / count


def overlaps(bin_number: int, bins: int, count: int) -> list[int]:
    """How much of one of `bins` equal parts each of `count` mixers takes up, in 1 / (bins * count).

    Example:
        >>> overlaps(0, 2, 3), overlaps(1, 2, 3)
        ([2, 1, 0], [0, 1, 2])
    """
    low, high = bin_number * count, (bin_number + 1) * count
    return [max(0, min(high, (k + 1) * bins) - max(low, k * bins)) for k in range(count)]


def depth_rows(reports: Sequence[ESSReport], metric: Metric, label: str) -> list[Row]:
    """The numbers of layers, averaged over as many equal parts as the shallowest model has mixers.

    A mixer counts in a part as much as it takes up of it, for averages and utilization times its
    channels, as in averages over whole models. Nothing is interpolated: a part that no verified
    mixer reaches has no number.
    """
    each = [_numbers_in_order(report, metric) for report in reports]
    bins = min((len(numbers) for numbers in each if numbers), default=0)
    rows = []
    for number in range(bins):
        keys = {"metric": label, "depth": middle(number, bins)}
        for name in LAYER_QUANTITIES:
            pairs = [_mean(x, name, overlaps(number, bins, len(x))) for x in each]
            flags = [_flags(x, overlaps(number, bins, len(x))) for x in each]
            values, widths = zip(*pairs, strict=True)
            rows.append(Row.of(keys | {"quantity": name}, values, widths, flags))
    return rows


_Numbers = tuple[int, dict[str, Pair], str]


def _numbers_in_order(report: ESSReport, metric: Metric) -> list[_Numbers | None]:
    """For each mixer its channels, its numbers and its marks; empty if there are none at all."""
    found = measured(report, metric)
    if found is None:
        return []
    metric = found.metric
    return [
        None
        if x.layer is None
        else (x.layer.channels, layer_numbers(x.layer, metric), flags_of(x.layer, metric))
        for x in mixers_in_order(report)
    ]


def _mean(numbers: Sequence[_Numbers | None], name: str, parts: Sequence[int]) -> Pair:
    weighted = [
        (part * (1 if name == TOTAL else one[0]), one[1][name])
        for one, part in zip(numbers, parts, strict=True)
        if one is not None and part and not math.isnan(one[1][name][0])
    ]
    weight = sum(w for w, _ in weighted)
    if not weight:
        return NOTHING
    value = sum(w * pair[0] for w, pair in weighted) / weight
    return value, sum(w * pair[1] for w, pair in weighted) / weight


def _flags(numbers: Sequence[_Numbers | None], parts: Sequence[int]) -> str:
    marks = {
        mark
        for one, part in zip(numbers, parts, strict=True)
        if one is not None and part
        for mark in one[2]
    }
    return "".join(sorted(marks))
