"""`hf-ess adapters`: what can be measured."""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import Annotated

import typer

from hf_ess.plain_text import printable

# Wide enough for the widest table, where no terminal says its width.
PIPED_WIDTH = 120


class Format(str, Enum):
    """How results are printed."""

    table = "table"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How results are printed.")]


def adapters(output: FormatOption = Format.table) -> None:
    """List the mixer families that can be measured."""
    from model_adapters import registered_adapters

    rows = [
        {"mixer": adapter.mixer, "models": adapter.models, "class": type(adapter).__qualname__}
        for adapter in registered_adapters()
    ]
    if output is Format.json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("mixer", "models", "class", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(word)) for word in row.values()))
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
