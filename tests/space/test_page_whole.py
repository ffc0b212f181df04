"""The view as a guest in a page: themes, widths, links, files, what is missing, and how fast."""

from __future__ import annotations

import statistics
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from space.measured import spectral_report
from space.paging import MOUNT, TWO_FRAMES, downloaded, number, rows_of, settle, show
from space.views import UNVERIFIED, make_view

from hf_ess.space.view import cell, view

SLOWEST_REDRAW = 200  # ms, of the slider


def test_a_real_report_has_the_numbers_of_the_report(blank):
    report = spectral_report(layers=3, groups=3)
    page = blank()
    page.expose_function("askPython", lambda layer, position, _: cell(report, layer, position))
    page.evaluate(MOUNT, [view(report, key="k"), None, None])
    settle(page)
    assert number(page, "total") == pytest.approx(report.total_ess("entropy"), rel=1e-12)
    for tolerance in report.tolerances:
        page.evaluate("(t) => page.setState({metric: 'tolerance', threshold: t})", tolerance)
        settle(page)
        assert number(page, "total") == pytest.approx(report.total_ess(tolerance), rel=1e-12)
        totals = [float(row[1]) for row in rows_of(page, "curve")]
        expected = report.total_ess_by_position(tolerance)
        assert totals == pytest.approx(expected.tolist(), rel=1e-12)
    page.evaluate("page.setState({layer: 1, position: 9})")
    page.locator(".hfess-figure-block path").first.wait_for(state="attached")
    counts = page.locator(".hfess-heads tbody td:nth-child(3)").evaluate_all(
        "(cells) => cells.map((cell) => Number(cell.dataset.value))"
    )
    assert counts == report.layers[1].tolerance_ess[report.tolerances[-1]][0, :, 1].tolist()


def test_nothing_is_left_in_the_page(shown):
    page = shown(make_view())
    leaked = page.evaluate("Object.keys(window).filter((name) => !before.has(name))")
    leaked = [name for name in leaked if not name.startswith("__playwright")]
    ours = {"before", "told", "files", "asked", "page", "askPython"}
    assert set(leaked) - ours == {"hfEss"}
    page.evaluate("page.destroy()")
    assert page.locator("#host > *").count() == 0


def test_the_view_follows_the_theme_of_the_page(shown):
    page = shown(make_view(), color_scheme="dark")
    root = page.locator(".hfess-root")
    theme = "(node) => node.dataset.theme"
    assert root.evaluate(theme) == "dark"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        "document.querySelector('.hfess-host').shadowRoot"
        ".querySelector('.hfess-root').dataset.theme === 'light'"
    )
    light = root.evaluate("(node) => getComputedStyle(node).color")
    page.evaluate("document.body.classList.add('dark')")
    settle(page)
    assert root.evaluate(theme) == "dark"
    assert root.evaluate("(node) => getComputedStyle(node).color") != light


def test_a_light_gradio_stays_light_for_readers_of_dark_pages(blank):
    page = blank(color_scheme="dark")
    page.evaluate("document.querySelector('#host').className = 'gradio-container'")
    show(page, make_view())
    assert page.locator(".hfess-root").get_attribute("data-theme") == "light"


def test_the_style_of_a_page_does_not_reach_in(blank):
    page = blank()
    page.add_style_tag(content="* { color: red !important } h2, th, span { font-size: 99px }")
    show(page, make_view())
    title = page.locator(".hfess-title")
    assert title.evaluate("(node) => getComputedStyle(node).fontSize") == "22px"
    assert title.evaluate("(node) => getComputedStyle(node).color") == "rgb(27, 31, 36)"


