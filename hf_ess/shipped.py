"""Trained checkpoints that are shipped with hf_ess: their names and folders, without torch."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from hf_ess.errors import InvalidInputError

SHIPPED = Path(str(files("hf_ess").joinpath("data", "checkpoints")))
# Beside the weights: the model, how it was trained, and what came of it.
CONFIG, RUN, RESULTS = "config.json", "run.json", "results.json"


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


def trained_folder(source: str | os.PathLike[str]) -> Path | None:
    """The folder of a checkpoint that says how it was trained, None for any other model.

    Args:
        source: a folder, or the name of a shipped checkpoint.
    """
    folder = shipped_folder(str(source)) if means_shipped(source) else Path(source).expanduser()
    is_trained = all((folder / file).is_file() for file in (CONFIG, RUN, RESULTS))
    return folder if is_trained else None
