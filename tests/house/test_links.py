"""Every link, anchor and image of the README and of all pages leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from house.markdown_pages import ROOT, Link, all_pages, anchors_of, links_of, problem_of

PAGES = all_pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page(page):
    problems = {str(link): problem_of(link) for link in links_of(page)}
    assert not {link: problem for link, problem in problems.items() if problem}


def test_every_page_of_the_documentation_is_linked():
    linked = {
        (link.page.parent / link.target.partition("#")[0]).resolve()
        for page in PAGES
        for link in links_of(page)
        if not link.is_external
    }
    assert not [page.name for page in PAGES if page.parent.name == "docs" and page not in linked]


def test_every_picture_is_shown_somewhere():
    shown = {(link.page.parent / link.target).resolve() for p in PAGES for link in links_of(p)}
    assert not [file.name for file in (ROOT / "docs" / "images").iterdir() if file not in shown]


def test_what_is_broken_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("house.markdown_pages.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# A `b`, c\n\n## a b c\n\n# A b c\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[1](there.md) [2](there.md#a-b-c-2) [3](https://example.org/x)\n\n"
        "| t |\n|---|\n| [4](gone.md) |\n\n"
        '[5](there.md#gone) [6](../out.md) [7](http://x) ![](there.md)\n\n<img src="gone.png">\n',
        encoding="utf-8",
    )
    assert anchors_of(tmp_path / "there.md") == {"a-b-c", "a-b-c-1", "a-b-c-2"}
    assert [(link.line, problem_of(link)) for link in links_of(page)] == [
        (1, ""),
        (1, ""),
        (1, ""),
        (5, "there is no such file"),
        (7, "there.md has no heading of that name"),
        (7, "leads out of the repository"),
        (7, "malformed"),
        (7, "an image without words for those who cannot see it"),
        (9, "there is no such file"),
    ]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("https://arxiv.org/abs/2504.19561", ""),
        ("mailto:someone@example.org", ""),
        ("mailto:someone", "no address"),
        ("http://example.org", "malformed"),
        ("https://localhost", "malformed"),
        ("ftp://example.org", "malformed"),
        ("//example.org/a", "malformed"),
    ],
)
def test_addresses(target, problem):
    assert problem_of(Link(Path("page.md"), 1, target, "words", is_image=False)) == problem
