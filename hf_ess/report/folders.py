"""Folders in which long work is kept: one process at a time, and whole files only."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hf_ess.errors import InvalidInputError
from hf_ess.report.files import temporary_name, translated_errors, write_durably

LOCK = ".lock"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def sole_user(folder: Path, doing: str = "training") -> Iterator[None]:
    """Holds the folder; the system lets go of it when the process ends, however it ends.

    Systems without `fcntl` (Windows) and disks without locks (some of networks) lock nothing.

    Args:
        folder: made where it is missing.
        doing: what is done there, for the message.

    Raises:
        InvalidInputError: another process is doing that there.
        OutputPathError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name, sole_user(Path(name)):
        ...     (Path(name) / LOCK).exists()
        True
    """
    with translated_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a")  # noqa: SIM115 - closed by the `with` below
    with file:
        with translated_errors(folder):
            _lock(file, folder, doing)
        yield


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file so that at any moment, also of a sudden end, the old or the new one is there.

    Raises:
        OutputPathError: the folder cannot be written, or its disk is full.
    """
    with translated_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink()
        aside = temporary_name(path.parent, path.name)
        try:
            write_durably(aside, data)
            os.replace(aside, path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise


def _lock(file: IO[str], folder: Path, doing: str) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InvalidInputError(
            f"Another process is {doing} in {str(folder)!r}.",
            fix="Wait for it, end it, or choose another folder.",
        ) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