@pytest.mark.parametrize("width", [390, 834, 1440])
@pytest.mark.parametrize("views", [1, 2])
def test_the_view_fits_its_width(shown, width, views):
    made = [make_view(layers=30, length=80, seed=seed) for seed in range(views)]
    page = shown(*made, width=width, state={"layer": 3, "position": 9})
    for spectrum in page.locator(".hfess-spectrum").all():
        spectrum.locator("path").first.wait_for(state="attached")
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.locator(".hfess-root *").evaluate_all(
        """(nodes, width) => nodes.filter((node) => {
          const box = node.getBoundingClientRect();
          const scrolls = node.closest(".hfess-table-scroll, .hfess-heads-box, .hfess-text");
          return box.width > 0 && box.right > width + 1 && !scrolls;
        }).map((node) => node.outerHTML.slice(0, 120))""",
        width,
    )
    assert outside == []


def test_the_view_redraws_when_its_width_changes(shown):
    page = shown(make_view())
    page.set_viewport_size({"width": 600, "height": 900})
    settle(page)
    settle(page)
    assert page.locator("canvas").evaluate("(node) => node.clientWidth") < 600


def test_rows_of_layers_stand_side_by_side_on_a_wide_screen(shown):
    page = shown(make_view(layers=30, length=80), width=1440)
    stages = [
        page.locator(f".hfess-figure-{name} .hfess-stage").bounding_box()
        for name in ("heatmap", "profile")
    ]
    assert stages[0]["y"] == stages[1]["y"]
    assert stages[0]["x"] < stages[1]["x"]


NAMELESS = """(nodes) => nodes.filter((node) => {
  const label = node.getAttribute("aria-label") ?? node.textContent;
  const outer = node.closest("label");
  return !label.trim() && !outer?.textContent.trim();
}).map((node) => node.outerHTML)"""


def test_everything_that_can_be_reached_has_a_name(shown):
    page = shown(make_view(unverified=(1,)), state={"layer": 0, "position": 3})
    page.locator(".hfess-figure-block path").first.wait_for(state="attached")
    reachable = page.locator('.hfess-root :is(button, input, [tabindex="0"], summary)')
    assert reachable.count() > 20
    assert reachable.evaluate_all(NAMELESS) == []
    for name in ("curve", "heatmap", "profile", "block", "proof"):
        stage = page.locator(f".hfess-figure-{name} .hfess-stage")
        label = stage.get_attribute("aria-label")
        assert len(label) > 60
        assert any(character.isdigit() for character in label)
        assert stage.get_attribute("tabindex") == "0"


def test_tab_reaches_every_plot(shown):
    page = shown(make_view())
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "document.querySelector('.hfess-host').shadowRoot.activeElement?.className ?? ''"
            )
        )
        seen.add(
            page.evaluate(
                "document.querySelector('.hfess-host').shadowRoot.activeElement"
                "?.closest('section')?.className ?? ''"
            )
        )
    wanted = {
        f"hfess-figure hfess-figure-{name}"
        for name in ("text", "curve", "heatmap", "profile", "proof")
    }
    assert wanted <= seen
    assert "hfess-slider" in seen


@pytest.mark.parametrize("figure", ["curve", "profile", "block", "proof"])
def test_plots_are_taken_away_as_svg_that_stands_alone(shown, figure):
    page = shown(make_view(), state={"layer": 0, "position": 3})
    page.locator(".hfess-figure-block path").first.wait_for(state="attached")
    drawing = downloaded(page, f"{figure}.svg")
    assert drawing["type"] == "image/svg+xml"
    root = ET.fromstring(drawing["text"])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{*}title").text.startswith("test/<b>model</b>")
    assert root.find("{*}rect").get("fill") == "#ffffff"
    assert root.find("{*}text").text.startswith("test/<b>model</b>")
    assert "var(" not in drawing["text"]
    shapes = [node for node in root.iter() if node.tag.split("}")[1] in ("path", "rect", "circle")]
    assert len(shapes) > 2


@pytest.mark.parametrize("figure", ["heatmap", "curve", "profile", "block"])
def test_plots_are_taken_away_as_png(shown, figure):
    page = shown(make_view(), state={"layer": 0, "position": 3})
    page.locator(".hfess-figure-block path").first.wait_for(state="attached")
    image = downloaded(page, f"{figure}.png")
    assert image["type"] == "image/png"
    assert image["size"] > 5000


