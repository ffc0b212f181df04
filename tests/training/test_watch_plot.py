"""Curves of ESS over a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from training.small_models import ids_of, synthetic

import hf_ess
from hf_ess.training import plot_watched

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def snapshot():
    model = synthetic("GLA", "SA")
    return hf_ess.watch_ess(model, ids_of(model), tolerances=[1e-1, 1e-3])


def curves(figure):
    lines = figure.axes[0].get_lines()
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in lines
        if line.get_label().startswith("layers.")
    }


@pytest.mark.parametrize("metric", ["entropy", 1e-1, 1e-3])
def test_a_curve_for_each_layer(snapshot, metric, tmp_path):
    halved = replace(snapshot.layers[0], entropy_ess=1.5, tolerance_ess={1e-1: 1.5, 1e-3: 1.5})
    later = replace(snapshot, layers=(halved, snapshot.layers[1]))
    path = tmp_path / "watched.png"
    figure = plot_watched([(0, snapshot), (50, later)], path, metric)
    assert path.read_bytes().startswith(PNG)
    assert ("entropy-ESS" if metric == "entropy" else f"({metric:g})") in figure.get_suptitle()
    drawn = curves(figure)
    first, second = (layer.ess(metric) for layer in snapshot.layers)
    assert drawn["layers.0.mixer: gated linear attention"] == ([0, 50], [first, 1.5])
    assert drawn["layers.1.mixer: softmax attention"] == ([0, 50], [second, second])


def test_what_is_attainable(snapshot):
    dotted = [
        line.get_ydata()[0]
        for line in plot_watched([(0, snapshot)]).axes[0].get_lines()
        if line.get_linestyle() == ":" and len(line.get_ydata()) == 2
    ]
    assert sorted(dotted) == sorted({layer.attainable for layer in snapshot.layers})


def test_a_gap_where_there_is_no_value(snapshot):
    without = replace(snapshot, layers=snapshot.layers[1:])
    _, values = curves(plot_watched([(0, without), (1, snapshot)]))[
        "layers.0.mixer: gated linear attention"
    ]
    assert np.isnan(values[0])
    assert values[1] == snapshot.layers[0].entropy_ess


def test_deep_models_have_few_labels(snapshot):
    many = tuple(
        replace(snapshot.layers[number % 2], name=f"layers.{number}.mixer") for number in range(40)
    )
    figure = plot_watched([(0, replace(snapshot, layers=many))])
    assert len(curves(figure)) == 7
    assert len({str(line.get_color()) for line in figure.axes[0].get_lines()} - {"#666666"}) == 40


def test_nothing_to_draw(snapshot):
    for history in ([], [(0, replace(snapshot, layers=()))]):
        with pytest.raises(hf_ess.InvalidInputError, match="nothing to draw"):
            plot_watched(history)
    with pytest.raises(hf_ess.InvalidInputError, match="no metric"):
        plot_watched([(0, snapshot)], metric=1e-9)
