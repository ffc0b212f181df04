"""Where an experiment trains and measures: its folder, its processes, what is done already."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ess.analysis.processes import team_of
from hf_ess.errors import ReportError
from hf_ess.lab.paper.experiment import Scale, Trainings
from hf_ess.lab.paper.pieces import RESULT, SECONDS, computed
from hf_ess.lab.sweep import SweepResult, sweep
from hf_ess.progress import progress_bar
from hf_ess.report.folders import replace_file, sole_user
from hf_ess.report.records import plain

if TYPE_CHECKING:
    import pandas as pd

TRAININGS, PIECES, ARGUMENTS = "trainings", "pieces", "arguments"
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
        failed: why, for each training that failed; the next call tries it again.
    """

    folder: Path
    name: str
    scale: Scale
    models: tuple[str, ...] = ()
    processes: int | None = None
    progress: bool = True
    seconds: float = field(default=0.0, init=False)
    failed: dict[str, str] = field(default_factory=dict, init=False)

    def trained(self, trainings: Trainings) -> SweepResult:
        """The runs of a sweep; those that failed are named in `failed`.

        A training that diverges does so again, and must not keep the others from being judged.

        Raises:
            ReportError: all failed; says why.
            HfEssError: as `hf_ess.lab.sweep`.
        """
        result = sweep(
            trainings.base,
            trainings.axes,
            self.folder_of(trainings),
            processes=self.processes,
            progress=self.progress,
        )
        if len(result.errors) == len(result.points):
            name, error = next(iter(result.errors.items()))
            raise ReportError(
                f"{len(result.errors)} of {len(result.points)} runs of {trainings.name!r} failed; "
                f"{name}: {error}",
                fix="Start the same command again: what is finished is kept, the rest is retried.",
            )
        self.failed |= {name: error.partition("\n")[0] for name, error in result.errors.items()}
        self.seconds += result.seconds()
        return result

    def folder_of(self, trainings: Trainings) -> Path:
        """Of a sweep."""
        return self.folder / TRAININGS / trainings.name

    def table(self, *sweeps: Trainings) -> pd.DataFrame:
        """The rows of `SweepResult.table` of some sweeps, one below the other, with their labels.

        Layers that could not be verified are among them, without ESS; runs that failed are not.

        Raises:
            HfEssError: as `trained`.
        """
        import pandas as pd

        tables = [self.trained(one).table.assign(**one.labels) for one in sweeps]
        table = pd.concat(tables, ignore_index=True)
        return table[table["error"].isna()].reset_index(drop=True)

    def pieces(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        shared_as: str | None = None,
    ) -> dict[str, Any]:
        """`function(**arguments)` for each name, in several processes, each remembered.

        Args:
            function: of a module; it takes and returns types of JSON. A mapping with `FAILED`, for
                a failure that need not end all, is not remembered.
            arguments: by the names of pieces, which are names of files.
            shared_as: folder of pieces that several experiments need, None for the experiment's.

        Raises:
            InvalidInputError: another process measures in the folder.
            ProcessFailedError: a process ended without a word.
            HfEssError: what the function raises.
        """
        place = self.folder / (shared_as or self.name) / PIECES
        with team_of("auto", on_cpu=True) as team:
            team.agree(" ".join(arguments))
            first = team.rank == 0
            with sole_user(place, "measuring") if first else nullcontext():
                own = dict(list(arguments.items())[team.rank :: team.size])
                self._make(function, own, place, progress=self.progress and first)
                team.combined(None, lambda _: None)
        records = {name: _read(place, name) for name in arguments}
        self.seconds += sum(record[SECONDS] for record in records.values())
        return {name: record[RESULT] for name, record in records.items()}

    def _make(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Mapping[str, Any]],
        place: Path,
        *,
        progress: bool,
    ) -> None:
        """Writes the pieces that are not there."""
        written = {name: self._written(given) for name, given in arguments.items()}
        left = {
            name: given
            for name, given in arguments.items()
            if self._written(_made_of(place, name)) != written[name]
        }
        with progress_bar(len(arguments), "Measuring", enabled=progress, unit="piece") as bar:
            bar.update(len(arguments) - len(left))
            for name, piece in computed(function, left, self.processes):
                record = {ARGUMENTS: written[name], **piece}
                replace_file(place / f"{name}.json", json.dumps(record, indent=1).encode())
                bar.update(1)

    def _written(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments as they are remembered: a folder that was moved holds the same trainings."""
        inside = f"{self.folder}{os.sep}"
        return {
            name: value.removeprefix(inside) if isinstance(value, str) else plain(value)
            for name, value in arguments.items()
        }


def _read(folder: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _made_of(folder: Path, name: str) -> dict[str, Any]:
    """The arguments of a piece; none if there is no piece, or it failed."""
    try:
        record = _read(folder, name)
        failed = isinstance(record[RESULT], dict) and FAILED in record[RESULT]
        return {} if failed else dict(record[ARGUMENTS])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
