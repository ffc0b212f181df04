"""A finished run as one flat folder, from which it can be loaded, measured and trained again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hf_ess.errors import InvalidInputError
from hf_ess.lab.results import RunResult
from hf_ess.report.files import temporary_name, translated_errors
from hf_ess.shipped import MODEL, RESULTS, RUN
from hf_ess.synthetics import TrainedCheckpoint
from hf_ess.synthetics.checkpoints import CONFIG_OF_RUN


def as_checkpoint(run: str | os.PathLike[str], folder: str | os.PathLike[str]) -> TrainedCheckpoint:
    """Copies the model of a finished run together with how it was trained and what came of it.

    The run is that of `hf_ess.lab.train` or `hf_ess.lab.sweep`.

    `hf-ess analyze FOLDER` then measures it on texts of its own task. The checkpoints that are
    shipped with hf_ess are made so.

    Args:
        run: folder of a finished run.
        folder: where the checkpoint goes; it must not exist.

    Raises:
        ReportError: no run is finished there.
        InvalidInputError: the folder exists.
        OutputPathError: the folder cannot be written.
    """
    result, place = RunResult.load(Path(run)), Path(folder)
    if place.exists():
        raise InvalidInputError(f"{str(place)!r} exists already.", fix="Give a new folder.")
    config = result.config.to_dict()
    results = {key: value for key, value in result.numbers.items() if key != CONFIG_OF_RUN}
    results["command"] = f"hf-ess lab train {RUN} --out FOLDER"
    with translated_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = temporary_name(place.parent, place.name)
        try:
            shutil.copytree(result.folder / MODEL, aside)
            for name, record in ((RUN, config), (RESULTS, results)):
                _write(aside / name, record)
            aside.rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return TrainedCheckpoint.read(place)


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
