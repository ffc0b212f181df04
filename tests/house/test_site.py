"""The site is built without a warning, shows what GitHub shows, and needs no other host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from house.markdown_pages import ROOT
from house.public_names import site_names
from markdown_it import MarkdownIt

AT_THE_ROOT = {
    "README": "index",
    "CHANGELOG": "changelog",
    "CONTRIBUTING": "contributing",
    "SECURITY": "security",
}
# What a reader of a page sees besides its words.
SEEN = ("h2", "h3", "img", "li", "pre", "table", "tr")


class Page(HTMLParser):
    """The links, ids and elements of a page; elements only of what was written in Markdown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.elements: Counter[str] = Counter()
        self._depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids.add(named.get("id", ""))
        if tag == "article":
            self._depth += 1
        if self._depth:
            self.elements[tag] += 1
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif "src" in named or (tag == "link" and named.get("rel") != "canonical"):
            self.loaded.append(named.get("src") or named["href"])

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (ended.returncode, ended.stderr.strip()) == (0, "")
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_link_leads_somewhere(site, pages):
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file() and (
                not parts.fragment or unquote(parts.fragment) in pages[target].ids
            )
            lost += [] if there else [f"{path.relative_to(site)}: {link}"]
    assert not lost
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_comes_from_another_host(site, pages):
    loaded = {address for page in pages.values() for address in page.loaded}
    assert any(address.endswith(".js") for address in loaded)
    assert not [address for address in loaded if urlsplit(address).netloc]
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8").replace('"', "")


def test_every_public_name_is_on_its_page(site, pages):
    names = site_names()
    for name, page in names.documented().items():
        assert names.place_of(name) in pages[site / "api" / f"{page}.html"].ids, name
    index = pages[site / "api" / "index.html"]
    linked = {link.partition("#")[2] for link in index.links}
    assert {names.place_of(name) for name in names.documented()} <= linked


def test_pages_show_what_github_shows(site, pages):
    sources = [*(ROOT / "docs").glob("*.md"), *(ROOT / f"{name}.md" for name in AT_THE_ROOT)]
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    for source in sources:
        seen = pages[site / f"{AT_THE_ROOT.get(source.stem, source.stem)}.html"].elements
        expected = Page(
            f"<article>{markdown.render(source.read_text(encoding='utf-8'))}</article>"
        ).elements
        assert {tag: seen[tag] for tag in SEEN} == {tag: expected[tag] for tag in SEEN}, source.name
