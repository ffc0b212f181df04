"""A card that a push wrote, as a browser shows it."""

from __future__ import annotations

import pytest
from hub.pushing import CARD
from markdown_it import MarkdownIt
from report.synthetic import make_report

from hf_ess.hub import push_report

# About what the Hub does: tables and code scroll, pictures shrink.
STYLE = """
body { max-width: 760px } img { max-width: 100% }
table, pre { display: block; overflow-x: auto }
"""


@pytest.fixture
def card_page(model, open_context, tmp_path):
    """The card of a model in a window, with the files of its repository beside it."""
    push_report(make_report(), "me/model")
    for path, content in model.files("main").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    text = (tmp_path / "README.md").read_text("utf-8").split("---\n", 2)[2]
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    page = tmp_path / "card.html"
    head = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>"
    page.write_text(head + markdown.render(text), "utf-8")
    window = open_context(viewport={"width": 900, "height": 800}).new_page()
    window.goto(page.as_uri())
    return window


def test_the_section_as_it_is_shown(card_page):
    assert CARD.split("# ")[-1].split("\n")[0] in card_page.inner_text("h1")
    assert card_page.inner_text("h2") == "Effective state-size"
    shown = card_page.inner_text("body")
    assert "hf_ess:" not in shown
    assert "tolerance-ESS(0.1)" in shown
    # Folded until somebody asks.
    assert "largest residual" not in shown
    picture = card_page.locator("img")
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 400
    assert "Curve of the total" in picture.get_attribute("alt")


def test_what_is_folded_opens(card_page):
    for summary in card_page.locator("summary").all():
        summary.click()
    tables = card_page.locator("table")
    assert tables.count() == 3
    report = make_report()
    assert tables.nth(0).locator("tbody tr").count() == len(report.metrics)
    assert tables.nth(1).locator("tbody tr").count() == len(report.layers)
    assert "largest residual" in card_page.inner_text("body")
    assert card_page.inner_text("pre").startswith("$ hf-ess analyze ")
    width, room = card_page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room