def test_a_state_from_a_link_is_taken_and_nonsense_is_left_out(shown):
    made = make_view()
    state = {"metric": "tolerance", "threshold": "0.1", "scale": "log", "colour": "change",
             "layer": "2", "position": "5"}  # fmt: skip
    page = shown(made, state=state)
    page.locator(".hfess-figure-block path").first.wait_for(state="attached")
    known = page.evaluate("page.getState()")
    assert (known["metric"], known["threshold"], known["scale"]) == ("tolerance", 0.1, "log")
    assert (known["colour"], known["layer"], known["position"]) == ("change", 2, 5)
    nonsense = {
        "metric": "<b>",
        "threshold": "-1",
        "scale": 5,
        "layer": "x",
        "position": -3,
        "odd": 1,
    }
    page.evaluate("(state) => page.setState(state)", nonsense)
    settle(page)
    after = page.evaluate("page.getState()")
    assert after == known | {"layer": None, "position": None}
    assert page.evaluate("told") == []  # only what the reader does is told


def test_another_report_starts_without_a_chosen_cell(shown):
    page = shown(make_view(), state={"metric": "tolerance", "layer": 3, "position": 5})
    page.evaluate("(view) => page.show(view)", make_view(layers=2, seed=3).view)
    settle(page)
    state = page.evaluate("page.getState()")
    assert (state["layer"], state["position"], state["metric"]) == (None, None, "tolerance")
    assert page.locator(".hfess-figure-heatmap").count() == 1


def test_a_report_without_spectra_or_text_says_so(shown):
    thresholds = np.array([0.1, 0.001])
    made = make_view(thresholds=thresholds, spectra=False, tokens=None, separators=[])
    page = shown(made, state={"metric": "tolerance", "threshold": 0.1, "layer": 1, "position": 4})
    assert number(page, "total") == pytest.approx(made.total(0.1).mean(), rel=1e-12)
    assert "without spectra" in page.locator(".hfess-figure-block .hfess-message").inner_text()
    assert "was not kept" in page.locator(".hfess-figure-text").inner_text()
    assert page.locator(".hfess-slider").get_attribute("max") == "1"
    assert page.evaluate("asked") == []


def test_a_report_without_tolerances_shows_entropy(shown):
    made = make_view(thresholds=np.array([]), tolerances=[], spectra=False)
    page = shown(made, state={"metric": "tolerance"})
    assert number(page, "total") == pytest.approx(made.total(None).mean(), rel=1e-12)
    assert page.locator('input[value="tolerance"]').first.is_disabled()


def test_a_mean_over_texts_colours_no_text(shown):
    page = shown(make_view(samples=3))
    assert "belongs to the tokens of none" in page.locator(".hfess-figure-text").inner_text()
    assert page.locator(".hfess-token[data-level]").count() == 0


def test_a_report_without_a_verified_layer_shows_no_number(shown):
    made = make_view(layers=2, unverified=(0, 1))
    made.view["proof"]["largestResidual"] = None
    page = shown(made, state={"layer": 0, "position": 3})
    tiles = page.locator(".hfess-tile-number").all_inner_texts()
    assert tiles == ["\u2013", "\u2013", "0 of 2", "\u2013"]
    assert UNVERIFIED in page.locator(".hfess-figure-block .hfess-message").inner_text()


def test_a_report_without_layers_is_drawn(shown):
    missing = {"name": "mixer", "mixer": "mlstm", "reason": "no adapter knows it"}
    page = shown(make_view(layers=0, unsupported=[missing]))
    assert page.locator('[data-number="verified"]').inner_text() == "0 of 0"
    page.locator(".hfess-figure-heatmap .hfess-stage").hover()
    page.locator(".hfess-figure-curve .hfess-stage").hover()
    assert "no adapter knows it" in page.locator(".hfess-figure-proof").inner_text()


