"""`hf-ess lab`: trainings of synthetic models, one or many."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ess.cli.adapters_command import PIPED_WIDTH, Format, FormatOption
from hf_ess.cli.telling import tell

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable

    from hf_ess.lab import Reproduction, RunResult, SweepResult

ALL = "all"
GOES_ON = "What is done is kept; the same command goes on from there."
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
        tell(interruption)
        raise
    _print_result(result, output)
    tell(f"wrote {folder}")


@lab.command()
def sweep(
    config: ConfigArgument,
    out: Annotated[Path, typer.Option(help="Folder of the sweep; each run gets one inside.")],
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2",
            help="An axis, learning_rate=1e-3,2e-3, besides those of `sweep:` in the file; "
            "may be repeated.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Runs at a time; by default one for each GPU, or core.")
    ] = None,
    settings: SetOption = None,
    output: FormatOption = Format.table,
) -> None:
    """Train every combination of some values; prints the means over seeds.

    Goes on where a sweep was ended. The folder gets results.csv, a row for each run, tested step
    and layer, and summary.csv. Exits with 1 if a run failed.
    """
    from hf_ess.lab import SweepInterrupted
    from hf_ess.lab import sweep as sweep_models
    from hf_ess.lab.written import axes_from, read_written, split_axes, with_settings

    written, axes = split_axes(with_settings(read_written(config), settings or []))
    try:
        result = sweep_models(written, axes | axes_from(over or []), out, processes=processes)
    except SweepInterrupted as interruption:
        tell(interruption)
        raise
    _print_sweep(result, output)
    tell(f"wrote {out}")
    for name, error in result.errors.items():
        tell(f"error: {name}: {error}")
    if result.errors:
        raise typer.Exit(1)


@lab.command()
def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="correlation, dynamics, collapse, initialization, regularizer, distillation, "
            "hybrids, modulation, or all of them: all."
        ),
    ],
    scale: Annotated[
        str,
        typer.Option(help="minute: shows that it runs; small: an hour on two cores; paper."),
    ] = "small",
    out: Annotated[Path, typer.Option(help="Folder; experiments share trainings there.")] = Path(
        "paper"
    ),
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Language model for modulation; may be repeated."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Runs at a time; by default one for each GPU, or core.")
    ] = None,
    output: FormatOption = Format.table,
) -> None:
    """Reproduce, or contradict, a result of the paper: trainings, rows, a verdict and a figure.

    Goes on where it was ended. Under torchrun the processes share the trainings. Of all, one that
    fails does not end the others, and the status is 1 in the end.
    """
    from hf_ess.lab import EXPERIMENTS
    from hf_ess.lab import reproduce as reproduce_result
    from hf_ess.launch import launched_processes

    def make(one: str) -> Reproduction:
        return reproduce_result(
            one, scale=scale, out=out, models=tuple(models or ()), processes=processes
        )

    rank, launched = launched_processes()
    names = list(EXPERIMENTS) if name == ALL else [name]
    # Processes that share work have to end together.
    goes_on = name == ALL and launched == 1
    found = []
    for one in names:
        made = _reproduced(make, one, goes_on=goes_on)
        if made is not None and rank == 0:
            found.append(made.to_dict())
            _print_reproduction(made, output)
            tell(f"wrote {out / made.scale.value / one}")
    if rank > 0:
        return
    if output is Format.json:
        _print_json(found if name == ALL else found[0])
    if len(found) < len(names):
        raise typer.Exit(1)


def _reproduced(
    make: Callable[[str], Reproduction], name: str, *, goes_on: bool
) -> Reproduction | None:
    """None if it failed with an error that need not be one of the others."""
    from hf_ess.errors import HfEssError, InvalidInputError

    try:
        return make(name)
    except KeyboardInterrupt as interruption:  # of a sweep with words of its own
        tell(str(interruption) or GOES_ON)
        raise
    except HfEssError as error:
        if not goes_on or isinstance(error, InvalidInputError):
            raise
        tell(f"error: {name}: {error}")
        return None


def _print_reproduction(made: Reproduction, output: Format) -> None:
    from hf_ess.lab.tables import reproduction_tables

    if output is Format.table:
        _print_tables(reproduction_tables(made))


def _print_result(result: RunResult, output: Format) -> None:
    if output is Format.json:
        _print_json(result.numbers)
        return
    from hf_ess.lab.tables import result_tables

    _print_tables(result_tables(result))


def _print_sweep(result: SweepResult, output: Format) -> None:
    from hf_ess.lab.tables import rows_of, table_of

    rows = rows_of(result.summary)
    if output is Format.json:
        _print_json({"runs": len(result.points), "errors": result.errors, "summary": rows})
    else:
        _print_tables([table_of(rows)])


def _print_json(document: dict[str, Any] | list[dict[str, Any]]) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def _print_tables(tables: Sequence[ConsoleRenderable]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    for table in tables:
        console.print(table)
