"""Cells of tables that other programs read: names from models and users stay mere text there."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence

from hf_ess.plain_text import printable

Cell = str | int | float | bool | None

# Spreadsheets take what begins with one of these for a formula; wide forms count in some of them.
_FORMULA = re.compile("[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]|~#!:@$^]")
_WEB_ADDRESS = re.compile(r"(?i)\b(www)\.")


def markdown_cell(text: str) -> str:
    r"""The text as it is read in a cell of a Markdown table: no markup, HTML or link comes of it.

    Example:
        >>> print(markdown_cell("a|b `c` <i>"))
        a\|b \`c\` &lt;i&gt;
    """
    shown = printable(text).replace("&", "&amp;")
    escaped = _MARKDOWN.sub(lambda found: "\\" + found[0], shown)
    linkless = _WEB_ADDRESS.sub(r"\1\\.", escaped)
    return linkless.replace("<", "&lt;").replace(">", "&gt;")


def csv_cell(value: Cell) -> str:
    """A cell for the csv module: nothing for what does not exist, no formula in a text.

    Example:
        >>> csv_cell("=1+1"), csv_cell(-0.5), csv_cell(float("nan")), csv_cell(True)
        ("'=1+1", '-0.5', '', 'true')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) else text


def csv_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    r"""A table as comma-separated values.

    Example:
        >>> csv_table(["model", "average"], [["a,b", 1.5]])
        'model,average\n"a,b",1.5\n'
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in header])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return file.getvalue()


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> str:
    r"""A table in Markdown; `right` says which columns are aligned to the right.

    Example:
        >>> print(markdown_table(["model", "average"], [["a|b", "1.50"]], [False, True]))
        | model | average |
        | --- | ---: |
        | a\|b | 1.50 |
        <BLANKLINE>
    """
    lines = [[markdown_cell(name) for name in header], ["---:" if x else "---" for x in right]]
    lines += [[markdown_cell(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
