"""Trained checkpoints that are shipped with hf_ess: their names and folders, without torch."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from hf_ess.errors import InvalidInputError, ModelLoadError

SHIPPED = Path(str(files("hf_ess").joinpath("data", "checkpoints")))
# Beside the weights: the model, how it was trained, and what came of it.
CONFIG, RUN, RESULTS = "config.json", "run.json", "results.json"
# In the folder of a run of `hf-ess lab`: what is trained, its records, and the model in the end.
RUN_WRITTEN, LOG, MODEL = "run.yaml", "log.jsonl", "model"


def checkpoint_names() -> tuple[str, ...]:
    """Names of the checkpoints that are shipped with hf_ess, in alphabetical order.

    `hf_ess.analyze` and `hf-ess analyze` take them wherever they take a model.

    Example:
        >>> from hf_ess.synthetics import checkpoint_names
        >>> all("/" not in name for name in checkpoint_names())
        True
    """
    if not SHIPPED.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in SHIPPED.iterdir() if (folder / CONFIG).is_file()))


def shipped_folder(name: str) -> Path:
    """The folder of a shipped checkpoint.

    Raises:
        InvalidInputError: none is called so.
    """
    names = checkpoint_names()
    if name not in names:
        raise InvalidInputError(
            f"No checkpoint {name!r} is shipped with hf_ess.",
            fix=f"Choose one of {', '.join(names)}." if names else "There is none in this copy.",
        )
    return SHIPPED / name


def means_shipped(source: str | os.PathLike[str]) -> bool:
    """Whether the source of a model is the name of a shipped checkpoint.

    What lies in the current folder under that name comes first, as where a model is loaded; ids
    of the Hub have a slash, and no name of a checkpoint does.
    """
    return not Path(source).expanduser().exists() and str(source) in checkpoint_names()


def is_run(folder: Path) -> bool:
    """Whether `hf-ess lab` trains or trained there, so that the model lies one folder deeper."""
    begun = all((folder / file).is_file() for file in (RUN_WRITTEN, LOG))
    return begun and not (folder / CONFIG).is_file()


def weights_folder(folder: Path) -> Path:
    """Where the model of a folder lies.

    Raises:
        ModelLoadError: the folder is that of a run that is not finished.
    """
    if not is_run(folder):
        return folder
    if not (folder / RESULTS).is_file():
        raise ModelLoadError(
            f"The training in {str(folder)!r} is not finished.",
            fix=f"Let it go on: hf-ess lab train {folder / RUN_WRITTEN} --out {folder}",
        )
    return folder / MODEL


def trained_folder(source: str | os.PathLike[str]) -> Path | None:
    """The folder of a model that says how it was trained, None for any other model.

    Args:
        source: a folder, of a run of `hf-ess lab` too, or the name of a shipped checkpoint.

    Raises:
        ModelLoadError: the folder is that of a run that is not finished.
    """
    folder = shipped_folder(str(source)) if means_shipped(source) else Path(source).expanduser()
    weights = weights_folder(folder)
    record = RUN_WRITTEN if is_run(folder) else RUN
    known = (weights / CONFIG, folder / record, folder / RESULTS)
    return folder if all(file.is_file() for file in known) else None
