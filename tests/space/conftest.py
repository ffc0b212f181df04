"""Windows of a real browser with the page in them."""

from __future__ import annotations

import pytest
from space.paging import served, show


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
