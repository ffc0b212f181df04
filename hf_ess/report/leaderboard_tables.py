"""A leaderboard as tables for the terminal, through rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_ess.plain_text import printable
from hf_ess.report.leaderboard import APART, GROUP, SOURCE, Leaderboard
from hf_ess.report.tables import Column, fitted_tables
from hf_ess.report.text import counted, shortened

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

WIDEST_CELL = 28


class LeaderboardView:
    """The tables of a leaderboard, one for each group, fitted to the width of the console.

    Example:
        `rich.console.Console().print(LeaderboardView(leaderboard(entries)))`
    """

    def __init__(self, board: Leaderboard) -> None:
        self.board = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        if not self.board.rows:
            yield Text("No report was read.")
        for group, apart in enumerate(self.board.groups, 1):
            rows = [row for row in self.board.shown if row[GROUP] == str(group)]
            first = Column(SOURCE, [row[SOURCE] for row in rows], justify_right=False)
            columns = [
                Column(
                    _header(name),
                    [shortened(row[name], WIDEST_CELL) for row in rows],
                    self.board.is_number(name),
                )
                for name in self.board.columns
                if name not in (GROUP, APART, SOURCE)
            ]
            title = f"Group {group}: {counted(len(rows), 'report')}"
            title += f", not comparable with group 1 in {rows[0][APART]}" if apart else ""
            yield from fitted_tables(title, first, columns, options.max_width)
            yield from (Text(f"  - {printable(line)}") for line in apart)


def _header(name: str) -> str:
    """A name in short lines, for width is scarce."""
    return name.replace(" of ", "\nof ").replace(" ", "\n").replace("-ESS", "-\nESS")
