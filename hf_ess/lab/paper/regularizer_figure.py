"""The figure on loss terms: accuracy and ESS by term, and what is kept by length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_ess.lab.paper.regularizer_rows import (
    ACCURACY,
    BETA,
    DECAYING,
    KIND,
    LENGTH,
    NORM,
    PER_PAIR,
    TERM,
    WITHOUT,
    Rows,
)
from hf_ess.lab.paper.runs import RATE
from hf_ess.report.drawing import COLOURS, GREY, MARKS, panel_grid
from hf_ess.training.initialization.probed import standard_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR = dict(zip((WITHOUT, *DECAYING), COLOURS, strict=False))
LINES = ("-", "--", ":")


def regularizer_figure(rows: Rows) -> Figure:
    """Accuracy and ESS/kv after training by loss term; both norms by length before it."""
    figure, [[accuracy, ess], [norm, memory]] = panel_grid(
        "Loss terms on the second of two mixers: bars are means, whiskers standard errors over "
        "seeds, dots seeds",
        (10, 7.5),
        (2, 2),
    )
    _bars(accuracy, rows, ACCURACY, "accuracy after training")
    accuracy.axvline(rows.chance, color=GREY, linewidth=0.9, linestyle="--")
    accuracy.text(
        rows.chance,
        1.01,
        "any value seen",
        fontsize=7,
        color=GREY,
        ha="center",
        transform=accuracy.get_xaxis_transform(),
    )
    accuracy.set_xlim(0, 1.03)
    _bars(ess, rows, PER_PAIR, "entropy-ESS / kv of the second mixer after training")
    ess.set_yticklabels([])
    _by_length(norm, rows, NORM, "log10 of the norm of the\nproduct of decays, before training")
    _by_length(memory, rows, PER_PAIR, "entropy-ESS / kv before training")
    memory.set_ylim(bottom=0)
    memory.legend(fontsize=8, loc="upper left")
    return figure


def _bars(axes: Axes, rows: Rows, column: str, label: str) -> None:
    """A bar for each model and term, with its best learning rate."""
    groups = list(rows.compared.groupby([KIND, TERM], sort=False))
    for place, ((kind, _), own) in enumerate(groups):
        values = own[column].to_numpy(float)
        mean = float(values.mean())
        axes.barh(place, mean, color=COLOUR[str(kind)], alpha=0.45, height=0.7)
        if len(values) > 1:
            axes.errorbar(mean, place, xerr=float(standard_error(values)), color="black", capsize=3)
        axes.plot(values, [place] * len(values), "o", color=COLOUR[str(kind)], markersize=3)
    names = [f"{kind}, {term}\n(rate {own[RATE].iloc[0]:g})" for (kind, term), own in groups]
    axes.set_yticks(range(len(groups)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label)


def _by_length(axes: Axes, rows: Rows, column: str, label: str) -> None:
    betas = sorted(rows.untrained[BETA].dropna().unique(), reverse=True)
    filled = rows.untrained.assign(**{BETA: rows.untrained[BETA].fillna(0)})
    for (kind, beta), own in filled.groupby([KIND, BETA], sort=False):
        means = own.groupby(LENGTH)[column].mean()
        style = betas.index(beta) if beta in betas else 0
        axes.plot(
            means.index,
            means,
            color=COLOUR[str(kind)],
            linestyle=LINES[style % len(LINES)],
            marker=MARKS[style % len(MARKS)],
            markersize=4,
            label=f"{kind}, beta {beta:g}" if beta in betas else str(kind),
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("length of the text (tokens), the same number of pairs")
    axes.set_ylabel(label)
    if column == NORM:
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:g}")
