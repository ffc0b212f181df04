"""What is said of each report beside its ESS: the model, its layers, how it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hf_ess.report import aggregates
from hf_ess.report.comparison_numbers import Row, usable_layers
from hf_ess.report.conditions import Conditions
from hf_ess.report.report import ESSReport

CAPACITY = "capacity per channel"
ATTAINABLE = "attainable per channel"


def facts(report: ESSReport) -> dict[str, Any]:
    """A report in a few words and numbers, in the types of JSON.

    `texts` is equal for equal texts; `layers` counts all mixers that were found.
    """
    conditions = Conditions.of(report)
    said = report.provenance
    versions = said.get("versions")
    return {
        "model": _words(said.get("model")),
        "revision": _words(said.get("revision")),
        "mixers": ", ".join(dict.fromkeys(layer.mixer for layer in report.layers)),
        "state_size": ", ".join(_state_sizes(report)),
        "verified_layers": len(usable_layers(report)),
        "layers": len(report.layers) + len(unsupported_names(report)),
        "parameters": _count(said.get("parameters")),
        "dtype": _words(said.get("dtype")),
        "quantization": _words(said.get("quantization")),
        "texts": conditions.text_label(),
        "tokens": conditions.tokens_in_words(),
        "positions": conditions.positions_in_words(),
        **dict(conditions.settings),
        "hf_ess": _words(versions.get("hf-ess")) if isinstance(versions, dict) else "",
        "fingerprint": report.fingerprint(),
    }


def unsupported_names(report: ESSReport) -> set[str]:
    """Mixers that were found and not analysed on any text."""
    return {x.name for x in report.unsupported} - {layer.name for layer in report.layers}


def fact_rows(reports: Sequence[ESSReport]) -> list[Row]:
    """The facts that are numbers, as rows without a metric."""
    used = [usable_layers(report) for report in reports]
    columns = {
        "verified layers": [float(len(layers)) for layers in used],
        "not verified": [float(len(x.layers) - len(y)) for x, y in zip(reports, used, strict=True)],
        "unsupported": [float(len(unsupported_names(report))) for report in reports],
        CAPACITY: [_mean(layers, [x.capacity for x in layers]) for layers in used],
        ATTAINABLE: [_mean(layers, [x.attainable_by_group for x in layers]) for layers in used],
    }
    return [Row.of({"metric": "", "quantity": name}, values) for name, values in columns.items()]


def _mean(layers: Any, grids: Any) -> float:
    return aggregates.mean_over(layers, grids) if layers else math.nan


def _state_sizes(report: ESSReport) -> list[str]:
    sizes = {layer.state_size for layer in report.layers}
    numbers = sorted(size for size in sizes if size is not None)
    return ["grows"] * (None in sizes) + [str(size) for size in numbers]


def _words(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
