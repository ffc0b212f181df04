"""What came of an experiment: rows, verdict and figure, in a folder and read from one."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ess.errors import ReportError
from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Verdict
from hf_ess.lab.paper.registry import experiment_named
from hf_ess.report.drawing import drawn
from hf_ess.report.files import replace_together

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FAILED_RUNS = "failed_runs"
ROWS, RECORD, FIGURE = "results.csv", "finding.json", "figure.png"
# So many digits of a number are kept: tables are committed, and the rest is noise of machines.
DIGITS = "%.6g"


@dataclass(frozen=True, eq=False)
class Reproduction:
    """One experiment of the paper, as it came out.

    `hf_ess.lab.reproduce` gives it back.

    Attributes:
        experiment: which.
        scale: how large.
        rows: tidy measurements (`results.csv`).
        finding: the verdict on them.
        provenance: command, versions, machine, seconds.
    """

    experiment: Experiment
    scale: Scale
    rows: pd.DataFrame
    finding: Finding
    provenance: Mapping[str, Any]

    @classmethod
    def of(
        cls, experiment: Experiment, scale: Scale, rows: pd.DataFrame, provenance: Mapping[str, Any]
    ) -> Reproduction:
        """Judged by rows as they are in a file, so that what is read says the same.

        Args:
            experiment: which.
            scale: how large.
            rows: tidy measurements.
            provenance: command, versions, machine, seconds.
        """
        import pandas as pd

        kept = pd.read_csv(io.StringIO(_written(rows)))
        return cls(
            experiment, scale, kept, _judged(experiment, scale, kept, provenance), provenance
        )

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Reproduction:
        """What a folder holds; the verdict is found anew from the rows.

        Raises:
            ReportError: there is none, or it is damaged.
        """
        import pandas as pd

        path = Path(folder)
        try:
            record = json.loads((path / RECORD).read_text(encoding="utf-8"))
            rows = pd.read_csv(path / ROWS)
            name, scale = record["name"], Scale(record["scale"])
            provenance = record["provenance"]
        except FileNotFoundError as error:
            raise ReportError(
                f"{str(path)!r} holds no experiment.",
                fix="Make it: hf-ess lab reproduce NAME --out FOLDER.",
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(
                f"The experiment in {str(path)!r} cannot be read: {error}."
            ) from error
        experiment = experiment_named(name)
        finding = _judged(experiment, scale, rows, provenance)
        return cls(experiment, scale, rows, finding, provenance)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes rows, verdict and figure.

        Raises:
            OutputPathError: the folder cannot be written.
        """
        self.save_rows_and_record(folder)
        self.plot(Path(folder) / FIGURE)

    def save_rows_and_record(self, folder: str | os.PathLike[str]) -> None:
        """Writes rows and verdict, without the figure.

        Raises:
            OutputPathError: the folder cannot be written.
        """
        record = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        files = {ROWS: _written(self.rows).encode(), RECORD: record.encode()}
        replace_together(Path(folder), files)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The figure in the paper's form; written to the path if there is one.

        Raises:
            InvalidInputError: the ending of the path is unknown.
            OutputPathError: the path cannot be written.
        """
        return drawn(lambda: self.experiment.draw(self.rows), path)

    def to_dict(self) -> dict[str, Any]:
        """All but rows and tables, in the types of JSON."""
        return {
            "name": self.experiment.name,
            "title": self.experiment.title,
            "source": self.experiment.source,
            "claim": self.experiment.claim,
            "scale": self.scale.value,
            "verdict": self.finding.verdict.value,
            "words": self.finding.words,
            "provenance": dict(self.provenance),
        }


def _judged(
    experiment: Experiment, scale: Scale, rows: pd.DataFrame, provenance: Mapping[str, Any]
) -> Finding:
    """The finding, which names trainings that failed.

    Runs of a few steps decide nothing, whatever their figures say.
    """
    finding = experiment.judge(rows)
    if failed := provenance.get(FAILED_RUNS):
        named = "; ".join(f"{run}: {error}" for run, error in failed.items())
        words = f"{finding.words} Left out, since the training failed: {named}"
        finding = replace(finding, words=words)
    return replace(finding, verdict=Verdict.undecidable) if scale is Scale.minute else finding


def _written(rows: pd.DataFrame) -> str:
    text: str = rows.to_csv(index=False, float_format=DIGITS, lineterminator="\n")
    return text
