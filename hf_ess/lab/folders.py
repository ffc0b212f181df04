"""One configuration in the folder of a run."""

from __future__ import annotations

from pathlib import Path

from hf_ess.errors import InvalidInputError
from hf_ess.lab.run_config import RunConfig, differences
from hf_ess.lab.training_state import CHECKPOINT
from hf_ess.report.folders import replace_file
from hf_ess.shipped import LOG, RESULTS, RUN_WRITTEN


def claim(folder: Path, config: RunConfig) -> None:
    """Writes the configuration into a folder; it may be mended until something is trained there.

    Raises:
        InvalidInputError: a run of another configuration is there (the message says what
            differs), or files of a run without one.
        OutputPathError: the folder cannot be written.
    """
    path = folder / RUN_WRITTEN
    begun = [name for name in (LOG, CHECKPOINT, RESULTS) if (folder / name).exists()]
    if not begun:
        replace_file(path, config.to_yaml().encode())
        return
    if not path.exists():
        raise InvalidInputError(
            f"{str(folder)!r} holds a {begun[0]}, but no {RUN_WRITTEN} that says of what training.",
            fix="Choose another folder.",
        )
    different = differences(RunConfig.read(path), config)
    if different:
        raise InvalidInputError(
            f"{str(folder)!r} holds a run of another configuration.",
            causes=[f"{line} here" for line in different],
            fix="Choose another folder.",
        )
