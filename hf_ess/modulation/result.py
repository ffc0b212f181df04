"""What a measurement of state modulation gives back: curves, dips, tables, a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.modulation.dips import Dips, Surroundings
from hf_ess.report.files import replace_together
from hf_ess.report.names import ENTROPY, Metric, metric_label, resolve_metric

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True, eq=False)
class ModulatedText:
    """One text with one separator.

    A `Modulation` holds one for each text and separator.

    Attributes:
        text: its name.
        separator: its name.
        tokens: the text of each of the L tokens.
        spans: first token of each separator, and the one after its last.
        around: what separators are compared with.
        curves: for each metric `[L + 1]`, total ESS by position, summed over channels and verified
            layers, NaN where there is none (position 0, L, and where a window does not fit).
        attainable: `[L + 1]`, the largest total that the position allows.
        dips: for each metric.
        flags: for each metric `*` where a tolerance is below the rounding floor, `~` where some
            counts are undecided.
        layers: names of the layers that were summed.
        left_out: names of layers that were found and not measured, or not verified.
    """

    text: str
    separator: str
    tokens: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    around: Surroundings
    curves: dict[Metric, Floats]
    attainable: Floats
    dips: dict[Metric, Dips]
    flags: dict[Metric, str]
    layers: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Modulation:
    """How the state of a model follows the separators of texts.

    `hf_ess.measure_modulation` gives it back.

    Attributes:
        model: its name.
        runs: one for each text and separator.
        tolerances: those of the tolerance-ESS, absolute.
        window: None, or `(f, p)` for windowed ESS.
        provenance: versions and settings of the measurement.
        warnings: what the reader has to know.
    """

    model: str
    runs: tuple[ModulatedText, ...]
    tolerances: tuple[float, ...]
    window: tuple[int, int] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """`"entropy"`, then the tolerances."""
        return (ENTROPY, *self.tolerances)

    def metric_label(self, metric: Metric) -> str:
        """How a metric is written, for example "windowed entropy-ESS, window 64x64"."""
        key = resolve_metric(metric, self.tolerances)
        return metric_label(key, relative=False, window=self.window)

    def run(self, text: str, separator: str) -> ModulatedText:
        """The run of that text and separator.

        Raises:
            InvalidInputError: there is none.
        """
        for run in self.runs:
            if (run.text, run.separator) == (text, separator):
                return run
        have = ", ".join(f"{run.text} with {run.separator}" for run in self.runs)
        raise InvalidInputError(
            f"Text {text!r} was not measured with separator {separator!r}.", fix=f"Choose: {have}."
        )

    def to_pandas(self) -> pd.DataFrame:
        """A row for each text, separator and metric: depths, what is expected, interval, p."""
        import pandas as pd

        return pd.DataFrame(
            {"model": self.model, **_row(run, metric), "metric": self.metric_label(metric)}
            for run in self.runs
            for metric in self.metrics
        )

    def summary(self, width: int = 120) -> str:
        """The table of dips as plain text, at most `width` wide."""
        from hf_ess.modulation.tables import ModulationView
        from hf_ess.report.tables import plain_text

        return plain_text(ModulationView([self]), width)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        metric: Metric | None = None,
        text: str | None = None,
    ) -> Figure:
        """The curves of one text, a panel for each separator, with separators marked.

        Args:
            path: where to write it, PNG, SVG or PDF by its ending.
            metric: the largest tolerance by default.
            text: the first by default.

        Raises:
            InvalidInputError: there is no such metric or text, or the ending is unknown.
            OutputPathError: the path cannot be written.
        """
        from hf_ess.modulation.plot import plot

        return plot(self, path, max(self.tolerances) if metric is None else metric, text)

    def to_dict(self) -> dict[str, Any]:
        """Everything in the types of JSON; None stands for NaN."""
        document = {
            "format": FORMAT,
            "model": self.model,
            "tolerances": list(self.tolerances),
            "window": self.window,
            "provenance": self.provenance,
            "warnings": list(self.warnings),
            "runs": [_plain_run(run, self.metrics) for run in self.runs],
        }
        result: dict[str, Any] = _without_nan(document)
        return result

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as JSON; an earlier file there stays whole until the new one is.

        Raises:
            OutputPathError: the path cannot be written.
        """
        target = Path(path)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        replace_together(target.parent, {target.name: text.encode()})
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Modulation:
        """Read what `save` wrote; needs neither torch nor the model.

        Raises:
            ReportError: the file cannot be read or is something else.
        """
        try:
            return _from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(
                f"{str(path)!r} cannot be read as a result of `hf-ess modulate`.",
                causes=["it is another file, or damaged", "it was written by a newer hf_ess"],
                fix="Measure again with --out.",
            ) from error


