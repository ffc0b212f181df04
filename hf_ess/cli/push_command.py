"""`hf-ess push` and `hf-ess card`: a report for the page of its model, published or printed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hf_ess.cli.adapters_command import Format, FormatOption
from hf_ess.cli.telling import tell
from hf_ess.errors import InvalidInputError
from hf_ess.plain_text import safe_to_show

if TYPE_CHECKING:
    from hf_ess.hub import PushResult

ReportArgument = Annotated[
    str, typer.Argument(help="Folder of a report, or a repository of the Hub that holds one.")
]


def push(
    report: ReportArgument,
    repo: Annotated[str, typer.Argument(help="Repository of the model: user/model.")],
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Propose it; an open pull request is updated.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and send nothing.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to push to. [main]")] = None,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Make a repository that is missing.", show_default=False
        ),
    ] = None,
    include_text: Annotated[
        bool, typer.Option("--include-text", help="Publish the text that was measured, too.")
    ] = False,
    card: Annotated[
        bool, typer.Option("--card/--no-card", help="Write the section and metadata of the card.")
    ] = True,
    benchmark_dataset: Annotated[
        str | None, typer.Option(metavar="ID", help="Benchmark dataset, for .eval_results/.")
    ] = None,
    benchmark_task: Annotated[
        str | None, typer.Option(metavar="TASK", help="Task of the benchmark dataset.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="First line of the commit.")] = None,
    output: FormatOption = Format.table,
) -> None:
    """Publish a report on the page of its model: files, plots, a section of the card."""
    from hf_ess.hub import push_report, read_report

    result = push_report(
        read_report(report),
        repo,
        create_pr=create_pr,
        revision=revision,
        private=private,
        include_text=include_text,
        benchmark=_benchmark(benchmark_dataset, benchmark_task),
        dry_run=dry_run,
        message=message,
        card=card,
    )
    for note in result.notes:
        tell(f"note: {note}")
    if output is Format.json:
        typer.echo(json.dumps(asdict(result), indent=2))
    else:
        _show(result, dry_run)


def card(
    report: ReportArgument,
    repo: Annotated[
        str | None, typer.Option(help="Repository of the model, for the command that repeats it.")
    ] = None,
) -> None:
    """Print the section of the card for a report, and touch nothing."""
    from hf_ess.hub import read_report, section_with_marks

    typer.echo(section_with_marks(read_report(report), repo_id=repo), nl=False)


def _benchmark(dataset: str | None, task: str | None) -> tuple[str, str] | None:
    if dataset is None and task is None:
        return None
    if dataset is None or task is None:
        raise InvalidInputError(
            "A benchmark is a dataset and one of its tasks.",
            fix="Give both --benchmark-dataset and --benchmark-task, or neither.",
        )
    return dataset, task


def _show(result: PushResult, dry_run: bool) -> None:
    if not result.changed:
        tell(f"{result.repo_id} holds this report already; nothing was sent")
    elif dry_run:
        tell("would write " + ", ".join(result.paths))
        if result.card_diff:
            typer.echo(safe_to_show(result.card_diff))
        return
    else:
        for path in result.paths:
            tell(f"wrote {path}")
    address = result.pr_url or result.commit_url
    if address is not None:
        typer.echo(address)
