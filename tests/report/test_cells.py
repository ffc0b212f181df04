"""Names stay mere text in Markdown and in spreadsheets."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hf_ess.plain_text import printable
from hf_ess.report.cells import csv_table, markdown_cell, markdown_table

NASTY = [
    "a|b", "`code`", "<script>alert(1)</script>", "<!-- hf_ess:end -->", "[x](http://evil)",
    "![x](y)", "https://evil.example", "www.evil.example", "&lt;b&gt;", "**bold** _it_ ~~s~~",
    "\\|", "\\", "\x1b[31m", "line\nbreak", "\u202eabc", "$x$", "# heading", "- item", "1. one",
    "me@evil.example", ":smile:", "model_name_x", "日本", "",
]  # fmt: skip


def rendered_cells(text):
    """The cells of a table as a reader sees them, and whether they are nothing but text."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    cells = [token for token in tokens if token.type == "inline"]
    plain = all(
        {child.type for child in cell.children} <= {"text", "text_special"} for cell in cells
    )
    return ["".join(child.content for child in cell.children) for cell in cells], plain


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_markdown_shows_the_text_and_nothing_else(text):
    table = markdown_table(["name", "value"], [[text, "1.50"], [f"x {text}", "2"]], [False, True])
    cells, plain = rendered_cells(table)
    assert plain
    # What is at the ends of a cell is blank; in between every character is shown.
    assert cells == [
        "name",
        "value",
        printable(text).strip(),
        "1.50",
        f"x {printable(text)}".strip(),
        "2",
    ]
    assert table.count("\n") == 4


@given(st.text(max_size=30))
def test_markdown_of_any_text(text):
    cells, plain = rendered_cells(markdown_table(["a"], [[f"x{text}x"]], [False]))
    assert plain
    assert cells[1] == f"x{printable(text)}x"


@pytest.mark.parametrize("text", ["https://evil.example", "www.evil.example", "WWW.x", "ftp://x"])
def test_addresses_do_not_become_links(text):
    assert not re.search(r"(?i)(www\.|\w://)", markdown_cell(text))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d"])
def test_spreadsheets_see_no_formula(start):
    (cell,) = next(csv.reader(io.StringIO(csv_table([f"{start}1+cmd|x"], []))))
    assert cell == f"'{start}1+cmd|x"


@given(st.text(max_size=30))
def test_any_text_comes_back_from_csv(text):
    header, row = csv.reader(io.StringIO(csv_table(["a", "b"], [[text, -1.5]])))
    assert header == ["a", "b"]
    assert row[0].removeprefix("'") == printable(text).removeprefix("'")
    assert row[0][:1] not in set("=+-@\t\r\n")
    assert row[1] == "-1.5"
