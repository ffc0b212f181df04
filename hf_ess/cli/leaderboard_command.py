"""`hf-ess leaderboard`: one table over the reports of folders and of the Hub; it only reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_ess.cli.adapters_command import PIPED_WIDTH
from hf_ess.cli.compare_command import parsed_metric
from hf_ess.cli.telling import tell
from hf_ess.errors import HfEssError, ReportError

if TYPE_CHECKING:
    from hf_ess.report.leaderboard import Entry, Failure, Leaderboard


class LeaderboardFormat(str, Enum):
    """How a leaderboard is written."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    json = "json"


def leaderboard(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="REPO_OR_FOLDER...",
            help="Repositories of the Hub as user/model, or folders with reports in or below them.",
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(help="Show this one only: entropy, or a tolerance. [all]")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="Column to sort by, or how its name begins.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write into this file.")] = None,
    output: Annotated[
        LeaderboardFormat, typer.Option("--format", help="How the table is written.")
    ] = LeaderboardFormat.table,
) -> None:
    """Put many reports into one table, in groups of those that are comparable."""
    from hf_ess.report.leaderboard import leaderboard as table_of

    wanted = parsed_metric(metric)
    failed: list[Failure] = []
    entries = list(_entries(sources, failed))
    board = table_of(entries, metric=wanted, sort=sort, failed=failed)
    for failure in failed:
        tell(f"error: {failure.source}: {failure.reason}")
    text = _written(board, output, to_file=out is not None)
    if out is None:
        typer.echo(text, nl=False)
    else:
        _write(out, text)
    if failed:
        raise typer.Exit(1)


def _entries(sources: list[str], failed: list[Failure]) -> Iterator[Entry]:
    """Every report once, as an entry; what cannot be read is added to the failures."""
    from hf_ess.hub import read_report
    from hf_ess.plain_text import printable
    from hf_ess.report.leaderboard import Entry, Failure

    seen = set()
    for source in sources:
        for name, key in _places(source, failed):
            if key in seen:
                continue
            seen.add(key)
            try:
                yield Entry.of(name, read_report(key))
            except HfEssError as error:
                failed.append(Failure(printable(name), printable(error.what)))


def _places(source: str, failed: list[Failure]) -> list[tuple[str, str | Path]]:
    """What to read for one argument: a name on the Hub, or folders, each under its own name."""
    from hf_ess.plain_text import printable
    from hf_ess.report.leaderboard import Failure, report_folders

    root = Path(source).expanduser()
    if not root.is_dir():
        return [(source, source)]
    try:
        folders = list(report_folders(root))
        if not folders:
            raise ReportError("it holds no report, and none is below it (links are not followed)")
    except ReportError as error:
        failed.append(Failure(printable(source), printable(error.what)))
        return []
    return [(str(folder), folder.resolve()) for folder in folders]


def _written(board: Leaderboard, output: LeaderboardFormat, *, to_file: bool) -> str:
    if output is LeaderboardFormat.json:
        return json.dumps(board.to_dict(), indent=2, allow_nan=False) + "\n"
    if output is LeaderboardFormat.csv:
        return board.to_csv()
    if output is LeaderboardFormat.markdown:
        return board.to_markdown()
    from rich.console import Console

    from hf_ess.report.leaderboard_tables import LeaderboardView

    console = Console(width=None if sys.stdout.isatty() and not to_file else PIPED_WIDTH)
    with console.capture() as capture:
        console.print(LeaderboardView(board))
    return capture.get()


def _write(out: Path, text: str) -> None:
    from hf_ess.report.files import replace_together

    replace_together(out.parent, {out.name: text.encode("utf-8", "backslashreplace")})
    tell(f"wrote {out}")
