"""Where an experiment trains and measures: its folder, its processes, what is done already."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_ess.analysis.processes import team_of
from hf_ess.errors import ReportError
from hf_ess.lab.paper.experiment import Scale, Trainings
from hf_ess.lab.sweep import SweepResult, sweep
from hf_ess.lab.training_state import replace_file
from hf_ess.lab.workers import places
from hf_ess.launch import launched_processes, without_launcher
from hf_ess.progress import progress_bar
from hf_ess.report.records import plain

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    import pandas as pd

TRAININGS, PIECES = "trainings", "pieces"
ARGUMENTS, RESULT, SECONDS = "arguments", "result", "seconds"
# A piece that returns a mapping with it is made again at the next call.
FAILED = "failed"


@dataclass
class Work:
    """The place and the means of one experiment.

    Attributes:
        folder: of all experiments of a scale; trainings are shared there.
        name: of the experiment.
        scale: of the experiment.
        models: language models, by name or folder, for experiments on those.
        processes: of this process's own at a time; None for one for each GPU, or core.
        progress: bars on stderr.
        seconds: of trainings and pieces that this experiment needed, whenever they were made.
    """

    folder: Path
    name: str
    scale: Scale
    models: tuple[str, ...] = ()
    processes: int | None = None
    progress: bool = True
    seconds: float = field(default=0.0, init=False)

    def trained(self, trainings: Trainings) -> SweepResult:
        """The runs of a sweep, all of them finished.

        Raises:
            ReportError: a run failed; says which and why.
            HfEssError: as `hf_ess.lab.sweep`.
        """
        result = sweep(
            trainings.base,
            trainings.axes,
            self.folder / TRAININGS / trainings.name,
            processes=self.processes,
            progress=self.progress,
        )
        if result.errors:
            name, error = next(iter(result.errors.items()))
            raise ReportError(
                f"{len(result.errors)} of {len(result.points)} runs of {trainings.name!r} failed; "
                f"{name}: {error}",
                fix="Start the same command again: what is finished is kept, the rest is retried.",
            )
        self.seconds += result.seconds()
        return result

    def table(self, *sweeps: Trainings) -> pd.DataFrame:
        """The rows of `SweepResult.table` of some sweeps, one below the other, with their labels.

        Layers that could not be verified are among them, without ESS.

        Raises:
            HfEssError: as `trained`.
        """
        import pandas as pd

        tables = [self.trained(one).table.assign(**one.labels) for one in sweeps]
        return pd.concat(tables, ignore_index=True)

    def pieces(
        self, function: Callable[..., Any], arguments: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """`function(**arguments)` for each name, in several processes, each remembered.

        Args:
            function: of a module; it takes and returns types of JSON. A mapping with `FAILED`, for
                a failure that need not end all, is not remembered.
            arguments: by the names of pieces, which are names of files.

        Raises:
            HfEssError: what the function raises.
        """
        place = self.folder / self.name / PIECES
        with team_of("auto", on_cpu=True) as team:
            own = dict(list(arguments.items())[team.rank :: team.size])
            left = {name: given for name, given in own.items() if not _is_known(place, name, given)}
            shows = self.progress and team.rank == 0
            with progress_bar(len(own), "Measuring", enabled=shows, unit="piece") as bar:
                bar.update(len(own) - len(left))
                for name, piece in _computed(function, left, self.processes):
                    record = {ARGUMENTS: plain(dict(left[name])), **piece}
                    replace_file(place / f"{name}.json", json.dumps(record, indent=1).encode())
                    bar.update(1)
            team.combined(None, lambda _: None)
        records = {name: _read(place, name) for name in arguments}
        self.seconds += sum(record[SECONDS] for record in records.values())
        return {name: record[RESULT] for name, record in records.items()}


def _read(folder: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _is_known(folder: Path, name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a piece was made of the same arguments, and did not fail."""
    try:
        record = _read(folder, name)
        failed = isinstance(record[RESULT], dict) and FAILED in record[RESULT]
        return not failed and bool(record[ARGUMENTS] == plain(dict(arguments)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _computed(
    function: Callable[..., Any],
    arguments: Mapping[str, Mapping[str, Any]],
    processes: int | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and pieces as they get done."""
    if not arguments:
        return
    environments = places("auto", 1, processes)[: len(arguments)]
    if len(environments) == 1 and launched_processes()[1] == 1:
        for name, given in arguments.items():
            yield name, _timed(function, given)
        return
    context = get_context("spawn")  # a fork would share the state of threads and GPUs
    free = context.SimpleQueue()
    for environment in environments:
        free.put(environment)
    with ProcessPoolExecutor(len(environments), context, _settle, (free,)) as pool:
        begun = {pool.submit(_timed, function, given): name for name, given in arguments.items()}
        try:
            for future in as_completed(begun):
                yield begun[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _settle(free: SimpleQueue[dict[str, str]]) -> None:
    """A new process takes one of the places."""
    kept = without_launcher() | free.get()
    os.environ.clear()
    os.environ.update(kept)
    torch.set_num_threads(1)


def _timed(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    result = plain(function(**arguments))
    return {RESULT: result, SECONDS: round(time.perf_counter() - began, 3)}
