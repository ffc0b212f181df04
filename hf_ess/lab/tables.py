"""What the commands of the lab print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hf_ess.lab.paper.reproduction import Reproduction
from hf_ess.lab.results import RunResult
from hf_ess.plain_text import printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import ConsoleRenderable
    from rich.table import Table

ABSENT = "-"
DIGITS = 4
SECTIONS = ("model", "task", "regularizer")
# How the name of a standard error ends.
ERROR = "_se"


def result_tables(result: RunResult) -> list[ConsoleRenderable]:
    """What a run came to, its ESS layer by layer, and what has to be known of that."""
    from rich.text import Text

    numbers = result.numbers
    line = (
        f"{result.config.task.name}: accuracy {result.accuracy:.4f}, loss {result.loss:.4f} "
        f"on {result.config.test_samples} texts after {result.config.steps} steps; "
        f"{numbers['parameters']} parameters, {result.seconds:.0f} s"
    )
    remarks = [Text(printable(remark)) for remark in numbers["remarks"]]
    return [Text(line), table_of(result.layers), *remarks]


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of named values, numbers to four digits, each with its standard error if it has one."""
    from rich.table import Table
    from rich.text import Text

    names = list(dict.fromkeys(name for row in rows for name in row if not _is_error(name)))
    table = Table(box=None, pad_edge=False)
    for name in names:
        right = _is_numeric(row.get(name) for row in rows)
        table.add_column(_header(name), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(Text(printable(_cell(row, name))) for name in names))
    return table


def reproduction_tables(made: Reproduction) -> list[ConsoleRenderable]:
    """What came of an experiment of the paper: verdict, words, and its tables."""
    from rich.text import Text

    finding = made.finding
    lines: list[ConsoleRenderable] = [
        Text(f"{made.experiment.title} ({made.experiment.source})"),
        Text(f"{finding.verdict.value}: {printable(finding.words)}"),
    ]
    for title, table in finding.tables.items():
        lines += [Text(f"\n{printable(title)}"), table_of(rows_of(table))]
    return lines


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a data frame in the types of JSON, None for NaN.

    Example:
        >>> import pandas as pd
        >>> rows_of(pd.DataFrame({"runs": [1], "accuracy": [float("nan")]}))
        [{'runs': 1, 'accuracy': None}]
    """
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


def _is_numeric(values: Iterable[Any]) -> bool:
    found = [value for value in values if value is not None]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in found)


def _header(name: str) -> str:
    """A word a line; model.mixers is mixers."""
    section, dot, inner = name.partition(".")
    return (inner if dot and section in SECTIONS else name).replace("_", "\n")


def _is_error(name: str) -> bool:
    return name.endswith(ERROR)


def _cell(row: dict[str, Any], name: str) -> str:
    error = row.get(f"{name}{ERROR}")
    return _shown(row.get(name)) + ("" if error is None else f" ± {error:.2g}")


def _shown(value: Any) -> str:
    if value is None or value != value:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
