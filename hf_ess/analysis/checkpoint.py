"""Finished batches of a long analysis, in a folder from which it can go on.

The folder says of what work it is; every batch is a file of its own, written aside and renamed
when it is whole. Whatever ends the process, at most the batches that were running are lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_ess.analysis.gathering import Gathering
from hf_ess.analysis.pieces import piece_bytes, read_piece
from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.report.folders import LOCK, replace_file, sole_user

DESCRIPTION = "checkpoint.json"
PIECES = "batch-*.safetensors"
DISCARD = "Give the same model, texts and options as before; to begin anew, remove the folder "


@dataclass(frozen=True)
class Checkpoint:
    """The finished batches of one analysis.

    Attributes:
        folder: where they are.
        work: digest of what the analysis is of.
    """

    folder: Path
    work: str

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, description: Mapping[str, Any], *, first: bool
    ) -> Iterator[Checkpoint]:
        """The checkpoint of some work; nobody else may use the folder meanwhile.

        Args:
            folder: made where it is missing.
            description: of the work, by names, in the types of JSON.
            first: whether this process holds the folder for all that share the work.

        Raises:
            InvalidInputError: the folder holds a checkpoint of other work, or another process
                uses it.
            ReportError: what the folder says of its work cannot be read.
            OutputPathError: the folder cannot be written.
        """
        with sole_user(folder, "analysing") if first else nullcontext():
            _check_same_work(folder, description)
            text = json.dumps(description, sort_keys=True, indent=1)
            if first and not (folder / DESCRIPTION).exists():
                replace_file(folder / DESCRIPTION, text.encode("ascii"))
            yield cls(folder, hashlib.sha256(text.encode("ascii")).hexdigest())

    def has(self, batch: int) -> bool:
        """Whether a batch is finished, if its file is sound."""
        return self._path(batch).exists()

    def write(self, batch: int, gathering: Gathering) -> None:
        """Keeps a finished batch.

        Raises:
            OutputPathError: the folder cannot be written, or its disk is full.
        """
        replace_file(self._path(batch), piece_bytes(gathering, self.work))

    def read(self, batch: int) -> Gathering:
        """What was found out about a batch.

        Raises:
            ReportError: its file is damaged, or of other work; says what is wrong with it.
        """
        return read_piece(self._path(batch), self.work)

    def _path(self, batch: int) -> Path:
        return self.folder / PIECES.replace("*", f"{batch:06d}")


def kept_batches(folder: Path) -> int:
    """How many finished batches a folder holds.

    Example:
        >>> kept_batches(Path("no-such-folder"))
        0
    """
    return sum(1 for _ in folder.glob(PIECES))


def discard_checkpoint(folder: Path) -> None:
    """Removes a checkpoint, and its folder where nothing else is in it.

    Raises:
        InvalidInputError: another process uses it.
        OutputPathError: the folder cannot be written.
    """
    if not folder.is_dir():
        return
    with sole_user(folder, "analysing"):
        # The description goes last: pieces without one would be of nobody knows what.
        for pattern in (PIECES, ".*.tmp", DESCRIPTION, LOCK):
            for path in folder.glob(pattern):
                with suppress(OSError):
                    path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _check_same_work(folder: Path, description: Mapping[str, Any]) -> None:
    path = folder / DESCRIPTION
    if not path.exists():
        if kept_batches(folder):
            raise ReportError(
                f"{str(folder)!r} holds finished batches, but no {DESCRIPTION} that says of what.",
                causes=["the file was removed, or only a part of the folder was copied"],
                fix="Choose another folder, or remove this one.",
            )
        return
    try:
        there = json.loads(path.read_bytes())
        different = sorted(_differences(there, dict(description)))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ReportError(
            f"{str(path)!r} cannot be read: {error}.",
            causes=["it was edited, or only a part of it was copied"],
            fix="Remove the folder, to begin anew.",
        ) from error
    if different:
        raise InvalidInputError(
            f"{str(folder)!r} holds the checkpoint of another analysis, with "
            f"{kept_batches(folder)} finished batch(es).",
            causes=different,
            fix=f"{DISCARD}(--fresh at the command line).",
        )


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            inner = f"{name}.{key}" if name else key
            yield from _differences(there.get(key), here.get(key), inner)
    elif there != here:
        yield f"{name}: {_shown(there)} there, {_shown(here)} here"


def _shown(value: Any) -> str:
    words = json.dumps(value)
    return words if len(words) <= 60 else f"{words[:57]}..."
