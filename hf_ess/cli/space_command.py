"""`hf-ess space push`: the page as a Space of the Hub."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hf_ess.cli.adapters_command import Format, FormatOption
from hf_ess.cli.telling import tell

if TYPE_CHECKING:
    from hf_ess.space.push import SpacePush

space = typer.Typer(help="The page as a Space of the Hub.", no_args_is_help=True)


@space.callback()
def _options() -> None:
    """The page as a Space of the Hub."""


@space.command()
def push(
    repo: Annotated[str, typer.Argument(help="The Space, user/name; it is made if missing.")],
    hardware: Annotated[
        str | None, typer.Option(help="Flavor of its machine, such as cpu-upgrade or zero-a10g.")
    ] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Who sees it; a new Space is private."),
    ] = None,
    package: Annotated[
        str | None,
        typer.Option(help='What it installs, "hf-ess==0.1.0"; else the sources go along.'),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    output: FormatOption = Format.table,
) -> None:
    """Create or update a Space that runs the page, by one commit; nothing if nothing changed."""
    from hf_ess.hub.repositories import hub_client
    from hf_ess.space.push import push_space

    pushed = push_space(
        repo,
        hub_client(),
        package=package,
        hardware=hardware,
        private=private,
        dry_run=dry_run,
    )
    if output is Format.json:
        typer.echo(json.dumps({**asdict(pushed), "dry_run": dry_run}, indent=2))
        return
    typer.echo(pushed.url)
    for line in _told(pushed, dry_run):
        tell(line)


def _told(pushed: SpacePush, dry_run: bool) -> list[str]:
    lines = [f"kept {path}: it is the owner's own" for path in pushed.kept]
    if dry_run:
        lines += [f"would write {path}" for path in pushed.written]
        lines += [f"would remove {path}" for path in pushed.removed]
    if pushed.hardware is not None:
        lines.append(f"{'would ask' if dry_run else 'asked'} for {pushed.hardware}")
    if not pushed.written and not pushed.removed:
        return [*lines, "nothing to change"]
    changed = f"{len(pushed.written)} file(s) written, {len(pushed.removed)} removed"
    return [*lines, f"would be: {changed}" if dry_run else f"{changed}: {pushed.commit_url}"]
