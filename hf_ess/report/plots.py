"""Figures of a report. They leave the global state of pyplot alone and need no display."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_ess.report import aggregates
from hf_ess.report.choices import chosen
from hf_ess.report.drawing import (
    COLOURS,
    GREY,
    MARKS,
    drawn,
    empty_figure,
    finish_curves,
    legend_above,
    legend_entry,
    scale_from_zero,
    small_mark,
    spans_magnitudes,
    write_tokens,
)
from hf_ess.report.files import translated_errors
from hf_ess.report.layer import LayerESS
from hf_ess.report.names import ENTROPY, Metric
from hf_ess.report.text import counted, shortened
from hf_ess.report.token_labels import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from hf_ess.report.report import ESSReport

FEW_POSITIONS = 8
MOST_ROW_LABELS = 40


def plot(
    report: ESSReport, kind: str, path: str | os.PathLike[str] | None, metric: Metric
) -> Figure:
    """Draw one kind of figure, and write it to the path if there is one.

    Raises:
        InvalidInputError: the kind is unknown, or matplotlib cannot write that kind of file.
        OutputPathError: the path cannot be written.
        ReportError: no layer is verified.
    """
    kinds: dict[str, Callable[[ESSReport, Metric], Figure]] = {
        "heatmap": heatmap,
        "profile": profile,
        "positions": positions,
    }
    draw = chosen("plot of kind", kind, kinds)
    return drawn(lambda: draw(report, metric), path)


def plot_all(report: ESSReport, folder: str | os.PathLike[str]) -> list[Path]:
    """Write every kind of figure as PNG and return the paths.

    Raises:
        OutputPathError: the folder cannot be written.
        ReportError: no layer is verified.
    """
    target = Path(folder)
    with translated_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, metric in (
        ("heatmap", ENTROPY),
        ("profile", ENTROPY),
        ("positions", curve_metric(report)),
    ):
        paths.append(target / f"{kind}.png")
        plot(report, kind, paths[-1], metric)
    return paths


def curve_metric(report: ESSReport) -> Metric:
    """What is drawn over positions unless another metric is asked for: the first tolerance.

    Entropy-ESS is normalised by another sum at every position and can mislead there.
    """
    return report.tolerances[0] if report.tolerances else ENTROPY


def heatmap(report: ESSReport, metric: Metric) -> Figure:
    """Layers by positions: average ESS per channel; unverified layers stay hatched."""
    shown = aggregates.verified_layers(report.layers)
    rows = np.full((len(report.layers), len(report.positions)), np.nan)
    for number, layer in enumerate(report.layers):
        if any(layer is other for other in shown):
            rows[number] = aggregates.mean_by_position(layer.values(metric))
    height = float(np.clip(1.9 + 0.2 * len(rows), 3.0, 10.0))
    figure, (axes,) = _figure(report, metric, (9.0, height), 1)
    axes.patch.set(facecolor="#eeeeee", hatch="///", edgecolor="#bbbbbb")
    mesh = axes.pcolormesh(
        _edges(report.positions),
        np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(rows),
        cmap="viridis",
        norm=_normalization(rows),
    )
    axes.invert_yaxis()
    _label_layers(axes, report.layers, vertical=True)
    axes.set_xlabel("position i (tokens before the split)")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, format="{x:g}")
    bar.set_label("average per channel\n(state dimensions)")
    if len(report.positions) <= FEW_POSITIONS:
        axes.set_xticks(report.positions.tolist())
    return figure


def profile(report: ESSReport, metric: Metric) -> Figure:
    """Per layer: average ESS with its range over heads, what is attainable, utilization."""
    shown = aggregates.verified_layers(report.layers)
    numbers = [i for i, layer in enumerate(report.layers) if any(layer is x for x in shown)]
    groups = [aggregates.mean_by_group(layer.values(metric)) for layer in shown]
    means = np.array([aggregates.mean_of(layer.values(metric)) for layer in shown])
    attainable = np.array([aggregates.mean_of(layer.attainable_by_group) for layer in shown])
    figure, (upper, lower) = _figure(report, metric, (9.0, 5.5), 2)
    upper.vlines(
        numbers,
        [group.min() for group in groups],
        [group.max() for group in groups],
        color="#bbbbbb",
        linewidth=4,
        label="range over heads",
    )
    upper.plot(numbers, attainable, "_", color=GREY, markersize=10, label="attainable (mean)")
    _points_by_mixer(upper, shown, numbers, means)
    scale_from_zero(upper, np.concatenate([means, attainable]))
    upper.set_ylabel("average per channel\n(state dimensions)")
    upper.tick_params(labelbottom=False)
    legend_above(upper)
    shares = [100 * aggregates.utilization([layer], metric) for layer in shown]
    lower.bar(numbers, np.nan_to_num(np.array(shares)), color=COLOURS[0], width=0.7)
    lower.set_ylabel("utilization\n(% of capacity)")
    for axes in (upper, lower):
        _label_layers(axes, report.layers, vertical=False)
        axes.set_xlim(-0.6, len(report.layers) - 0.4)
    lower.set_xlabel("layer")
    return figure


def positions(report: ESSReport, metric: Metric) -> Figure:
    """Total ESS by position with the tokens under it, and its share of what is attainable."""
    shown = aggregates.verified_layers(report.layers)
    total = report.total_ess_by_position(metric)
    grids = [layer.attainable_by_group for layer in shown]
    attainable = aggregates.total_by_position(shown, grids, "mean")
    share = np.full(len(total), np.nan)
    np.divide(100 * total, attainable, out=share, where=attainable > 0)
    figure, (upper, lower) = _figure(report, metric, (11.0, 5.5), 2)
    mark = small_mark(len(total))
    upper.plot(report.positions, total, marker=mark, color=COLOURS[0], linewidth=1.2)
    lower.plot(report.positions, share, marker=mark, color=COLOURS[2], linewidth=1.2)
    upper.set_ylabel("total per layer\n(state dimensions)")
    lower.set_ylabel("share of\nattainable (%)")
    upper.tick_params(labelbottom=False)
    finish_curves(upper, lower, max(sample.length for sample in report.samples))
    tokens = report.samples[0].tokens
    # An average over several texts belongs to the tokens of none of them.
    if len(report.samples) == 1 and tokens is not None:
        write_tokens(upper, lower, tokens, report.positions)
    return figure


def _figure(
    report: ESSReport, metric: Metric, size: tuple[float, float], panels: int
) -> tuple[Figure, list[Axes]]:
    return empty_figure(_title(report, metric), size, panels)


def _title(report: ESSReport, metric: Metric) -> str:
    model = report.provenance.get("model")
    name = shortened(model, 60) if isinstance(model, str) and model else "Effective state-size"
    left_out = sum(not layer.verified for layer in report.layers) + len(report.unsupported)
    parts = [name, counted(len(report.samples), "text")]
    if report.scope == "jacobian":
        parts.append("Jacobian")
    if left_out:
        parts.append(f"{counted(left_out, 'layer')} not measured")
    if not report.complete:
        parts.append("INCOMPLETE")
    return drawable(" \N{MIDDLE DOT} ".join(parts)) + "\n" + report.metric_label(metric)


def _normalization(rows: NDArray[np.float64]) -> Normalize:
    """Colours from 0 to the maximum; logarithmic above 1 where layers differ in magnitude."""
    from matplotlib.colors import Normalize, SymLogNorm

    highest = float(max(np.nanmax(rows), 1.0))
    means = np.array([aggregates.mean_of(row) for row in rows])
    if spans_magnitudes(means):
        return SymLogNorm(linthresh=1, vmin=0.0, vmax=highest)
    return Normalize(vmin=0.0, vmax=highest)


def _edges(positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Borders half way between neighbouring positions, `[P + 1]`."""
    middle = (positions[1:] + positions[:-1]) / 2
    first = middle[0] if len(middle) else positions[0] + 0.5
    last = middle[-1] if len(middle) else positions[0] - 0.5
    outer = (2 * positions[0] - first, 2 * positions[-1] - last)
    return np.concatenate([[outer[0]], middle, [outer[1]]])