def test_layers_with_a_thousand_heads_stay_fast(shown):
    made = make_view(layers=2, length=6, groups=1536, values=16)
    page = shown(made, state={"layer": 1, "position": 3})
    page.locator(".hfess-spectrum path").first.wait_for(state="attached")
    series = page.locator(".hfess-spectrum g[data-series]")
    names = series.evaluate_all("(nodes) => nodes.map((node) => node.dataset.series)")
    assert names == ["lowest", "median", "highest"]
    steps = [float(made.view["thresholds"][k]) for k in range(10, 60, 3)]
    assert _redraws(page, "threshold", steps) < SLOWEST_REDRAW
    page.get_by_role("button", name="Show all 1536").click()
    page.locator('[data-group="1500"]').click()
    assert series.count() == 4


def test_an_incomplete_report_says_so_first(shown):
    page = shown(make_view(complete=False))
    assert page.locator(".hfess-head li").first.inner_text().startswith("Incomplete")


def test_an_unknown_version_is_refused_in_words(shown):
    page = shown(make_view(version=99))
    assert "version 99" in page.locator('.hfess-failure[role="alert"]').inner_text()
    page.evaluate("(view) => page.show(view)", make_view().view)
    assert page.locator(".hfess-failure").count() == 0
    assert page.locator(".hfess-figure-heatmap").count() == 1


def test_a_cell_that_cannot_be_read_says_why_and_can_be_asked_again(shown):
    page = shown(make_view())
    page.evaluate("""() => {
      window.askPython = () =>
        asked.length < 2 ? Promise.reject(new Error("gone")) : Promise.resolve({ groups: [] });
    }""")
    page.evaluate("page.setState({layer: 1, position: 4})")
    message = page.locator(".hfess-figure-block .hfess-message")
    message.get_by_text("gone").wait_for()
    page.set_viewport_size({"width": 900, "height": 900})
    settle(page)
    assert page.evaluate("asked.length") == 1  # nobody asked again
    message.get_by_role("button", name="Try again").click()
    page.wait_for_function("asked.length === 2")
    settle(page)
    assert message.inner_text() == ""


def test_thousands_of_tokens_stay_fast(shown):
    made = make_view(layers=2, length=4096, groups=1, positions=list(range(1, 4096, 8)))
    page = shown(made)
    assert page.locator(".hfess-token").count() == 4096
    assert _redraws(page, "colour", ["change", "total"] * 4) < 2 * SLOWEST_REDRAW


def test_the_slider_redraws_at_once(shown):
    made = make_view(layers=30, length=513, groups=1, values=4)
    assert len(made.view["thresholds"]) == 71
    page = shown(made, state={"metric": "tolerance"})
    steps = [float(made.view["thresholds"][k]) for k in range(10, 60, 3)]
    assert _redraws(page, "threshold", steps) < SLOWEST_REDRAW


def _redraws(page, name, values):
    """Time from a change of the state to the end of the frame that shows it, in ms.

    The first quartile of several: what else runs on a machine can only add to it.
    """
    times = page.evaluate(
        f"""async ([name, values]) => {{
          const frames = {TWO_FRAMES};
          const times = [];
          for (const value of values) {{
            await frames();
            const start = performance.now();
            page.setState({{ [name]: value }});
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            times.push(performance.now() - start);
          }}
          return times;
        }}""",
        [name, values],
    )
    return statistics.quantiles(times, n=4)[0]


def test_colours_get_lighter_in_even_steps(shown):
    """Of the legend of the heat map: monotone, and nowhere flat, also for colour-blind readers."""
    page = shown(make_view())
    gradient = page.locator(".hfess-figure-heatmap .hfess-legend-bar").evaluate(
        "(node) => getComputedStyle(node).backgroundImage"
    )
    colours = np.array(
        [[int(x) for x in part.split(")")[0].split(",")] for part in gradient.split("rgb(")[1:]]
    )
    linear = np.where(
        colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4
    )
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    lightness = 116 * np.cbrt(luminance) - 16
    steps = [after - before for before, after in pairwise(lightness)]
    assert min(steps) > 0.5 * max(steps)
    assert lightness[-1] - lightness[0] > 70
