"""The view in a real browser: what is drawn equals what NumPy finds in the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from space.paging import csv_rows, number, rows_of, settle
from space.views import THRESHOLDS, TOKENS, UNVERIFIED, make_view

TOLERANCE = 1e-3


def _index(threshold):
    return int(np.argmin(np.abs(np.log(THRESHOLDS / threshold))))


def _floats(rows, column):
    return [float(row[column]) for row in rows]


@pytest.mark.parametrize("threshold", [None, TOLERANCE, 1e-6])
def test_the_head_says_totals_and_utilization(shown, threshold):
    made = make_view(unverified=(2,))
    metric = "entropy" if threshold is None else "tolerance"
    page = shown(made, state={"metric": metric, "threshold": threshold or TOLERANCE})
    known = None if threshold is None else THRESHOLDS[_index(threshold)]
    assert number(page, "total") == pytest.approx(made.total(known).mean(), rel=1e-12)
    assert number(page, "utilization") == pytest.approx(made.utilization(known), rel=1e-12)
    assert page.locator('[data-number="verified"]').inner_text() == "3 of 4"
    assert number(page, "residual") == 4e-6
    # Names are text, whatever they look like.
    assert page.locator(".hfess-title").inner_text() == "test/<b>model</b>"


def test_the_slider_counts_anew_at_every_step(shown):
    made = make_view(unverified=(1,))
    page = shown(made)
    slider = page.locator(".hfess-slider")
    slider.focus()
    start = _index(1e-3)
    for step in (1, 2):
        page.keyboard.press("ArrowRight")
        settle(page)
        expected = made.total(THRESHOLDS[start - step]).mean()
        assert number(page, "total") == pytest.approx(expected, rel=1e-12)
    assert page.locator('input[value="tolerance"]').first.is_checked()
    page.wait_for_function("told.length > 0")
    told = page.evaluate("told.at(-1)")
    assert told["metric"] == "tolerance"
    assert told["threshold"] == pytest.approx(THRESHOLDS[start - 2])
    assert "0.00158" in slider.get_attribute("aria-valuetext")


def test_counts_below_the_rounding_floor_are_flagged(shown):
    made = make_view(layers=3)
    page = shown(made, state={"metric": "tolerance", "threshold": 1e-4})
    warning = page.locator(".hfess-warning")
    assert warning.is_hidden()
    page.evaluate("page.setState({threshold: 1e-5})")
    settle(page)
    # The floor of every odd position lies there.
    assert "18 blocks of 33" in warning.inner_text()
    assert "rounding floor" in page.locator(".hfess-figure-heatmap .hfess-legend").inner_text()


def test_tokens_are_text_and_show_what_was_measured(shown):
    made = make_view(length=12, positions=[1, 2, 5, 6, 7, 11])
    page = shown(made)
    tokens = page.locator(".hfess-token")
    assert tokens.count() == 12
    assert tokens.nth(0).text_content() == TOKENS[0]
    assert page.evaluate("window.hacked") is None
    shown = [tokens.nth(k).text_content() for k in (4, 5, 6, 7, 8, 10, 11)]
    assert shown == ["\u23ce\n", "\u2423" * 3, TOKENS[6], TOKENS[7], "&amp;", "\u00b7", "\u21e5x"]
    unmeasured = page.locator(".hfess-token-unmeasured")
    found = unmeasured.evaluate_all("(nodes) => nodes.map((node) => Number(node.dataset.i))")
    assert found == [0, 3, 4, 8, 9, 10]
    assert tokens.nth(3).evaluate("(node) => node.style.backgroundColor") == ""
    assert page.locator(".hfess-token-end").count() == 2


@pytest.mark.parametrize("colour", ["total", "change"])
def test_darker_tokens_have_larger_values(shown, colour):
    made = make_view(length=30, layers=2)
    page = shown(made, state={"metric": "entropy", "colour": colour})
    levels = page.locator(".hfess-token").evaluate_all(
        "(nodes) => nodes.slice(1).map((node) => Number(node.dataset.level))"
    )
    total = made.total(None)
    if colour == "total":
        share = (total - total.min()) / (total.max() - total.min())
    else:
        change = np.diff(total)
        most = np.sort(np.abs(change))[int((len(change) - 1) * 0.98)]
        share = np.concatenate([[np.nan], np.clip(0.5 + change / (2 * most), 0, 1)])
        assert levels[0] == -1
        levels, share = levels[1:], share[1:]
    np.testing.assert_allclose(np.array(levels) / 24, share, atol=0.5 / 24 + 1e-9)


def test_a_token_is_read_and_linked_to_every_plot(shown):
    made = make_view()
    page = shown(made, state={"metric": "tolerance", "threshold": TOLERANCE})
    token = page.locator('.hfess-token[data-i="4"]')
    token.hover()
    tip = page.locator(".hfess-tip").inner_text()
    total = made.total(THRESHOLDS[_index(TOLERANCE)])
    assert "Position 4" in tip
    assert f"{total[3]:.2f}" in tip
    assert f"{total[3] - total[2]:+.2f}".replace("-", "\u2212") in tip
    assert page.locator(".hfess-cursor-line").evaluate_all(
        "(lines) => lines.map((line) => line.hidden)"
    ) == [False, False]
    curve, heatmap = (
        page.locator(f".hfess-figure-{name} .hfess-cursor-line").bounding_box()["x"]
        for name in ("curve", "heatmap")
    )
    assert abs(curve - heatmap) < 1


def test_arrow_keys_walk_through_measured_positions(shown):
    made = make_view(positions=[2, 5, 9])
    page = shown(made)
    page.locator(".hfess-text").focus()
    reading = page.locator(".hfess-reading")
    seen = []
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowRight", "ArrowLeft", "Home"):
        page.keyboard.press(key)
        seen.append(reading.locator(".hfess-reading-title").inner_text())
    assert seen == [f"Position {i}" for i in (2, 5, 9, 9, 5, 2)]
    assert "change since 2" not in reading.inner_text()
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("page.getState().position") == 2


def test_the_curve_has_the_totals(shown):
    made = make_view(unverified=(0,))
    page = shown(made, state={"metric": "tolerance", "threshold": 0.1})
    total = made.total(THRESHOLDS[_index(0.1)])
    rows = rows_of(page, "curve")
    assert _floats(rows, 1) == pytest.approx(total.tolist(), rel=1e-12)
    assert _floats(rows[1:], 2) == pytest.approx(np.diff(total).tolist(), rel=1e-9)
    assert rows[0][2] == ""
    attainable = 6 * made.channels
    assert _floats(rows, 4) == pytest.approx((total / attainable).tolist(), rel=1e-12)


def test_the_profile_has_a_row_per_layer(shown):
    made = make_view(unverified=(3,))
    page = shown(made)
    rows = rows_of(page, "profile")
    means = np.nanmean(made.per_channel(None)[:3], axis=1)
    assert _floats(rows[:3], 4) == pytest.approx(means.tolist(), rel=1e-12)
    assert _floats(rows[:3], 5) == pytest.approx((means * made.channels).tolist(), rel=1e-12)
    utilization = (made.per_channel(None)[:3] / made.capacity).mean(axis=1)
    assert _floats(rows[:3], 8) == pytest.approx(utilization.tolist(), rel=1e-12)
    assert rows[3][4:9] == [""] * 5
    assert rows[3][9] == "not verified"
    bars = page.locator(".hfess-figure-profile rect[data-bar]")
    drawn = bars.evaluate_all(
        "(nodes) => nodes.map((node) => [node.dataset.bar, node.width.baseVal.value])"
    )
    lengths = np.array([length for _, length in drawn])
    np.testing.assert_allclose(lengths / lengths.max(), means / means.max(), rtol=1e-4)


def test_every_cell_of_the_heat_map_can_be_taken_away(shown):
    made = make_view(unverified=(1,), positions=[1, 2, 3, 8])
    page = shown(made, state={"metric": "tolerance", "threshold": TOLERANCE})
    rows = csv_rows(page, "heatmap.csv")
    assert rows[0] == ["layer", "1", "2", "3", "8"]
    values = made.per_channel(THRESHOLDS[_index(TOLERANCE)])
    for order, row in enumerate(rows[1:]):
        if order == 1:
            assert row == ["1", "", "", "", ""]
        else:
            assert _floats([row], 1) == pytest.approx([values[order, 0]])
            assert [float(x) for x in row[1:]] == pytest.approx(values[order].tolist())
    summary = rows_of(page, "heatmap")
    assert float(summary[0][4]) == pytest.approx(values[0].max())
    assert summary[1][1] == "not verified"


COLOURS = """([xs, ys]) => {
  const canvas = document.querySelector(".hfess-host").shadowRoot.querySelector("canvas");
  const ratio = canvas.width / canvas.clientWidth;
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const all = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const at = (x, y) => 4 * (Math.floor(y * ratio) * canvas.width + Math.floor(x * ratio));
  return ys.map((y) => xs.map((x) => [...all.slice(at(x, y), at(x, y) + 4)]));
}"""


def _pixels(page, made):
    """Colour of the middle of every cell, `[layer, position, rgba]`."""
    box = page.locator("canvas").bounding_box()
    left, right, top = 52, box["width"] - 12, 26
    length = made.view["length"]
    xs = [left + (p - 0.5) / (length - 1) * (right - left) for p in made.view["positions"]]
    ys = [top + 26 * (order + 0.5) for order in range(len(made.view["layers"]))]
    return np.array(page.evaluate(COLOURS, [xs, ys]))


@pytest.mark.parametrize("ratio", [1, 2])
def test_cells_are_as_light_as_their_values_are_large(shown, ratio):
    made = make_view(unverified=(2,))
    page = shown(made, device_scale_factor=ratio)
    canvas = page.locator("canvas")
    size = canvas.evaluate("(node) => [node.width, node.clientWidth]")
    assert size[0] == ratio * size[1]
    colours = _pixels(page, made)
    values = made.per_channel(None)
    shown = [0, 1, 3]
    lightness = colours[shown][..., :3] @ np.array([0.2126, 0.7152, 0.0722])
    order = np.argsort(values[shown], axis=None)
    assert (np.diff(lightness.reshape(-1)[order]) >= 0).all()
    assert len(np.unique(lightness)) > 10
    assert (colours[shown][..., 3] == 255).all()
    assert (colours[2, :, 3] < 255).any()  # hatched, not filled


def test_positions_between_measured_ones_stay_empty(shown):
    made = make_view(positions=[1, 6, 11])
    page = shown(made)
    between = make_view(positions=[3, 4, 8])
    assert (_pixels(page, between)[..., 3] == 0).all()
    assert (_pixels(page, made)[..., 3] == 255).all()
    assert "not measured" in page.locator(".hfess-figure-heatmap .hfess-legend").inner_text()


def _click_cell(page, made, layer, position):
    box = page.locator("canvas").bounding_box()
    length = made.view["length"]
    x = 52 + (position - 0.5) / (length - 1) * (box["width"] - 64)
    page.locator("canvas").click(position={"x": x, "y": 26 + 26 * (layer + 0.5)})


def test_a_cell_opens_its_heads_and_its_spectrum(shown):
    made = make_view(groups=3)
    page = shown(made, state={"metric": "tolerance", "threshold": TOLERANCE})
    panel = page.locator(".hfess-figure-block")
    assert panel.is_hidden()
    _click_cell(page, made, 1, 7)
    panel.locator("path").first.wait_for(state="attached")
    assert page.evaluate("asked") == [[1, 7, made.view["key"]]]
    assert page.evaluate("page.getState()")["layer"] == 1
    block = made.spectra[1, 6]
    counts = (block > TOLERANCE).sum(axis=1)
    rows = panel.locator(".hfess-heads tbody tr")
    for group in range(3):
        cells = rows.nth(group).locator("td")
        assert int(cells.nth(1).get_attribute("data-value")) == counts[group]
        entropy = made.cell(1, 7)["groups"][group]["entropy"]
        assert float(cells.nth(0).get_attribute("data-value")) == pytest.approx(entropy)
    assert panel.locator("g[data-series]").count() == 3
    assert panel.locator('[data-line="tolerance"]').count() == 1
    assert panel.locator('[data-shade="floor"]').count() == 1
    assert "before \u201c" in panel.locator(".hfess-figure-title").inner_text()


def test_the_tolerance_line_stands_where_the_count_says(shown):
    made = make_view(layers=1, groups=1, values=9)
    page = shown(made, state={"layer": 0, "position": 3})
    panel = page.locator(".hfess-figure-block")
    panel.locator("path").first.wait_for(state="attached")
    page.evaluate("page.setState({metric: 'tolerance', threshold: 1e-2})")
    settle(page)
    line = float(panel.locator('[data-line="tolerance"]').get_attribute("y1"))
    path = panel.locator("g[data-series] path").first.get_attribute("d")
    points = {float(point.split()[1]) for point in path.replace("M", "L").split("L")[1:]}
    assert sum(y < line for y in points) == (made.spectra[0, 2] > 1e-2).sum()


def test_relative_tolerances_are_shares_of_the_largest_value(shown):
    made = make_view(layers=1, groups=2, values=9, relative=True)
    page = shown(made, state={"layer": 0, "position": 3, "metric": "tolerance", "threshold": 1e-2})
    panel = page.locator(".hfess-figure-block")
    panel.locator("path").first.wait_for(state="attached")
    block = made.spectra[0, 2]
    above = (block > 1e-2 * block[:, :1]).sum(axis=1)
    counts = panel.locator(".hfess-heads tbody td:nth-child(3)").all_text_contents()
    assert counts == [str(count) for count in above]
    line = float(panel.locator('[data-line="tolerance"]').get_attribute("y1"))
    for group, path in enumerate(panel.locator("g[data-series] path").all()):
        points = path.get_attribute("d").replace("M", "L").split("L")[1:]
        assert sum(y < line for y in {float(point.split()[1]) for point in points}) == above[group]


def test_heads_can_be_picked_with_the_keyboard(shown):
    made = make_view(groups=3)
    page = shown(made, state={"layer": 0, "position": 3})
    panel = page.locator(".hfess-figure-block")
    panel.locator("path").first.wait_for(state="attached")
    button = panel.locator('[data-group="2"]')
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert button.evaluate("(node) => node.getRootNode().activeElement === node")
    widths = panel.locator("g[data-series]").evaluate_all(
        "(nodes) => nodes.map((node) =>"
        " [node.dataset.series, node.querySelector('path').getAttribute('stroke-width')])"
    )
    assert dict(widths) == {"head 0": "1", "head 1": "1", "head 2": "2"}


def test_the_heat_map_works_with_the_keyboard_alone(shown):
    made = make_view()
    page = shown(made)
    page.locator(".hfess-figure-heatmap .hfess-stage").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.locator(".hfess-figure-block path").first.wait_for(state="attached")
    state = page.evaluate("page.getState()")
    assert (state["layer"], state["position"]) == (2, 3)


def test_a_click_in_the_profile_selects_the_layer(shown):
    made = make_view()
    page = shown(made)
    stage = page.locator(".hfess-figure-profile .hfess-stage")
    stage.click(position={"x": 60, "y": 26 + 26 * 2.5})
    settle(page)
    panel = page.locator(".hfess-figure-block")
    assert page.evaluate("page.getState().layer") == 2
    assert "Choose a position" in panel.locator(".hfess-message").inner_text()
    means = panel.locator(".hfess-heads td[data-value]").evaluate_all(
        "(cells) => cells.map((cell) => Number(cell.dataset.value))"
    )
    assert means == pytest.approx(made.view["layers"][2]["groupEntropy"])


def test_the_proof_names_what_is_not_proved(shown):
    missing = {"name": "model.layers.9.mlstm", "mixer": "mlstm", "reason": "no <adapter> knows it"}
    made = make_view(
        unverified=(1,), unsupported=[missing], notes=["A note."], words=["A finding."]
    )
    page = shown(made)
    text = page.locator(".hfess-figure-proof").inner_text()
    assert "3 of 4 layers verified" in text
    assert "no <adapter> knows it" in text
    assert UNVERIFIED in text
    assert "A note." in text
    assert "A finding." in page.locator(".hfess-head").inner_text()
    rows = rows_of(page, "proof")
    assert float(rows[0][4]) == 1e-6
    assert rows[1][3].startswith("NO")
    marks = page.locator(".hfess-figure-proof g[data-series]")
    assert marks.nth(1).locator("circle").count() == 3
    assert marks.nth(2).locator("rect").count() == 1
    bars = page.locator(".hfess-figure-proof .hfess-bar").evaluate_all(
        "(nodes) => nodes.map((node) => parseFloat(node.style.width))"
    )
    # Decades from 1e-12 to 10.
    assert bars[0] == pytest.approx(100 * 6 / 13, abs=0.01)
    assert bars[1] > bars[0]
