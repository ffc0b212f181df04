"""Two reports side by side in a real browser: by relative depth, and by position where they can."""

from __future__ import annotations

import numpy as np
import pytest
from space.paging import rows_of, settle
from space.views import make_view


def _head(page):
    return page.locator(".hfess-head tbody").evaluate(
        "(body) => [...body.rows].map((row) => "
        "[...row.cells].map((cell) => cell.dataset.value ?? cell.textContent))"
    )


@pytest.mark.parametrize("threshold", [None, 1e-2])
def test_both_are_counted_and_divided(shown, threshold):
    first, second = make_view(seed=1), make_view(layers=7, seed=2, unverified=(3,))
    metric = "entropy" if threshold is None else "tolerance"
    page = shown(first, second, state={"metric": metric, "threshold": threshold or 1e-3})
    rows = _head(page)
    for column, made in ((1, first), (2, second)):
        assert float(rows[0][column]) == pytest.approx(made.total(threshold).mean(), rel=1e-9)
        average = np.nanmean(made.per_channel(threshold))
        assert float(rows[1][column]) == pytest.approx(average, rel=1e-9)
        assert float(rows[2][column]) == pytest.approx(made.utilization(threshold), rel=1e-9)
    ratio = second.total(threshold).mean() / first.total(threshold).mean()
    assert rows[0][3] == f"{ratio:.2f}\u00d7" if ratio >= 1 else rows[0][3].startswith("0.")
    assert rows[3][1:3] == ["4 of 4", "6 of 7"]


def test_layers_are_compared_by_relative_depth(shown):
    first, second = make_view(seed=1), make_view(layers=7, seed=2, unverified=(3,))
    page = shown(first, second)
    rows = rows_of(page, "depth")
    assert [row[0] for row in rows] == ["A"] * 4 + ["B"] * 7
    depths = [float(row[2]) for row in rows]
    assert depths == pytest.approx([*np.linspace(0, 1, 4), *np.linspace(0, 1, 7)])
    means = first.per_channel(None).mean(axis=1)
    assert [float(row[3]) for row in rows[:4]] == pytest.approx(means.tolist())
    assert rows[7][3] == ""
    markers = page.locator(".hfess-figure-depth g[data-series]")
    assert markers.first.locator("circle").count() == 4
    assert markers.nth(1).locator("rect").count() == 6


def test_one_text_is_compared_position_by_position(shown):
    first, second = make_view(seed=1), make_view(seed=2)
    page = shown(first, second)
    names = page.locator(".hfess-figure-curve g[data-series]").evaluate_all(
        "(nodes) => nodes.map((node) => node.dataset.series)"
    )
    assert names == ["total A", "total B", "share A", "share B"]
    rows = rows_of(page, "curve")
    for side, made in (("A", first), ("B", second)):
        totals = [float(row[2]) for row in rows if row[0] == side]
        assert totals == pytest.approx(made.total(None).tolist())
    stage = page.locator(".hfess-figure-curve .hfess-stage")
    stage.hover(position={"x": 300, "y": 80})
    tip = page.locator(".hfess-tip").inner_text()
    assert "A: total ESS" in tip
    assert "B: total ESS" in tip


def test_two_texts_have_a_curve_each_on_one_scale(shown):
    first, second = make_view(seed=1), make_view(length=20, seed=2)
    page = shown(first, second)
    assert page.locator(".hfess-figure-curve").count() == 0
    tops = []
    for side, made in (("a", first), ("b", second)):
        rows = rows_of(page, f"curve-{side}")
        totals = [float(row[1]) for row in rows]
        assert totals == pytest.approx(made.total(None).tolist())
        labels = page.locator(f".hfess-figure-curve-{side} text").all_text_contents()
        tops.append(labels[: labels.index("state dimensions, mean of layers")])
    assert tops[0] == tops[1]


def test_a_cell_of_b_opens_its_neighbour_in_a(shown):
    first, second = make_view(seed=1), make_view(layers=7, seed=2)
    page = shown(first, second)
    stage = page.locator(".hfess-figure-heatmap-b .hfess-stage")
    stage.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    for spectrum in page.locator(".hfess-spectrum").all():
        spectrum.locator("path").first.wait_for(state="attached")
    # Layer 2 of 7 lies at depth 1/3: layer 1 of 4.
    assert sorted(page.evaluate("asked")) == sorted(
        [[1, 2, first.view["key"]], [2, 2, second.view["key"]]]
    )
    state = page.evaluate("page.getState()")
    assert (state["mode"], state["side"], state["layer"]) == ("compare", 1, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": [8, 8]}, "windowed differently"),
        ({"relative": True}, "relative tolerances"),
        ({"scope": "mixer"}, "different scopes"),
        ({"thresholds": np.array([0.05])}, "counted at 0.001, B at 0.05"),
    ],
)
def test_what_forbids_to_compare_is_said(shown, change, words):
    page = shown(make_view(seed=1), make_view(seed=2, **change), state={"metric": "tolerance"})
    assert words in page.locator(".hfess-warnings").inner_text()


def test_both_maps_share_one_scale_of_colours(shown):
    first, second = make_view(seed=1), make_view(seed=2, values=60)
    page = shown(first, second)
    ticks = [
        page.locator(f".hfess-figure-heatmap-{side} .hfess-legend-numbers").inner_text()
        for side in ("a", "b")
    ]
    assert ticks[0] == ticks[1]


def test_from_a_pair_back_to_one(shown):
    first, second = make_view(seed=1), make_view(seed=2)
    page = shown(first, second, state={"layer": 1})
    page.evaluate("(view) => page.show(view)", first.view)
    settle(page)
    assert page.locator(".hfess-pair").count() == 0
    assert page.evaluate("page.getState()") | {"metric": "", "colour": ""} == {
        "metric": "", "threshold": 1e-3, "scale": "linear", "colour": "", "layer": None,
        "position": None, "mode": "single", "side": 0,
    }  # fmt: skip
