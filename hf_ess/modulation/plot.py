"""Total ESS by position, a panel for each separator, with the separators marked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hf_ess.errors import InvalidInputError
from hf_ess.modulation.dips import Floats, Spans
from hf_ess.modulation.result import ModulatedText, Modulation
from hf_ess.report.drawing import COLOURS, DOTS_PER_INCH, GREY, drawn
from hf_ess.report.names import Metric, resolve_metric
from hf_ess.report.text import shortened
from hf_ess.report.token_labels import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, MARGIN = 9.0, 1.7, 0.9


def plot(
    result: Modulation,
    path: str | os.PathLike[str] | None,
    metric: Metric,
    text: str | None,
) -> Figure:
    """What `Modulation.plot` draws.

    Raises:
        InvalidInputError: there is no such metric or text, or the ending is unknown.
        OutputPathError: the path cannot be written.
    """
    key = resolve_metric(metric, result.tolerances)
    name = result.runs[0].text if text is None else text
    runs = [run for run in result.runs if run.text == name]
    if not runs:
        have = ", ".join(dict.fromkeys(run.text for run in result.runs))
        raise InvalidInputError(f"Text {name!r} was not measured.", fix=f"Choose among {have}.")
    return drawn(lambda: _figure(result, runs, key), path)


def _figure(result: Modulation, runs: list[ModulatedText], metric: Metric) -> Figure:
    from matplotlib.figure import Figure

    size = (WIDTH, HEIGHT * len(runs) + MARGIN)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(len(runs), 1, squeeze=False, sharey=True)[:, 0]
    model = shortened(result.model, 50)
    title = f"{model} \N{MIDDLE DOT} {runs[0].text} \N{MIDDLE DOT} {result.metric_label(metric)}"
    figure.suptitle(drawable(title), fontsize=10).set_parse_math(False)
    for axes, run in zip(panels, runs, strict=True):
        _panel(axes, run, metric)
    panels[0].set_ylim(bottom=0)  # of all, once every curve is there
    panels[-1].set_xlabel("position i: the state that the tokens before i leave for token i on")
    figure.supylabel("total ESS, sum over layers", fontsize=9)
    return figure


def _panel(axes: Axes, run: ModulatedText, metric: Metric) -> None:
    dips = run.dips[metric]
    words = f"{run.separator}: depth {dips.depth:.2f}, elsewhere {dips.expected:.2f}"
    curve_panel(axes, run.curves[metric], run.spans, words)


def curve_panel(axes: Axes, curve: Floats, spans: Spans, words: str) -> None:
    """One curve over the positions of a text, with separators marked.

    Args:
        axes: empty ones.
        curve: `[L + 1]`, by position.
        spans: first token of each separator, and the one after its last.
        words: above the panel.
    """
    for start, stop in spans:
        axes.axvspan(start - 0.5, max(stop, start + 1) + 0.5, color="#f3dcc8", linewidth=0)
    axes.plot(range(len(curve)), curve, color=COLOURS[0], linewidth=1.1)
    axes.set_title(drawable(words), loc="left", fontsize=9, color=GREY).set_parse_math(False)
    axes.set_xlim(0, len(curve) - 1)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
