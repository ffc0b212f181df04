"""`hf_ess.lab.sweep`: many trainings in parallel, one tidy table."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hf_ess.analysis.processes import Distributed, team_of
from hf_ess.arguments import check_whole
from hf_ess.errors import HfEssError, ReportError
from hf_ess.lab.folders import claim
from hf_ess.lab.interrupts import ending_between_steps
from hf_ess.lab.results import RunResult
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.run_log import Record, StepsOfRuns, read_records
from hf_ess.lab.sweep_points import Axes, Point, points_of
from hf_ess.lab.sweep_table import sweep_summary, sweep_table
from hf_ess.lab.values import check_names
from hf_ess.lab.worker import ERROR, INTERRUPTED
from hf_ess.lab.workers import all_trained, places
from hf_ess.lab.written import SWEEP
from hf_ess.progress import progress_bar
from hf_ess.report.folders import replace_file, sole_user
from hf_ess.report.records import plain
from hf_ess.report.text import counted
from hf_ess.shipped import RESULTS

if TYPE_CHECKING:
    import pandas as pd

RUNS = "runs"
TABLE, SUMMARY, AXES, MESSAGES = "results.csv", "summary.csv", "sweep.yaml", "messages.txt"


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a sweep; runs that were on their way have a checkpoint.

    The same call of `hf_ess.lab.sweep` goes on.

    Attributes:
        folder: of the sweep.
        finished: runs that are done.
        runs: of the whole sweep.
    """

    def __init__(self, folder: Path, finished: int, runs: int) -> None:
        super().__init__(
            f"The sweep was interrupted with {finished} of {runs} runs finished; "
            f"sweeping into {str(folder)!r} again goes on from there."
        )
        self.folder, self.finished, self.runs = folder, finished, runs


@dataclass(frozen=True)
class SweepResult:
    """What came of the runs of a sweep.

    `hf_ess.lab.sweep` gives it back.

    Attributes:
        folder: where they are; each run has its own folder in `runs`.
        points: the runs.
        errors: of the runs that failed, by name.
        table: a row for each run, tested step and layer (`results.csv`): run, a column for each
            axis, those of `RunResult.log`, step_learning_rate (the schedule's), and error.
        summary: mean and standard error over seeds after the last step (`summary.csv`).
    """

    folder: Path
    points: list[Point]
    errors: dict[str, str]
    table: pd.DataFrame
    summary: pd.DataFrame

    def run(self, name: str) -> RunResult:
        """A finished run, by its name.

        Raises:
            InvalidInputError: there is none of that name.
            ReportError: it is not finished, or damaged.
        """
        by_name = {point.name: point for point in self.points}
        check_names("run", [name], by_name)
        return RunResult.load(folder_of(self.folder, by_name[name]))

    def seconds(self) -> float:
        """That all finished runs took, each on its own."""
        finished = (point.name for point in self.points if point.name not in self.errors)
        return sum(self.run(name).seconds for name in finished)


