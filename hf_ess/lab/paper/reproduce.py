"""`hf_ess.lab.reproduce`: an experiment of the paper by its name."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_ess.analysis.provenance import library_versions
from hf_ess.arguments import check_whole
from hf_ess.lab.paper.experiment import Scale
from hf_ess.lab.paper.registry import experiment_named
from hf_ess.lab.paper.reproduction import FAILED_RUNS, Reproduction
from hf_ess.lab.paper.work import Work
from hf_ess.lab.values import check_names
from hf_ess.launch import launched_processes
from hf_ess.machine import machine_name
from hf_ess.report.local_paths import without_local_paths


def reproduce(
    name: str,
    *,
    scale: Scale | str = Scale.small,
    out: str | os.PathLike[str] = "paper",
    models: Sequence[str] = (),
    processes: int | None = None,
    progress: bool = True,
) -> Reproduction:
    """Trains, measures and judges one result of the paper.

    Whatever is done already in the folder is kept: the same call goes on where another was ended,
    and experiments of one scale share their trainings. Under torchrun the processes share the
    runs; the folder must be on a disk that all of them see.

    Args:
        name: of `hf_ess.lab.EXPERIMENTS`.
        scale: "minute" (shows that all runs; its figures mean nothing), "small" (about an hour on
            two cores at most), or "paper" (the paper's own sizes, for GPUs).
        out: folder; the experiment's own is `out/scale/name`, with `results.csv`, `finding.json`
            and `figure.png`.
        models: language models for the experiments on those (the others take none), Hub ids or
            folders; by default those of the scale.
        processes: how many at a time; None for one for each GPU, or core.
        progress: show bars on stderr.

    Raises:
        InvalidInputError: no such experiment or scale, or another process works in the folder.
        ReportError: a training failed, no model could be measured, or the folder is damaged.
        ProcessFailedError: a process that measured ended without a word, or another of the
            processes that share the runs failed.
        OutputPathError: the folder cannot be written.
        SweepInterrupted: Ctrl-C, or SIGTERM, during trainings.

    Source: Parnichkun et al., ICML 2025, sections 4 and 5, appendices A, D and E.

    Example:
        `hf_ess.lab.reproduce("collapse", scale="minute").finding.words`
    """
    experiment = experiment_named(name)
    check_names("scale", [getattr(scale, "value", scale)], [one.value for one in Scale])
    if processes is not None:
        check_whole("processes", processes, 1)
    size = Scale(scale)
    folder = Path(out) / size.value
    taken = tuple(models) if experiment.on_models else ()
    work = Work(folder, name, size, taken, processes, progress)
    rows = experiment.measure(work)
    provenance = _provenance(name, size, work)
    made = Reproduction.of(experiment, size, rows, provenance)
    if launched_processes()[0] == 0:
        made.save(folder / name)
    return made


def _provenance(name: str, scale: Scale, work: Work) -> dict[str, Any]:
    models = [without_local_paths(model) for model in work.models]
    options = [f"--model {shlex.quote(model)}" for model in models]
    if work.processes is not None:
        options.append(f"--processes {work.processes}")
    return {
        "command": " ".join([f"hf-ess lab reproduce {name} --scale {scale.value}", *options]),
        "models": models,
        "machine": machine_name(),
        "seconds": round(work.seconds),
        FAILED_RUNS: {run: without_local_paths(error) for run, error in work.failed.items()},
        "versions": library_versions(),
    }
