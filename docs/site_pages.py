"""Pages of the site that are no files of docs/: the README, the root's pages, the reference.

Hooks of MkDocs; see mkdocs.yml.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
if str(DOCS) not in sys.path:
    sys.path.append(str(DOCS))

from site_docstrings import linked  # noqa: E402
from site_names import PAGES, ApiPage, place_of  # noqa: E402

HOME = "README.md"
AT_THE_ROOT = {
    HOME: "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
# Errors are made alike; how is said once.
ERROR, ALIKE = "hf_ess.HfEssError", ("Error", "Warning")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
# GitHub begins a list right below a paragraph, Python-Markdown after an empty line.
LIST_BELOW_WORDS = re.compile(r"^(?![*-] |\d+\. |\s|\|)(.+)\n(?=[*-] |\d+\. )", re.MULTILINE)
FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds pages that the navigation does not name to its last part, and the reference."""
    named = {page for part in config.nav for pages in part.values() for page in _listed(pages)}
    (house,) = config.nav[-1].values()
    house += sorted(page.name for page in DOCS.glob("*.md") if page.name not in named)
    house += [page for name, page in AT_THE_ROOT.items() if name != HOME and _is_there(name)]
    reference = [{page.title: f"api/{page.name}.md"} for page in PAGES]
    config.nav.append({"API": [{"All names": "api/index.md"}, *reference]})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that are no files of docs/."""
    for name, page in AT_THE_ROOT.items():
        if _is_there(name):
            text = (ROOT / name).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "api/index.md", content=_index()))
    for page in PAGES:
        files.append(File.generated(config, f"api/{page.name}.md", content=_reference(page)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **kwargs: Any) -> str:
    """Links as they are on GitHub become links of the site; names become links to the reference."""
    source = page.file.src_uri
    at_root = {there: here for here, there in AT_THE_ROOT.items()}.get(source)
    folder = "" if at_root else posixpath.join("docs", posixpath.dirname(source))
    parts = FENCE.split(markdown.replace("<details>", '<details markdown="1">'))
    generated = source.startswith("api/")
    for place in range(0, len(parts), 2):
        if not generated:
            parts[place] = _with_links_of_the_site(parts[place], folder, source)
        parts[place] = LIST_BELOW_WORDS.sub(r"\1\n\n", parts[place])
        parts[place] = "\n".join(
            line if line.startswith("#") else linked(line) for line in parts[place].split("\n")
        )
    return "".join(parts)


def _with_links_of_the_site(text: str, folder: str, source: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        there = posixpath.normpath(posixpath.join(folder, path))
        found = AT_THE_ROOT.get(there) or (
            there.removeprefix("docs/") if there.startswith("docs/") else None
        )
        mark = "!" if match[0].startswith("!") else ""
        if found is None:
            return f"`{there}`" if words.strip("`") == there else f"{words} (`{there}`)"
        here = posixpath.relpath(found, posixpath.dirname(source) or ".")
        return f"{mark}[{words}]({here}{'#' + anchor if anchor else ''})"

    return LINK.sub(replaced, IMAGE.sub(replaced, text))


def _listed(pages: str | list[str]) -> list[str]:
    return [pages] if isinstance(pages, str) else pages


def _is_there(name: str) -> bool:
    return (ROOT / name).is_file()


def _index() -> str:
    lines = ["# All public names", ""]
    for page in PAGES:
        names = ", ".join(f"`{name}`" for name in page.names)
        lines += [f"**[{page.title}]({page.name}.md)**: {page.words}", "", names, ""]
    return "\n".join(lines)


def _reference(page: ApiPage) -> str:
    blocks = (
        f"\n::: {place_of(name)}\n    options:\n"
        f"      heading: {name}\n      toc_label: {name.rpartition('.')[2]}\n"
        f"      show_signature: {str(not name.endswith(ALIKE) or name == ERROR).lower()}\n"
        for name in page.names
    )
    return f"# {page.title}\n\n{page.words}\n{''.join(blocks)}"
