"""`hf-ess lab`: trainings of synthetic models, one or many."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_ess.cli.adapters_command import PIPED_WIDTH, Format, FormatOption

if TYPE_CHECKING:
    from hf_ess.lab import RunResult

lab = typer.Typer(
    help="Train small models on tasks that ask for memory, and measure their ESS on the way.",
    no_args_is_help=True,
)
ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG.yaml", help="What to train: a file of YAML or JSON.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Another value, model.hidden_size=32; may be repeated."
    ),
]


@lab.callback()
def _options() -> None:
    """Train small models on tasks that ask for memory, and measure their ESS on the way."""


@lab.command()
def train(
    config: ConfigArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; named as the file by default.")
    ] = None,
    settings: SetOption = None,
    output: FormatOption = Format.table,
) -> None:
    """Train one model; a run that was ended goes on, a finished one is only shown."""
    from hf_ess.errors import InvalidInputError
    from hf_ess.lab import RunConfig, TrainingInterrupted
    from hf_ess.lab import train as train_model
    from hf_ess.lab.written import SWEEP, read_written, with_settings

    written = read_written(config)
    if SWEEP in written:
        raise InvalidInputError(
            f"{config} describes many runs.", fix="Use hf-ess lab sweep, or remove `sweep:`."
        )
    folder = Path(config.stem) if out is None else out
    run = RunConfig.from_dict(with_settings(written, settings or []))
    try:
        result = train_model(run, folder)
    except TrainingInterrupted as interruption:
        print(interruption, file=sys.stderr)
        raise
    _print_result(result, output)
    print(f"wrote {folder}", file=sys.stderr)


def _print_result(result: RunResult, output: Format) -> None:
    if output is Format.json:
        typer.echo(json.dumps(result.numbers, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from hf_ess.lab.tables import result_tables

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    for table in result_tables(result):
        console.print(table)
