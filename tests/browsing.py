"""A real browser for the tests of pages; without one they are skipped."""

from __future__ import annotations

import shutil

import pytest

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


def _note(problems, message):
    if message.type in ("error", "warning"):
        problems.append(f"{message.type}: {message.text}")
