"""`hf-ess analyze --job`: the same command on a machine of the Hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ess.cli.adapters_command import Format
from hf_ess.cli.telling import tell
from hf_ess.errors import InvalidInputError
from hf_ess.plain_text import safe_to_show

if TYPE_CHECKING:
    from huggingface_hub import JobInfo

JobOption = Annotated[
    str | None,
    typer.Option(
        "--job",
        metavar="FLAVOR",
        help="Run on a machine of Hugging Face Jobs, such as cpu-upgrade or a10g-small.",
    ),
]
JobWaitOption = Annotated[
    bool, typer.Option("--job-wait", help="Show the log of the job until it ends.")
]
JobOutputOption = Annotated[
    str | None,
    typer.Option(help="Dataset repository for the report: user/name or user/name/folder."),
]
JobTimeoutOption = Annotated[
    str | None, typer.Option(help="Longest run of the job: seconds, or 90m, 2h.")
]
JobNamespaceOption = Annotated[
    str | None, typer.Option(help="User or organisation who pays for the job.")
]
JobPackageOption = Annotated[
    str | None, typer.Option(help="What the job installs, such as hf-ess @ git+https://...")
]

# These do not go to the job as they are.
_NOT_FORWARDED = {"model", "text", "file", "out"}


@dataclass(frozen=True)
class JobOptions:
    """The options that begin with --job, as the user gave them."""

    flavor: str | None
    wait: bool
    output: str | None
    timeout: str | None
    namespace: str | None
    package: str | None

    def check(self) -> None:
        """Refuses options of a job without a job.

        Raises:
            InvalidInputError: one was given, and --job was not.
        """
        if self.flavor is None and self != JobOptions(None, False, None, None, None, None):
            raise InvalidInputError(
                "An option of a job was given without --job.",
                fix="Add --job FLAVOR, for example --job cpu-upgrade.",
            )


def run_as_job(ctx: typer.Context, options: JobOptions, model: str, texts: list[str]) -> None:
    """Submits the command that was given, and follows it if asked to.

    Raises:
        InvalidInputError: something lies on this machine that the job cannot see.
        JobError: the job was not started, or failed.
    """
    from huggingface_hub import HfApi

    import hf_ess
    from hf_ess.hub import JobRequest, follow_job, submit_job

    _check_reachable(model, ctx.params["out"], ctx.params["ids"], ctx.params["dataset"])
    given = forwarded_options(ctx)
    request = JobRequest(
        flavor=str(options.flavor),
        arguments=[model, *given, *(f"--text={text}" for text in texts)],
        package=options.package or f"hf-ess=={hf_ess.__version__}",
        output=options.output,
        timeout=options.timeout,
        namespace=options.namespace,
    )
    api = HfApi(library_name="hf_ess", library_version=hf_ess.__version__)
    chosen = any(option.startswith("--device=") for option in given)
    job = submit_job(request, api, device_chosen=chosen)
    if not options.wait:
        _announce(job, request, Format(ctx.params["output"]))
        return
    tell(f"job {job.id}: {job.url}")
    try:
        follow_job(job, api, lambda line: print(safe_to_show(line), flush=True))
    except KeyboardInterrupt:
        tell(f"the job goes on; `hf jobs cancel {job.id}` ends it")
        raise


def forwarded_options(ctx: typer.Context) -> list[str]:
    """The options that were given on the command line, as words, without those of the job."""
    words: list[str] = []
    for parameter in ctx.command.params:
        name = str(parameter.name)
        source = ctx.get_parameter_source(name)
        if name in _NOT_FORWARDED or name.startswith("job"):
            continue
        if source is not None and source.name == "COMMANDLINE":
            words += _words(parameter, ctx.params[name])
    return words


def _words(parameter: Any, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [parameter.opts[0] if value else parameter.secondary_opts[0]]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [f"{parameter.opts[0]}={getattr(one, 'value', one)}" for one in values]


def _check_reachable(
    model: str, out: Path | None, ids: Path | None, dataset: list[Path] | None
) -> None:
    if Path(model).expanduser().exists() or model.endswith(".gguf"):
        raise InvalidInputError(
            f"{model} lies on this machine, where the job cannot see it.",
            fix="Upload it (hf upload user/name FOLDER) and give its id on the Hub.",
        )
    if ids is not None or dataset:
        raise InvalidInputError(
            f"{'--dataset' if dataset else '--ids'} names a file on this machine, where the job "
            "cannot read it.",
            fix="Give texts, with --text or --file.",
        )
    if out is not None:
        raise InvalidInputError(
            "--out names a folder on this machine, where the job cannot write.",
            fix="Give --job-output user/name, a dataset repository for the report.",
        )


def _announce(job: JobInfo, request: Any, output: Format) -> None:
    if output is Format.json:
        typer.echo(json.dumps({"id": job.id, "url": job.url, "flavor": request.flavor}, indent=2))
    else:
        typer.echo(f"job {job.id}: {job.url}")
    if request.output is None:
        tell("the numbers will be in its log; --job-output also keeps the report")
