"""A report as the page draws it: one JSON object, counted at every threshold beforehand."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError
from hf_ess.plain_text import printable
from hf_ess.report import ESSReport, LayerESS
from hf_ess.report.aggregates import largest_half_width, mean_by_group, mean_by_position
from hf_ess.report.names import ENTROPY
from hf_ess.space.counting import counts_of, has_spectra, thresholds_of
from hf_ess.space.text_marks import passage_ends
from hf_ess.space.view_schema import (
    VIEW_VERSION,
    Cell,
    CellGroup,
    Numbers,
    View,
    ViewLayer,
    ViewModel,
    ViewProof,
)
from hf_ess.space.words import findings, layer_labels, verdict

UNSIGNED, FLOAT = "u4", "f4"
LARGEST_COUNT = 2**32 - 1


def view(report: ESSReport, *, key: str | None = None, title: str | None = None) -> View:
    """Everything that the page draws of a report, in the types of JSON.

    Args:
        report: with singular values, the page can count at any threshold.
        key: under which the report is kept, None where it is not.
        title: the name of the model by default.
    """
    model = _model(report)
    thresholds = thresholds_of(report)
    tokens = _tokens(report)
    return {
        "version": VIEW_VERSION,
        "key": key,
        "title": printable(title or model["name"]),
        "model": model,
        "scope": report.scope,
        "relative": report.relative,
        "window": list(report.window) if report.window else None,
        "complete": report.complete,
        "notes": _notes(report),
        "length": max((sample.length for sample in report.samples), default=0),
        "samples": len(report.samples),
        "tokens": tokens,
        "separators": passage_ends(tokens or []),
        "positions": report.positions.tolist(),
        "thresholds": list(thresholds),
        "spectra": has_spectra(report),
        "tolerances": list(report.tolerances),
        "metrics": [ENTROPY, "tolerance"],
        "layers": [
            _layer(report, layer, label, thresholds)
            for label, layer in zip(layer_labels(report), report.layers, strict=True)
        ],
        "unsupported": [
            {"name": printable(x.name), "mixer": printable(x.mixer), "reason": printable(x.reason)}
            for x in report.unsupported
        ],
        "words": findings(report),
        "proof": _proof(report),
    }


def cell(report: ESSReport, layer: int, position: int) -> Cell:
    """The singular values of every group of one layer at one position.

    Of several texts, the first that reaches the position is shown.

    Args:
        report: with singular values.
        layer: number of the layer in the report's list.
        position: one of the report's positions.

    Raises:
        InvalidInputError: there is no such layer or position, or nothing was measured there.
    """
    found = _layer_at(report, layer)
    place = np.flatnonzero(found.positions == position)
    if not place.size:
        raise InvalidInputError(
            f"Position {position} was not measured.",
            fix=f"Choose one of the {len(found.positions)} positions of the report.",
        )
    column = int(place[0])
    present = np.flatnonzero(~np.isnan(found.entropy_ess[:, 0, column]))
    if found.singular_values is None or not found.verified or not present.size:
        raise InvalidInputError(
            f"There are no singular values of layer {found.label} at position {position}.",
            causes=["the report was made without them", "the layer is not verified"],
            fix="Measure again on this page, which keeps them.",
        )
    text = int(present[0])
    groups: list[CellGroup] = [
        {
            "group": group,
            "values": _without_padding(found.singular_values[text, group, column]),
            "entropy": _number(found.entropy_ess[text, group, column]),
            "errorBound": _number(found.error_bound[text, group, column]),
        }
        for group in range(found.groups)
    ]
    return {"layer": layer, "position": int(position), "groups": groups}


def _layer_at(report: ESSReport, layer: int) -> LayerESS:
    if isinstance(layer, bool) or not 0 <= layer < len(report.layers):
        raise InvalidInputError(
            f"There is no layer {layer}.",
            fix=f"Choose a number between 0 and {len(report.layers) - 1}.",
        )
    return report.layers[layer]


def _layer(
    report: ESSReport, layer: LayerESS, label: str, thresholds: Sequence[float]
) -> ViewLayer:
    shown = layer.verified
    counts = np.zeros((len(layer.positions), len(thresholds)))
    if shown:
        counts = counts_of(layer, thresholds, relative=report.relative)
    kind = UNSIGNED if len(report.samples) == 1 else FLOAT
    residual = layer.residual[~np.isnan(layer.residual)]
    absent = np.full(len(layer.positions), np.nan)
    return {
        "index": layer.index,
        "name": printable(layer.name),
        "label": label,
        "mixer": printable(layer.mixer),
        "groups": layer.groups,
        "channels": layer.channels,
        "stateSize": layer.state_size,
        "verified": layer.verified,
        "residual": _number(float(residual.max())) if residual.size else None,
        "residualBound": layer.residual_bound,
        "reason": printable(layer.reason),
        "method": printable(layer.method),
        "halfWidth": _number(largest_half_width(layer)),
        "entropy": _numbers(mean_by_position(layer.entropy_ess) if shown else absent),
        "counts": _encoded(counts, kind),
        "countsType": kind,
        "floor": _numbers(_floor(report, layer) if shown else absent),
        "capacity": _numbers(mean_by_position(layer.capacity) if shown else absent),
        "attainable": _numbers(mean_by_position(layer.attainable_by_group) if shown else absent),
        "groupEntropy": _numbers(
            mean_by_group(layer.entropy_ess) if shown else np.full(layer.groups, np.nan)
        ),
        "verdict": verdict(layer),
    }


def _floor(report: ESSReport, layer: LayerESS) -> NDArray[np.float64]:
    """Largest error of a singular value at each position, in the unit of the thresholds, `[P]`."""
    error = layer.error_bound
    if report.relative:
        largest = layer.largest_singular_value
        error = np.divide(error, largest, out=np.full(error.shape, np.nan), where=largest > 0)
    flat = error.reshape(-1, error.shape[-1])
    highest = np.where(np.isnan(flat), -np.inf, flat).max(axis=0)
    return np.asarray(np.where(np.isneginf(highest), np.nan, highest))


def _proof(report: ESSReport) -> ViewProof:
    verified = [layer for layer in report.layers if layer.verified]
    residuals = [float(x) for layer in verified for x in layer.residual if math.isfinite(x)]
    return {
        "verified": len(verified),
        "layers": len(report.layers),
        "largestResidual": max(residuals, default=None),
    }


def _model(report: ESSReport) -> ViewModel:
    known = report.provenance
    parameters = known.get("parameters")
    return {
        "name": printable(str(known.get("model") or "a model")),
        "revision": printable(str(known.get("revision") or "")),
        "type": printable(str(known.get("model_type") or "")),
        "parameters": parameters if isinstance(parameters, int) else None,
        "dtype": printable(str(known.get("dtype") or "")),
    }


def _notes(report: ESSReport) -> list[str]:
    """What the reader has to know besides the numbers, a sentence each."""
    notes = [] if report.complete else [f"Incomplete: {report.incomplete_reason}."]
    if len(report.samples) > 1:
        notes.append(
            f"Every value is a mean over {len(report.samples)} texts, so that it belongs to the "
            "words of none of them."
        )
    elif report.samples and report.samples[0].tokens is None:
        notes.append("The text is not part of this report.")
    if not has_spectra(report):
        notes.append(
            "Singular values were not kept: counts are shown at the tolerances of the report only."
        )
    return [printable(note) for note in (*notes, *report.warnings)]


def _tokens(report: ESSReport) -> list[str] | None:
    """The tokens of the text; the mean over several texts belongs to the tokens of none."""
    tokens = report.samples[0].tokens if len(report.samples) == 1 else None
    if tokens is None:
        return None
    # Half a surrogate pair, which a hostile file may hold, has no form in UTF-8.
    return [token.encode("utf-8", "replace").decode("utf-8") for token in tokens]


def _encoded(counts: NDArray[np.float64], kind: str) -> str:
    # A report from elsewhere may hold anything where numbers should be.
    counts = np.nan_to_num(counts, nan=0.0).clip(0, LARGEST_COUNT)
    return base64.b64encode(counts.astype(f"<{kind}").tobytes()).decode("ascii")


def _numbers(values: NDArray[np.float64]) -> Numbers:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _without_padding(values: NDArray[np.float32]) -> list[float]:
    """Descending singular values without the zeros after the last positive one."""
    return [float(value) for value in values[np.isfinite(values) & (values > 0)]]
