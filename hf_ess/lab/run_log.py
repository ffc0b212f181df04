"""The records of a run: a line of JSON for each step at which it was tested or measured."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ess.errors import ReportError
from hf_ess.report.files import translated_errors
from hf_ess.report.folders import replace_file
from hf_ess.report.text import shortened
from hf_ess.shipped import LOG

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]
# Seconds between two looks at a log.
EVERY = 1.0
# Lists of a record; the other entries are single values.
LAYERS, REMARKS = "layers", "remarks"
# Letters of a damaged line in a message.
SHOWN = 40


def append_record(folder: Path, record: Record) -> None:
    """Adds a line, and waits until it has reached the disk.

    Raises:
        OutputPathError: the folder cannot be written, or its disk is full.
    """
    with translated_errors(folder), open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_records(folder: Path) -> list[Record]:
    """All complete lines; a last one that was cut off by a sudden end is left out.

    Raises:
        ReportError: another line is no record.
    """
    path = folder / LOG
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [_record(line) for line in lines[:-1]]
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{str(path)!r} is damaged: {error}.", fix="Remove the folder."
        ) from error


def _record(line: str) -> Record:
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError(f"{shortened(line, SHOWN)!r} is no record of a step")
    return record


def keep_records(folder: Path, last_step: int) -> None:
    """Removes the lines of later steps, which a training that goes on from there writes anew.

    Raises:
        ReportError: the file is damaged.
        OutputPathError: the folder cannot be written.
    """
    kept = [record for record in read_records(folder) if record["step"] <= last_step]
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in kept)
    replace_file(folder / LOG, text.encode())


def log_rows(records: list[Record]) -> list[Record]:
    """A row for each record and layer; one for the record where no ESS was measured."""
    rows = []
    for record in records:
        shared = {key: record[key] for key in record if key not in (LAYERS, REMARKS)}
        layers = record.get(LAYERS) or [{}]
        rows += [shared | layer for layer in layers]
    return rows


def log_frame(records: list[Record]) -> pd.DataFrame:
    """The rows of `log_rows` as a data frame, NaN where nothing was measured."""
    import pandas as pd

    return pd.DataFrame(log_rows(records))


class StepsOfRuns:
    """How far several runs are, by their logs, which are read at most once a second.

    Args:
        steps: of each run in its folder.
        left: the folders of runs that are not at their end.
    """

    def __init__(self, steps: Mapping[Path, int], left: Iterable[Path]) -> None:
        self.steps = dict(steps)
        self.left = dict.fromkeys(left, 0)
        self.read_at = -math.inf

    @property
    def total(self) -> int:
        """Steps of all runs."""
        return sum(self.steps.values())

    def end(self, run: Path) -> None:
        """Counts a run as done, whether it failed or not."""
        self.left.pop(run, None)

    def done(self) -> int:
        """Steps that are done, as far as the logs say."""
        if time.monotonic() - self.read_at >= EVERY:
            self.read_at = time.monotonic()
            for run in self.left:
                # A damaged log is an error of its run, which says so itself.
                with suppress(ReportError):
                    records = read_records(run)
                    self.left[run] = records[-1]["step"] if records else 0
        ended = sum(self.steps[run] for run in self.steps if run not in self.left)
        return ended + sum(self.left.values())
