"""A probe as rows, as JSON, and as text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hf_ess.plain_text import printable
from hf_ess.report.names import ENTROPY, Metric, metric_column, metric_label
from hf_ess.report.tables import Column, fitted_tables, number, plain_text
from hf_ess.report.text import counted
from hf_ess.training.initialization.probed import ProbedMixer

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from hf_ess.training.initialization.result import InitializationProbe


def rows_of(probe: InitializationProbe) -> list[dict[str, Any]]:
    """A tidy row for each mixer, alpha and state size."""
    return [row for mixer in _all(probe) for row in _rows(mixer)]


def dict_of(probe: InitializationProbe) -> dict[str, Any]:
    """Settings, rows, verdicts and refusals; None in place of NaN."""
    verdicts = [{k: _plain(v) for k, v in vars(verdict).items()} for verdict in probe.verdicts]
    return {
        "state_sizes": list(probe.state_sizes),
        "seeds": list(probe.seeds),
        "length": probe.length,
        "samples": probe.samples,
        "positions": list(probe.positions),
        "tolerances": list(probe.tolerances),
        "mixers": [{k: _plain(v) for k, v in row.items()} for row in rows_of(probe)],
        "verdicts": verdicts,
        "refused": [vars(layer) for layer in probe.refused],
    }


def summary_of(probe: InitializationProbe, metric: Metric, width: int) -> str:
    """The table of a metric and what is to be said of it, at most `width` wide."""
    return plain_text(_SummaryView(probe, metric), width)


class _SummaryView:
    """A table and lines, to be printed by rich at the width of its console."""

    def __init__(self, probe: InitializationProbe, metric: Metric) -> None:
        self.probe = probe
        self.metric = metric

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        first, *rest = _columns(self.probe, self.metric)
        yield from fitted_tables(_title(self.probe, self.metric), first, rest, options.max_width)
        yield from (Text(printable(line)) for line in _notes(self.probe, self.metric))


def _all(probe: InitializationProbe) -> list[ProbedMixer]:
    return [*probe.mixers, *probe.rescaled]


def _rows(mixer: ProbedMixer) -> Iterator[dict[str, Any]]:
    for at, state in enumerate(mixer.state_sizes):
        row: dict[str, Any] = {
            "index": mixer.index,
            "name": mixer.name,
            "call": mixer.call,
            "mixer": mixer.mixer,
            "alpha": mixer.alpha,
            "state_size": state,
            "capacity": float(mixer.capacity[at]),
            "attainable": float(mixer.attainable[at]),
        }
        metrics: list[Metric] = [ENTROPY, *mixer.tolerance_ess]
        for metric in metrics:
            column = metric_column(metric, relative=False, window=None)
            row[column] = float(mixer.mean(metric)[at])
            row[f"{column}_error"] = float(mixer.standard_error(metric)[at])
        yield row


def _title(probe: InitializationProbe, metric: Metric) -> str:
    name = metric_label(metric, relative=False, window=None)
    sizes = f"{counted(len(probe.seeds), 'seed')}, {probe.length} tokens"
    return f"{name} of untrained mixers by state size: mean and standard error of {sizes}"


def _columns(probe: InitializationProbe, metric: Metric) -> Iterator[Column]:
    mixers = _all(probe)
    yield Column("layer", [mixer.label for mixer in mixers], justify_right=False)
    for at, state in enumerate(probe.state_sizes):
        yield Column(f"N = {state}", [_cell(mixer, metric, at) for mixer in mixers])
    slopes = [mixer.elasticity(metric) for mixer in mixers]
    yield Column("elasticity", [with_error(*slope) for slope in slopes])


def _cell(mixer: ProbedMixer, metric: Metric, at: int) -> str:
    return with_error(float(mixer.mean(metric)[at]), float(mixer.standard_error(metric)[at]))


def with_error(value: float, error: float) -> str:
    """A number and its standard error, where there is one.

    Example:
        >>> with_error(11.53, 0.021), with_error(2.0, float("nan"))
        ('11.53 +- 0.02', '2.00')
    """
    # Without the sign of a rounded zero.
    return number(round(value, 2) + 0) + ("" if math.isnan(error) else f" +- {number(error)}")


def _notes(probe: InitializationProbe, metric: Metric) -> Iterator[str]:
    yield from (verdict.words for verdict in probe.judge(metric))
    yield from (f"Refused: {x.name} ({x.mixer}): {x.reason}" for x in probe.refused)
    largest = max(min(at, probe.length - at) for at in probe.positions)
    short = [size for size in probe.state_sizes if size > largest]
    if short:
        listed = ", ".join(map(str, short))
        yield f"No position of the {probe.length} tokens has room for a state of {listed}."


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
