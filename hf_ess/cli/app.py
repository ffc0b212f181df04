"""The commands, and how they end: 0 done, 1 a named error, 2 wrong usage, 130 interrupted.

SIGTERM ends them in the same order, with 143.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, cast

import typer

import hf_ess
from hf_ess.cli.adapters_command import adapters
from hf_ess.cli.analyze_command import analyze
from hf_ess.cli.compare_command import compare
from hf_ess.cli.ending import orderly_termination
from hf_ess.cli.env_command import env
from hf_ess.cli.lab_command import lab
from hf_ess.cli.leaderboard_command import leaderboard
from hf_ess.cli.modulate_command import modulate
from hf_ess.cli.push_command import card, push
from hf_ess.cli.recall_command import recall
from hf_ess.cli.serve_command import serve
from hf_ess.cli.space_command import space
from hf_ess.cli.telling import tell
from hf_ess.errors import HfEssError
from hf_ess.launch import launched_processes
from hf_ess.out_of_memory import is_out_of_memory, shortage_of
from hf_ess.plain_text import safe_logs

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
LESS_MEMORY = "What to do: Take fewer or shorter texts at once, another --dtype or --device."

app = typer.Typer(
    name="hf-ess",
    help="Measure how much memory a sequence model really uses (effective state-size).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(analyze)
app.command()(adapters)
app.command()(compare)
app.command()(leaderboard)
app.command()(modulate)
app.command()(recall)
app.command()(push)
app.command()(card)
app.command()(serve)
app.command()(env)
app.add_typer(lab, name="lab")
app.add_typer(space, name="space")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf-ess {hf_ess.__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Measure how much memory a sequence model really uses (effective state-size)."""


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """A warning is one line for the person at the terminal, not a place in our code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        tell(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = cast(Any, show)
        yield


def _error_label() -> str:
    rank, processes = launched_processes()
    return "error" if processes == 1 else f"error in process {rank} of {processes}"


def _keep_quiet() -> None:
    """Bars and remarks of the libraries come from process 0; they read this when imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def main() -> None:
    """Runs the command line and exits with its status."""
    if launched_processes()[0] > 0:
        _keep_quiet()
    with orderly_termination() as ending:
        try:
            with safe_logs(), _plain_warnings():
                app()
        except HfEssError as error:
            tell(f"{_error_label()}: {error}")
            sys.exit(EXIT_ERROR)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            tell(f"{_error_label()}: Memory ran out. {shortage_of(error)}\n{LESS_MEMORY}")
            sys.exit(EXIT_ERROR)
        except (KeyboardInterrupt, SystemExit) as ended:
            if ending.terminated:
                tell("terminated")
                sys.exit(EXIT_TERMINATED)
            if isinstance(ended, SystemExit) and ended.code != EXIT_INTERRUPTED:
                raise
            tell("interrupted")
            sys.exit(EXIT_INTERRUPTED)
