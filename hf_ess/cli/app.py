"""The commands, and how they end: 0 done, 1 a named error, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import sys
from typing import Annotated

import click
import typer

import hf_ess
from hf_ess.cli.adapters_command import adapters
from hf_ess.cli.analyze_command import analyze
from hf_ess.errors import HfEssError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="hf-ess",
    help="Measure how much memory a sequence model really uses (effective state-size).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(analyze)
app.command()(adapters)


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


def main() -> None:
    """Runs the command line and exits with its status."""
    try:
        status = app(standalone_mode=False)
    except HfEssError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) is gone; there is nobody to tell.
        sys.stderr.close()
        sys.exit(EXIT_ERROR)
    sys.exit(status if isinstance(status, int) else 0)
