"""A real browser for the tests of the page; without one they are skipped."""

from __future__ import annotations

import shutil

import pytest
from space.paging import served, show

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser():
    """Chromium of this machine, started once for each process of the tests."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'hf-ess[dev]'")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def open_context(browser):
    """Opens a browser window of its own; afterwards the pages in it have made no error."""
    problems: list[str] = []
    contexts = []

    def opened(**options):
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        context.on("console", lambda message: _note(problems, message))
        context.on("weberror", lambda error: problems.append(str(error.error)))
        contexts.append(context)
        return context

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def view_address():
    """Where a page lies that can mount the view, without Gradio."""
    with served() as url:
        yield url


@pytest.fixture
def blank(open_context, view_address):
    """Opens that page in a window of its own, the view not yet mounted."""

    def open_page(width=1280, **options):
        page = open_context(viewport={"width": width, "height": 900}, **options).new_page()
        page.goto(view_address)
        return page

    return open_page


@pytest.fixture
def shown(blank):
    """Opens that page and shows one made view in it, or two side by side."""

    def open_page(*made, state=None, **options):
        page = blank(**options)
        show(page, *made, state=state)
        return page

    return open_page


def _note(problems, message):
    if message.type in ("error", "warning"):
        problems.append(f"{message.type}: {message.text}")