def sweep(
    base: RunConfig | Mapping[str, Any],
    axes: Axes,
    folder: str | os.PathLike[str],
    *,
    processes: int | None = None,
    distributed: Distributed = "auto",
    progress: bool = True,
) -> SweepResult:
    """Trains every combination of the values of some axes, several at a time.

    Each process has as many threads as the configuration says, or a GPU of its own. A run that
    fails costs the others nothing. Sweeping into the same folder again keeps what is finished,
    goes on with what was ended, tries again what failed, and takes other axes too. Under torchrun
    the processes share the runs; the folder must be on a disk that all of them see.

    Args:
        base: the configuration; as a mapping it may lack what the axes set.
        axes: lists of values by fields, with dots: `{"model.mixers": [["GLA"], ["SA"]],
            "learning_rate": [1e-3, 2e-3], "seed": [0, 1, 2]}`.
        folder: of this sweep only; it is made if missing.
        processes: how many at a time; None for one for each GPU, or as many as the cores hold.
        distributed: whether the processes that a launcher started share the runs, as for
            `hf_ess.analyze`.
        progress: show a bar on stderr.

    Raises:
        InvalidInputError, InvalidTypeError: axes or a combination that `RunConfig` refuses;
            nothing was trained. Or another process is sweeping into the folder.
        OutputPathError: the folder cannot be written.
        ProcessFailedError: another of the processes that share the runs failed.
        SweepInterrupted: Ctrl-C, or SIGTERM.

    Example:
        `sweep(RunConfig.read("run.yaml"), {"seed": [0, 1, 2]}, "seeds").summary`
    """
    if processes is not None:
        check_whole("processes", processes, 1)
    written = base.to_dict() if isinstance(base, RunConfig) else dict(base)
    points = points_of(written, axes)
    place = Path(folder)
    with team_of(distributed, on_cpu=True) as team:
        team.agree(",".join(point.digest for point in points))
        first = team.rank == 0
        with sole_user(place) if first else nullcontext():
            if first:
                plan = yaml.safe_dump(plain({**written, SWEEP: dict(axes)}), sort_keys=False)
                replace_file(place / AXES, plan.encode())
            own = points[team.rank :: team.size]
            messages = place / (MESSAGES if first else f"{team.rank}-{MESSAGES}")
            errors = _trained(place, own, messages, processes, progress=progress and first)
            result = team.combined(
                errors, lambda found: _written(place, points, dict(ChainMap(*found)))
            )
    return result


def folder_of(folder: Path, point: Point) -> Path:
    """Where a run of a sweep is, under another name too: axes that were added change names."""
    existing = sorted((folder / RUNS).glob(f"*{point.digest}"))
    return existing[0] if existing else folder / RUNS / point.name


def _trained(
    folder: Path, points: list[Point], messages: Path, processes: int | None, *, progress: bool
) -> dict[str, str]:
    """Trains what is not finished, with a file for what the processes say; errors by run."""
    errors: dict[str, str] = {}
    if not points:  # more processes than runs
        return errors
    runs = {folder_of(folder, point): point for point in points}
    left = _left(runs, errors)
    finished = len(points) - len(left) - len(errors)
    first = points[0].config
    environments = places(first.device, max(p.config.threads for p in points), processes)
    steps = StepsOfRuns({run: point.config.steps for run, point in runs.items()}, left)
    with (
        ending_between_steps() as wish,
        progress_bar(steps.total, "Sweeping", enabled=progress, unit="step") as bar,
    ):

        def show() -> None:
            bar.set_postfix_str(f"{finished} of {counted(len(runs), 'run')}", refresh=False)
            bar.update(steps.done() - bar.n)

        for run, answer in all_trained(left, environments, messages, wish, show):
            if ERROR in answer:
                errors[runs[run].name] = answer[ERROR]
            finished += not answer
            wish.to_end = wish.to_end or INTERRUPTED in answer
            steps.end(run)
            show()
    if messages.exists() and not messages.stat().st_size:
        messages.unlink()
    if wish.to_end:
        raise SweepInterrupted(folder, finished, len(points))
    return errors


def _left(runs: dict[Path, Point], errors: dict[str, str]) -> list[Path]:
    """The folders of runs that are not finished, each with its configuration."""
    left = []
    for run, point in runs.items():
        try:
            claim(run, point.config)
        except HfEssError as error:
            errors[point.name] = str(error)
            continue
        if not (run / RESULTS).exists():
            left.append(run)
    return left


def _records(folder: Path, point: Point, errors: dict[str, str]) -> list[Record]:
    """The log of a run; a damaged one is none, and an error."""
    try:
        return read_records(folder_of(folder, point))
    except ReportError as error:
        errors[point.name] = str(error)
        return []


def _written(folder: Path, points: list[Point], errors: dict[str, str]) -> SweepResult:
    records = {point.name: _records(folder, point, errors) for point in points}
    table = sweep_table(points, records, errors)
    summary = sweep_summary(points, table)
    for name, frame in {TABLE: table, SUMMARY: summary}.items():
        replace_file(folder / name, frame.to_csv(index=False).encode())
    return SweepResult(folder, points, errors, table, summary)
