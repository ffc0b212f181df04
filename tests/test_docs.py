"""The Python code of the README and of every page runs as it stands there."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from model_adapters import registered_adapters

ROOT = Path(__file__).parent.parent
PYTHON = re.compile(r"^```python[^\S\n]*\n(.*?)^```[^\S\n]*$", re.DOTALL | re.MULTILINE)
# Its code speaks to a Hub: `hub/test_publish_page.py` runs it against a stub.
WITH_A_HUB = ROOT / "docs" / "publish.md"
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if page != WITH_A_HUB and PYTHON.search(page.read_text(encoding="utf-8"))
]


def python_blocks(text):
    """The code blocks of a page with the line on which each begins; other languages are left."""
    return [(text[: match.start(1)].count("\n"), match[1]) for match in PYTHON.finditer(text)]


def _without_network(*_args, **_kwargs):
    raise AssertionError("a page asked the network")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", _without_network)
    blocks = python_blocks(page.read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    try:
        for line, block in blocks:
            # Padded with empty lines, so that a traceback names the line of the page.
            code = compile("\n" * line + block, str(page), "exec")
            exec(code, namespace)
    finally:
        plt.close("all")
    assert "hf_ess" in namespace or any("hf_ess" in block for _, block in blocks)


def test_only_python_blocks_are_found():
    text = (
        "a\n```python\nx = 1\n```\n```console\n$ y\n```\n```pycon\n>>> z\n```\n```python\nw\n```\n"
    )
    assert python_blocks(text) == [(2, "x = 1\n"), (11, "w\n")]


def test_pages_with_code_are_found():
    names = {page.name for page in PAGES}
    assert {"README.md", "what-is-ess.md", "reading-a-report.md"} <= names


def test_every_mixer_is_on_its_page():
    page = (ROOT / "docs" / "mixers.md").read_text(encoding="utf-8")
    missing = [adapter.mixer for adapter in registered_adapters() if adapter.mixer not in page]
    assert not missing