def modulation_table(results: Sequence[Modulation]) -> pd.DataFrame:
    """A row for each text, separator and metric of several models; first column is the model.

    Args:
        results: as `hf_ess.measure_modulation` gives them, one for each model.

    Returns:
        The rows of `Modulation.to_pandas`, one model after the other.
    """
    import pandas as pd

    return pd.concat([result.to_pandas() for result in results], ignore_index=True)


def _row(run: ModulatedText, metric: Metric) -> dict[str, Any]:
    dips = run.dips[metric]
    return {
        "text": run.text,
        "separator": run.separator,
        "metric": metric,
        "separators": len(run.spans),
        "depth": dips.depth,
        "expected": dips.expected,
        "deepest_elsewhere": dips.deepest_elsewhere,
        "excess": dips.excess,
        "low": dips.low,
        "high": dips.high,
        "p_value": dips.p_value,
        "depth_of_attainable": dips.fall,
        "flags": run.flags[metric],
    }


def _plain_run(run: ModulatedText, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Metrics lie in the order of the result, so that tolerances are no text."""
    return {
        "text": run.text,
        "separator": run.separator,
        "tokens": list(run.tokens),
        "spans": run.spans,
        "around": asdict(run.around),
        "curves": [run.curves[metric].tolist() for metric in metrics],
        "attainable": run.attainable.tolist(),
        "dips": [asdict(run.dips[metric]) for metric in metrics],
        "flags": [run.flags[metric] for metric in metrics],
        "layers": run.layers,
        "left_out": run.left_out,
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return value


def _from_dict(document: dict[str, Any]) -> Modulation:
    if document["format"] != FORMAT:
        raise ValueError(document["format"])
    tolerances = tuple(document["tolerances"])
    metrics: tuple[Metric, ...] = (ENTROPY, *tolerances)
    return Modulation(
        model=document["model"],
        runs=tuple(_run_from(run, metrics) for run in document["runs"]),
        tolerances=tolerances,
        window=tuple(document["window"]) if document["window"] else None,
        provenance=document["provenance"],
        warnings=tuple(document["warnings"]),
    )


def _run_from(run: dict[str, Any], metrics: Sequence[Metric]) -> ModulatedText:
    curves = (np.array(curve, dtype=np.float64) for curve in run["curves"])
    return ModulatedText(
        text=run["text"],
        separator=run["separator"],
        tokens=tuple(run["tokens"]),
        spans=tuple((start, stop) for start, stop in run["spans"]),
        around=Surroundings(**run["around"]),
        curves=dict(zip(metrics, curves, strict=True)),
        attainable=np.array(run["attainable"], dtype=np.float64),
        dips=dict(zip(metrics, map(_dips_from, run["dips"]), strict=True)),
        flags=dict(zip(metrics, run["flags"], strict=True)),
        layers=tuple(run["layers"]),
        left_out=tuple(run["left_out"]),
    )


def _dips_from(dips: dict[str, Any]) -> Dips:
    restored: dict[str, Any] = {
        name: tuple(map(_number, value)) if isinstance(value, list) else _number(value)
        for name, value in dips.items()
    }
    return Dips(**restored)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
