"""One process at a time in the folder of a run, and one configuration."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hf_ess.errors import InvalidInputError
from hf_ess.lab.run_config import RunConfig, differences
from hf_ess.lab.training_state import CHECKPOINT, replace_file
from hf_ess.report.files import translated_errors
from hf_ess.shipped import LOG, RESULTS, RUN_WRITTEN

LOCK = ".lock"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Holds the folder; the system lets go of it when the process ends, however it ends.

    Systems without `fcntl` (Windows) and disks without locks (some of networks) lock nothing.

    Raises:
        InvalidInputError: another process is training there.
        OutputPathError: the folder cannot be written.
    """
    with translated_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a")  # noqa: SIM115 - closed by the `with` below
    with file:
        with translated_errors(folder):
            _lock(file, folder)
        yield


def _lock(file: IO[str], folder: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InvalidInputError(
            f"Another process is training in {str(folder)!r}.",
            fix="Wait for it, end it, or choose another folder.",
        ) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


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
