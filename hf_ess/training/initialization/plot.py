"""ESS against capacity, with what is attainable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.errors import InvalidInputError
from hf_ess.report.drawing import (
    COLOURS,
    GREY,
    MARKS,
    drawn,
    empty_figure,
    legend_above,
    legend_entry,
)
from hf_ess.report.names import ENTROPY, Metric, metric_label
from hf_ess.training.initialization.probed import ProbedMixer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (7.5, 5.5)
LONGEST_NAME = 50
# Of curves beyond the number of colours.
LINES = ("-", ":", "-.")


def plot_probed_mixers(
    mixers: Mapping[str, ProbedMixer],
    path: str | os.PathLike[str] | None = None,
    metric: Metric = ENTROPY,
) -> Figure:
    """ESS against capacity on logarithmic axes, a curve for each mixer, of one or several probes.

    `InitializationProbe.plot` draws those of one probe.

    Bars are standard errors over seeds; the grey lines say what the capacity is, and how much of
    it the positions can fill on average (of the first mixer). Mixers whose capacity does not
    follow the state size are left out.

    Args:
        mixers: by their names in the legend.
        path: where to write the figure, None for nowhere.
        metric: "entropy" or a tolerance.

    Raises:
        InvalidInputError: no mixer whose capacity follows the state size, no such metric, or
            matplotlib cannot write that kind of file.
        OutputPathError: the path cannot be written.
    """
    shown = {name: mixer for name, mixer in mixers.items() if mixer.follows_state_size}
    if not shown:
        raise InvalidInputError("There is no mixer to draw whose capacity follows the state size.")
    return drawn(lambda: _figure(shown, metric), path)


def _figure(mixers: Mapping[str, ProbedMixer], metric: Metric) -> Figure:
    label = metric_label(metric, relative=False, window=None)
    figure, (axes,) = empty_figure(f"{label} of untrained mixers on Gaussian noise", SIZE, 1)
    for number, (name, mixer) in enumerate(mixers.items()):
        _curve(axes, number, name, mixer, metric)
    _reference(axes, next(iter(mixers.values())))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("capacity (state dimensions per channel)")
    axes.set_ylabel("average per channel\n(state dimensions)")
    axes.grid(color="#dddddd", linewidth=0.6)
    legend_above(axes, columns=2)
    return figure


def _curve(axes: Axes, number: int, name: str, mixer: ProbedMixer, metric: Metric) -> None:
    order = np.argsort(mixer.capacity)
    bars = axes.errorbar(
        mixer.capacity[order],
        mixer.mean(metric)[order],
        yerr=np.nan_to_num(mixer.standard_error(metric)[order]),
        color=COLOURS[number % len(COLOURS)],
        marker=MARKS[number % len(MARKS)],
        markersize=5,
        linestyle=LINES[number // len(COLOURS) % len(LINES)],
        linewidth=1.2,
        capsize=3,
    )
    bars.set_label(legend_entry(name, LONGEST_NAME) or "mixer")


def _reference(axes: Axes, mixer: ProbedMixer) -> None:
    order = np.argsort(mixer.capacity)
    capacity = mixer.capacity[order]
    axes.plot(capacity, capacity, color=GREY, linewidth=0.9, label="capacity")
    attainable = mixer.attainable[order]
    axes.plot(capacity, attainable, "--", color=GREY, linewidth=0.9, label="attainable (mean)")
