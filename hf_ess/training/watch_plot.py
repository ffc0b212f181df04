"""ESS of every layer over a training."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_ess.errors import InvalidInputError
from hf_ess.report.drawing import (
    COLOURS,
    GREY,
    drawn,
    empty_figure,
    legend_above,
    legend_entry,
    scale_from_zero,
    small_mark,
)
from hf_ess.report.names import ENTROPY, Metric, metric_label, resolve_metric
from hf_ess.training.snapshot import ESSSnapshot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (7.5, 4.5)
LONGEST_NAME = 40
SPREAD = "viridis"


def plot_watched(
    history: Sequence[tuple[int, ESSSnapshot]],
    path: str | os.PathLike[str] | None = None,
    metric: Metric = ENTROPY,
) -> Figure:
    """A curve for each layer, per channel, and dotted what layers can attain at most.

    Layers of a deep model go from dark to light. A curve has a gap where a layer had no value.

    Args:
        history: step and snapshot, as in `ESSCallback.history`.
        path: where to write the figure, None for nowhere.
        metric: "entropy" or one of the tolerances.

    Raises:
        InvalidInputError: the history is empty or has no verified layer, no such metric, or
            matplotlib cannot write that kind of file.
        OutputPathError: the path cannot be written.

    Example:
        >>> import torch, hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> from hf_ess.training import plot_watched
        >>> model = build_model(SyntheticConfig(["GLA"], vocab_size=16, hidden_size=16))
        >>> snapshot = hf_ess.watch_ess(model, torch.arange(24)[None] % 16)
        >>> figure = plot_watched([(0, snapshot)])
        >>> figure.axes[0].get_xlabel()
        'step'
    """
    keys = {layer.key: layer for _, snapshot in history for layer in snapshot.layers}
    if not keys:
        raise InvalidInputError(
            "There is nothing to draw: the history has no verified layer.",
            causes=["nothing was measured yet", "no layer could be verified: see the remarks"],
        )
    metric = resolve_metric(metric, history[0][1].tolerances)
    return drawn(lambda: _figure(history, list(keys), metric), path)


def _figure(
    history: Sequence[tuple[int, ESSSnapshot]], keys: list[tuple[str, int]], metric: Metric
) -> Figure:
    from matplotlib.ticker import MaxNLocator

    label = metric_label(metric, relative=False, window=None)
    figure, (axes,) = empty_figure(f"{label} over the training", SIZE, 1)
    steps = [step for step, _ in history]
    found = [{layer.key: layer for layer in snapshot.layers} for _, snapshot in history]
    colours = _colours(len(keys))
    labelled = math.ceil(len(keys) / len(COLOURS))
    attainable = set()
    for number, key in enumerate(keys):
        layers = [layers.get(key) for layers in found]
        values = [math.nan if layer is None else layer.ess(metric) for layer in layers]
        known = next(layer for layer in layers if layer is not None)
        name = f"{known.name}{f' (run {known.call + 1})' if known.call else ''}: {known.mixer}"
        shown = legend_entry(name, LONGEST_NAME) if number % labelled == 0 else None
        axes.plot(steps, values, color=colours[number], marker=small_mark(len(steps)), label=shown)
        attainable.add(known.attainable)
    for height in attainable:
        axes.axhline(height, color=GREY, linewidth=0.8, linestyle=":")
    axes.plot([], color=GREY, linewidth=0.8, linestyle=":", label="attainable by a layer")
    scale_from_zero(axes, np.array([*attainable]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel("average per channel\n(state dimensions)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    legend_above(axes, columns=2)
    return figure


def _colours(layers: int) -> list[Any]:
    if layers <= len(COLOURS):
        return list(COLOURS[:layers])
    from matplotlib import colormaps

    return list(colormaps[SPREAD](np.linspace(0, 0.9, layers)))
