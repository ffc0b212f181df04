"""What all figures share: colours, marks, one font, and how a figure is begun and written."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError
from hf_ess.report.files import translated_errors
from hf_ess.report.folders import replace_file
from hf_ess.report.text import shortened
from hf_ess.report.token_labels import (
    FONT,
    drawable,
    is_marker,
    labelled_tokens,
    separators,
    token_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: told apart by readers of every colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
DOTS_PER_INCH = 150
MOST_POINTS_WITH_MARKS = 128
MOST_TOKEN_LABELS = 66


def drawn(draw: Callable[[], Figure], path: str | os.PathLike[str] | None) -> Figure:
    """The figure that `draw` makes, with the settings of all; written to the path if there is one.

    Raises:
        InvalidInputError: matplotlib cannot write that kind of file.
        OutputPathError: the path cannot be written.
    """
    import matplotlib

    # Tokens and names are arbitrary text: TeX would fail on them.
    with matplotlib.rc_context({"font.family": [FONT], "text.usetex": False}):
        figure = draw()
        if path is not None:
            _write(figure, Path(path))
    return figure


def empty_figure(title: str, size: tuple[float, float], panels: int) -> tuple[Figure, list[Axes]]:
    """A figure of one panel, or of a high and a low one, and its axes from top to bottom."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    ratios = [3, 1][:panels]
    grid = figure.subplots(panels, 1, squeeze=False, gridspec_kw={"height_ratios": ratios})
    figure.suptitle(title, fontsize=10).set_parse_math(False)
    return figure, list(grid[:, 0])


def panel_grid(
    title: str, size: tuple[float, float], shape: tuple[int, int]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of equal panels, rows and columns of them, and its axes row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(*shape, squeeze=False)
    figure.suptitle(title, fontsize=10).set_parse_math(False)
    return figure, [list(row) for row in grid]


def scale_from_zero(axes: Axes, values: NDArray[np.float64]) -> None:
    """An axis that begins at 0, logarithmic above 1 where the values span magnitudes."""
    if spans_magnitudes(values):
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)


def spans_magnitudes(values: NDArray[np.float64]) -> bool:
    """Whether a linear axis would hide the small values.

    So it is in a model of softmax attention and recurrences: one state grows with the text, the
    other does not.
    """
    present = values[np.isfinite(values)]
    return bool(present.max() > 20 * max(present.min(), 1.0))


def small_mark(points: int) -> str:
    """The mark of the points of a curve: none where there are too many of them."""
    return "." if points <= MOST_POINTS_WITH_MARKS else ""


def legend_entry(name: str, limit: int = 30) -> str:
    """A name as it can stand in a legend, which hides what begins with an underscore."""
    return drawable(shortened(name, limit)).lstrip("_")


def legend_above(axes: Axes, columns: int = 4) -> None:
    """A legend above the panel, where it covers no data."""
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, fontsize=8
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def finish_curves(upper: Axes, lower: Axes, length: int) -> None:
    """Axes of curves over the positions of a text of that length."""
    for axes in (upper, lower):
        axes.set_xlim(0, length)
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    lower.set_xlabel("position i: the state that the tokens before i leave for token i and later")


def write_tokens(upper: Axes, lower: Axes, tokens: list[str], positions: NDArray[np.int64]) -> None:
    """Tokens under the lower axis, as many as can be read, and a line at every separator."""
    lines = separators(tokens)
    for axes in (upper, lower):
        for index in lines:
            axes.axvline(index, color="#999999", linewidth=0.6, linestyle=":", zorder=0)
    candidates = [int(position) for position in positions]
    markers = [index for index in lines if is_marker(tokens[index])]
    chosen = labelled_tokens(candidates, markers, len(tokens), MOST_TOKEN_LABELS)
    words = lower.secondary_xaxis(-0.2)
    words.set_xticks(
        chosen,
        [token_label(tokens[index]) for index in chosen],
        rotation=90,
        fontsize=7,
        parse_math=False,
    )
    words.spines["bottom"].set_visible(False)
    words.tick_params(length=0)
    # The label goes below the words: at its usual place they would be written across it.
    meaning = "token i at some positions" + (", dotted lines at separators" if lines else "")
    words.set_xlabel(f"{lower.get_xlabel()}\n({meaning})")
    lower.set_xlabel("")


def _write(figure: Figure, path: Path) -> None:
    """Whole or not at all: an earlier file there stays until the new one is complete."""
    import matplotlib

    suffix = path.suffix or f".{matplotlib.rcParams['savefig.format']}"
    drawn = BytesIO()
    try:
        figure.savefig(drawn, format=suffix[1:])
    except ValueError as error:
        raise InvalidInputError(
            f"Cannot write a figure to {str(path)!r}: {error}",
            fix="Use a name that ends in .png, .svg or .pdf.",
        ) from error
    with translated_errors(path.parent):
        path.parent.stat()
    replace_file(path.with_suffix(suffix), drawn.getvalue())