def _points_by_mixer(
    axes: Axes, layers: list[LayerESS], numbers: list[int], means: NDArray[np.float64]
) -> None:
    mixers = list(dict.fromkeys(layer.mixer for layer in layers))
    for rank, mixer in enumerate(mixers):
        chosen = [k for k, layer in enumerate(layers) if layer.mixer == mixer]
        (line,) = axes.plot(
            [numbers[k] for k in chosen],
            means[chosen],
            MARKS[rank % len(MARKS)],
            color=COLOURS[rank % len(COLOURS)],
            markersize=5,
        )
        line.set_label(legend_entry(mixer) or "mixer")


def _label_layers(axes: Axes, layers: list[LayerESS], *, vertical: bool) -> None:
    step = -(-len(layers) // MOST_ROW_LABELS)
    ticks = list(range(0, len(layers), step))
    labels = [_layer_label(layers[tick]) for tick in ticks]
    if vertical:
        axes.set_yticks(ticks, labels, fontsize=8, parse_math=False)
        axes.set_ylabel("layer")
    else:
        crowded = max(len(label) for label in labels) * len(labels) > 110
        axes.set_xticks(ticks, labels, fontsize=8, parse_math=False, rotation=90 if crowded else 0)


def _layer_label(layer: LayerESS) -> str:
    label = str(layer.index) if layer.index >= 0 else drawable(shortened(layer.name, 24))
    return f"{label}, run {layer.call + 1}" if layer.call else label
