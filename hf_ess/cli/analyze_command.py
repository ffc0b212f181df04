"""`hf-ess analyze`: a model and a text in, a table and a report folder out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ess.cli.adapters_command import PIPED_WIDTH, Format, FormatOption
from hf_ess.cli.analysed_inputs import AnalysedInputs, DatasetOptions, TextOptions, analysed_inputs
from hf_ess.cli.job_options import (
    JobNamespaceOption,
    JobOption,
    JobOptions,
    JobOutputOption,
    JobPackageOption,
    JobTimeoutOption,
    JobWaitOption,
    run_as_job,
)
from hf_ess.cli.model_options import (
    ColumnOption,
    DatasetOption,
    DeviceOption,
    DtypeOption,
    FileOption,
    FreshOption,
    IdsOption,
    LayersOption,
    LeaveOutOption,
    MaxLengthOption,
    RevisionOption,
    ShuffleOption,
    ToleranceOption,
    TrustRemoteCodeOption,
    WindowOption,
)
from hf_ess.cli.telling import tell
from hf_ess.errors import HfEssError, InvalidInputError
from hf_ess.launch import launched_processes
from hf_ess.written import listed, parsed_positions, whole_numbers

if TYPE_CHECKING:
    from hf_ess.report import ESSReport

# A report of a large model with every position stays below this; plots included.
REPORT_BYTES = 50 * 2**20
# Folder of finished batches of a dataset, within that of the report.
CHECKPOINT = "checkpoint"


def analyze(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="Hub id (org/name), local folder, path of a .gguf file, or a shipped checkpoint "
            "(mqar-gla, ...)."
        ),
    ],
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Text to analyse; may be repeated.")
    ] = None,
    file: FileOption = None,
    ids: IdsOption = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Texts of --dataset [all], or of its own task, for a trained synthetic model [8]."
        ),
    ] = None,
    dataset: DatasetOption = None,
    column: ColumnOption = None,
    shuffle: ShuffleOption = None,
    max_length: MaxLengthOption = None,
    leave_out_failing: LeaveOutOption = False,
    fresh: FreshOption = False,
    positions: Annotated[
        str,
        typer.Option(
            help='"auto" (all where that is cheap), "all", a stride, or a list such as 8,16,24.'
        ),
    ] = "auto",
    tolerance: ToleranceOption = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Tolerances are fractions of the largest value.")
    ] = False,
    window: WindowOption = None,
    layers: LayersOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    device_map: Annotated[
        str | None,
        typer.Option(help="auto: over GPUs, memory and disk; or disk: everything. Not --device."),
    ] = None,
    offload_folder: Annotated[
        Path | None, typer.Option(help="For weights on disk that have to be written anew.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts of one length that run together.")] = 1,
    method: Annotated[
        str,
        typer.Option(
            help="auto, divide-and-conquer, gram, svd, or jacobian: derivatives, not operators."
        ),
    ] = "auto",
    accuracy: Annotated[
        str,
        typer.Option(help="certified: entropy-ESS within 1 % where that is cheaper; or exact."),
    ] = "certified",
    scope: Annotated[
        str, typer.Option(help="core, or mixer: with the convolution and gates around it.")
    ] = "core",
    out: Annotated[Path | None, typer.Option(help="Folder for the report and its plots.")] = None,
    plots: Annotated[bool, typer.Option(help="Write PNG plots into --out.")] = True,
    output: FormatOption = Format.table,
    revision: RevisionOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
    job: JobOption = None,
    job_wait: JobWaitOption = False,
    job_output: JobOutputOption = None,
    job_timeout: JobTimeoutOption = None,
    job_namespace: JobNamespaceOption = None,
    job_package: JobPackageOption = None,
) -> None:
    """Measure the effective state-size of every layer of a model on a text."""
    rank, processes = launched_processes()
    given = TextOptions(text, file, ids, samples, DatasetOptions(dataset, column, shuffle))
    measured_on = analysed_inputs(model, given, stdin_allowed=processes == 1)
    arguments: dict[str, Any] = {
        "positions": parsed_positions(positions, "--positions"),
        "tolerances": tuple(tolerance) if tolerance else (1e-1, 1e-3, 1e-5),
        "relative": relative,
        "window": parsed_window(window),
        "layers": parsed_layers(layers),
        "batch_size": batch_size,
        "method": method,
        "accuracy": accuracy,
        "scope": scope,
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "offload_folder": offload_folder,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "max_length": max_length,
        "leave_out_failing": leave_out_failing,
        "checkpoint": out / CHECKPOINT if dataset and out else None,
    }
    on_the_hub = JobOptions(job, job_wait, job_output, job_timeout, job_namespace, job_package)
    on_the_hub.check()
    if job is not None:
        if rank == 0:
            run_as_job(ctx, on_the_hub, model, measured_on.texts)
        return
    if out is not None and rank == 0:
        from hf_ess.report import check_writable

        check_writable(out, REPORT_BYTES, remove_created=True)
    _look_at_checkpoint(arguments["checkpoint"], fresh, rank, processes)
    report = _analysed(model, measured_on, arguments, out)
    if rank > 0:
        return
    # Saved first: whoever reads our output may close it early.
    written = [] if out is None else _save(report, out, plots)
    if arguments["checkpoint"] is not None:
        from hf_ess.analysis.checkpoint import discard_checkpoint

        discard_checkpoint(arguments["checkpoint"])
    _print(report, output)
    for remark in [*filter(None, [measured_on.note]), *(f"wrote {path}" for path in written)]:
        tell(remark)


def parsed_layers(words: str | None) -> list[int | str] | None:
    """Indices, ranges of indices and names from a comma-separated list.

    Raises:
        InvalidInputError: nothing is listed, or a range ends before it begins.

    Example:
        >>> parsed_layers("0, 4-6, model.layers.9")
        [0, 4, 5, 6, 'model.layers.9']
    """
    if words is None:
        return None
    layers: list[int | str] = []
    for word in listed(words, "--layers"):
        first, dash, last = word.partition("-")
        if first.isdecimal() and not dash:
            layers.append(int(first))
        elif first.isdecimal() and last.isdecimal():
            if int(last) < int(first):
                raise InvalidInputError(f"--layers {word!r} ends before it begins.")
            layers.extend(range(int(first), int(last) + 1))
        else:
            layers.append(word)
    return layers


def parsed_window(words: str | None) -> Any:
    """`w`, or `(f, p)` from `f,p`; None for no window.

    Raises:
        InvalidInputError: these are no whole numbers.

    Example:
        >>> parsed_window("32"), parsed_window("16,8")
        (32, (16, 8))
    """
    if words is None:
        return None
    numbers = whole_numbers(words, "--window")
    return tuple(numbers) if "," in words else numbers[0]


def _look_at_checkpoint(folder: Path | None, fresh: bool, rank: int, processes: int) -> None:
    """Discards it if it is asked for, or says that the analysis goes on from it."""
    if fresh and (folder is None or processes > 1):
        raise InvalidInputError(
            "--fresh discards the checkpoint of --dataset in the folder of --out, and is for one "
            "process.",
            fix="Give both, or leave --fresh out; several processes find nothing in a new folder.",
        )
    if folder is None or not folder.exists():
        return
    from hf_ess.analysis.checkpoint import discard_checkpoint, kept_batches

    if fresh:
        discard_checkpoint(folder)
    elif rank == 0 and (kept := kept_batches(folder)):
        tell(f"going on after {kept} finished batch(es) in {folder}")


def _analysed(
    model: str, measured_on: AnalysedInputs, arguments: dict[str, Any], out: Path | None
) -> ESSReport:
    import hf_ess

    try:
        report = hf_ess.analyze(model, measured_on.inputs, **arguments)
    except hf_ess.AnalysisInterrupted as interruption:
        _keep_incomplete(interruption.report, out)
        _say_what_is_kept(arguments["checkpoint"])
        raise
    report.provenance |= measured_on.facts
    return report


def _say_what_is_kept(folder: Path | None) -> None:
    if folder is None or not folder.exists():
        return
    from hf_ess.analysis.checkpoint import kept_batches

    kept = kept_batches(folder)
    tell(f"kept {kept} finished batch(es) in {folder}: the same command goes on from there")


def _print(report: ESSReport, output: Format) -> None:
    if output is Format.json:
        typer.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
        return
    from rich.console import Console

    from hf_ess.report.tables import summary_tables

    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(summary_tables(report))


def _save(report: ESSReport, out: Path, plots: bool) -> list[Path]:
    report.save(out)
    drawn = report.plot_all(out) if plots else []
    return [out / "report.json", out / "arrays.safetensors", *drawn]


def _keep_incomplete(report: ESSReport | None, out: Path | None) -> None:
    if report is None or out is None:
        return
    try:
        report.save(out)
    except HfEssError as error:
        tell(f"error: {error}")
        return
    tell(f"kept {len(report.layers)} complete layer(s) in {out}, marked incomplete")
