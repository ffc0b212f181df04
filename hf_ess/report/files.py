"""Writing a pair of files so that a failure leaves the earlier pair as it was."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hf_ess.errors import OutputPathError


def check_writable(
    folder: str | os.PathLike[str], bytes_needed: int = 0, *, remove_created: bool = False
) -> None:
    """Find out before long work whether a report can be saved.

    Creates the folder where it is missing, writes and removes a small file in it, and compares
    `bytes_needed` with the free space of its disk.

    Args:
        folder: where the report is going to be saved.
        bytes_needed: expected size of the report in bytes.
        remove_created: remove again what was created here, also when the check succeeds.

    Raises:
        OutputPathError: the folder cannot be created or written, or its disk is too full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     check_writable(folder, bytes_needed=1000)
    """
    target = Path(folder)
    created = [path for path in (target, *target.parents) if not path.exists()]
    succeeded = False
    try:
        with translated_errors(target):
            target.mkdir(parents=True, exist_ok=True)
            probe = temporary_name(target, "probe")
            try:
                write_durably(probe, b"\0")
            finally:
                _remove_quietly(probe)
            free = shutil.disk_usage(target).free
        if free < bytes_needed:
            raise OutputPathError(
                f"The disk of {str(target)!r} has {free / 2**20:.1f} MiB free, the report needs "
                f"about {bytes_needed / 2**20:.1f} MiB.",
                fix="Free some space, or choose a folder on another disk.",
            )
        succeeded = True
    finally:
        if remove_created or not succeeded:
            for path in created:
                with suppress(OSError):
                    path.rmdir()


def replace_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write every file of `contents` into the folder, all of them or none.

    All are first written and flushed under temporary names, so that a full disk is met before
    an old file is touched; then they are renamed, with the old files kept aside until the last
    rename has succeeded.

    Raises:
        OutputPathError: the folder cannot be written, or its disk is full.
    """
    with translated_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        staged = {name: temporary_name(folder, name) for name in contents}
        try:
            for name, data in contents.items():
                write_durably(staged[name], data)
            _rename_all(folder, staged)
        finally:
            for path in staged.values():
                _remove_quietly(path)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it has reached the disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def temporary_name(folder: Path, name: str) -> Path:
    """A name in the same folder, hence on the same disk, that nobody else uses."""
    return folder / f".{name}.{secrets.token_hex(6)}.tmp"


@contextmanager
def translated_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError of the body into an OutputPathError about the folder."""
    try:
        yield
    except OutputPathError:
        raise
    except OSError as error:
        raise OutputPathError(
            f"Cannot write to {str(folder)!r}: {error.strerror or error}.",
            causes=["the disk is full", "the folder belongs to another user", "it is a file"],
            fix="Free some space, or choose another folder.",
        ) from error


def _rename_all(folder: Path, staged: Mapping[str, Path]) -> None:
    aside = {name: temporary_name(folder, name) for name in staged}
    done: list[str] = []
    try:
        for name, path in staged.items():
            if (folder / name).exists():
                os.replace(folder / name, aside[name])
            done.append(name)
            os.replace(path, folder / name)
    except BaseException:
        for name in done:
            _remove_quietly(folder / name)
        _bring_back(folder, aside)
        raise
    for path in aside.values():
        _remove_quietly(path)


def _bring_back(folder: Path, aside: Mapping[str, Path]) -> None:
    for name, path in aside.items():
        if path.exists():
            os.replace(path, folder / name)


def _remove_quietly(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
