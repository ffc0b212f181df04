"""The figure on initialization: ESS by state size, accuracy by alpha, accuracy by ESS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.lab.paper.noise_probe import HAS_RATES
from hf_ess.report.drawing import COLOURS, GREY, MARKS, panel_grid
from hf_ess.training import ProbedMixer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR = dict(zip(HAS_RATES, COLOURS, strict=False))
LINES = ("-", "--", "-.", ":")


def initialization_figure(
    noise: Mapping[tuple[str, float], ProbedMixer], best: pd.DataFrame
) -> Figure:
    """Three panels: noise before training; accuracy by alpha; accuracy by ESS before training.

    Args:
        noise: by mixer and alpha.
        best: a row for each mixer, alpha and state size of the trained models.
    """
    figure, [[states, alphas, follows]] = panel_grid(
        "A larger state before training, and what is learned with it", (12, 4.4), (1, 3)
    )
    _by_state(states, noise)
    _by_alpha(alphas, best)
    _by_ess(follows, best)
    return figure


def _by_state(axes: Axes, noise: Mapping[tuple[str, float], ProbedMixer]) -> None:
    style = dict(zip(sorted({alpha for _, alpha in noise}), LINES, strict=False))
    for (name, alpha), mixer in noise.items():
        axes.errorbar(
            mixer.capacity,
            mixer.mean(),
            yerr=np.nan_to_num(mixer.standard_error()),
            color=COLOUR[name],
            linestyle=style[alpha],
            marker=MARKS[[*style].index(alpha)],
            markersize=4,
            linewidth=1.2,
            label=f"{name}, alpha {alpha:g}" if HAS_RATES[name] else name,
        )
    room = next(iter(noise.values()))
    axes.plot(room.capacity, room.attainable, color=GREY, linewidth=0.9, label="attainable (mean)")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("state size N (dimensions per channel)")
    axes.set_ylabel("entropy-ESS before training, on noise\n(dimensions per channel)")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.17), ncols=2, frameon=False)


# Area of the mark of the smallest alpha, in points.
SMALLEST = 18


def _by_alpha(axes: Axes, best: pd.DataFrame) -> None:
    for name, style, rows in _curves(best):
        ordered = rows.sort_values("alpha")
        state = ordered["state_size"].iloc[0]
        axes.plot(
            ordered["alpha"],
            ordered["accuracy"],
            color=COLOUR[name],
            linestyle=LINES[style],
            marker=MARKS[style],
            label=f"{name}, N = {state:g}",
        )
    axes.axhline(1 / best["pairs"].mean(), color=GREY, linewidth=0.9, label="any value seen")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(best["alpha"].unique()))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="alpha", ylabel="accuracy on recall", ylim=(-0.03, 1.03))
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.17), ncols=2, frameon=False)


def _by_ess(axes: Axes, best: pd.DataFrame) -> None:
    alphas = sorted(best["alpha"].unique())
    for name, style, rows in _curves(best):
        for alpha, one in rows.groupby("alpha"):
            axes.scatter(
                one["entropy_ess"],
                one["accuracy"],
                s=SMALLEST * 2.5 ** alphas.index(alpha),
                edgecolors=COLOUR[name],
                facecolors="none",
                linewidths=1.4,
                marker=MARKS[style],
            )
    words = ", ".join(f"{alpha:g}" for alpha in alphas)
    axes.set(xlabel=f"entropy-ESS before training, on recall\n(larger marks: alpha {words})")
    axes.set(ylabel="accuracy on recall", ylim=(-0.03, 1.09))
    axes.margins(x=0.1)


def _curves(best: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """Mixer, number of the state size and rows, for each of them."""
    states = sorted(best["state_size"].unique())
    return [
        (str(name), states.index(state), rows)
        for (name, state), rows in best.groupby(["mixer", "state_size"], sort=False)
    ]
