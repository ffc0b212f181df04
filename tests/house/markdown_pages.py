"""Links, images and headings of Markdown pages, as GitHub reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (".github", "benchmarks", "docs", "spaces")


@dataclass(frozen=True)
class Link:
    """A link or an image; `words` are what a reader sees of it."""

    page: Path
    line: int
    target: str
    words: str
    is_image: bool

    @property
    def is_external(self) -> bool:
        return bool(urlsplit(self.target).scheme) or self.target.startswith("//")

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line} {self.target}"


def all_pages() -> list[Path]:
    """Every Markdown page of the repository."""
    below = [page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *below])


def links_of(page: Path) -> list[Link]:
    """What a page links to and shows, those in raw HTML included."""
    links: list[Link] = []
    for block in _parsed(page):
        line = block.map[0] + 1 if block.map else 0
        links += [Link(page, line, *found) for found in _links_in(block)]
    return links


def anchors_of(page: Path) -> set[str]:
    """Names of the headings, as GitHub makes them, and ids written in HTML."""
    seen: dict[str, int] = {}
    anchors = set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
    for opened, inline in pairwise(_parsed(page)):
        if opened.type == "heading_open":
            slug = _slug(_words(inline.children or []))
            times = seen.get(slug, 0)
            seen[slug] = times + 1
            anchors.add(f"{slug}-{times}" if times else slug)
    return anchors


def problem_of(link: Link) -> str:
    """Why a reader who follows a link does not come where it says; empty if one does."""
    if link.is_external:
        return _external_problem(link.target)
    path, _, anchor = link.target.partition("#")
    target = (link.page.parent / unquote(path)).resolve() if path else link.page
    if not target.is_relative_to(ROOT):
        return "leads out of the repository"
    if not target.exists():
        return "there is no such file"
    if anchor and target.suffix != ".md":
        return "has an anchor, but is no page"
    if anchor and anchor not in anchors_of(target):
        return f"{target.name} has no heading of that name"
    if link.is_image and not link.words:
        return "an image without words for those who cannot see it"
    return ""


def _external_problem(target: str) -> str:
    parts = urlsplit(target)
    if parts.scheme == "mailto":
        return "" if re.fullmatch(r"[^@\s]+@[^@\s]+\.\w+", parts.path) else "no address"
    well_formed = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
    return "" if well_formed and not re.search(r"\s", target) else "malformed"


@cache
def _parsed(page: Path) -> list[Token]:
    text = page.read_text(encoding="utf-8")
    if text.startswith("---\n"):
        front = text.index("\n---\n", 3) + 5
        text = "\n" * text[:front].count("\n") + text[front:]
    return MarkdownIt("commonmark").enable("table").parse(text)


def _links_in(block: Token) -> list[tuple[str, str, bool]]:
    found: list[tuple[str, str, bool]] = []
    children = block.children or []
    for place, token in enumerate(children):
        if token.type == "link_open":
            inside = takewhile(lambda child: child.type != "link_close", children[place:])
            found.append((str(token.attrGet("href")), _words(inside), False))
        elif token.type == "image":
            found.append((str(token.attrGet("src")), token.content, True))
    html = [token.content for token in (block, *children) if token.type.startswith("html_")]
    for name, target in re.findall(r'\b(href|src)="([^"]*)"', "".join(html)):
        found.append((target, "html", name == "src"))
    return found


def _words(tokens: Iterable[Token]) -> str:
    return "".join(token.content for token in tokens)


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")
