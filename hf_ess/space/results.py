"""Measured reports on disk, so that nothing is measured twice and links outlive a restart.

A result holds the tokens of its text, since the page shows them: whoever has its key can read the
text. An operator who does not want that keeps none (`keep_texts=False`); links then open without.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import hf_ess
from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.report import ESSReport
from hf_ess.report.files import temporary_name, translated_errors
from hf_ess.report.publication import published
from hf_ess.space.recent import Recent

KEY = re.compile(r"[0-9a-f]{32}")
MEMORY_SHARE = 4
MOST_IN_MEMORY = 2**30


def result_key(
    model: str, revision: str, text: str, settings: dict[str, str | Sequence[float] | object]
) -> str:
    """The name of a result: the same for the same measurement by the same version, else another.

    Args:
        model: its name in the catalogue.
        revision: which state of it.
        text: what it reads.
        settings: everything else that the numbers depend on, in the types of JSON.

    Example:
        >>> len(result_key("org/model", "c0ffee", "text", {"positions": "auto"}))
        32
    """
    measured = {
        "version": hf_ess.__version__,
        "model": model,
        "revision": revision,
        "text": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        "settings": settings,
    }
    canonical = json.dumps(measured, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def check_key(key: object) -> str:
    """The key, if it has the form of one; it becomes the name of a folder.

    Raises:
        InvalidInputError: it has not.
    """
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise InvalidInputError(
            "This link does not name a result.", fix="Copy the whole link, or measure again."
        )
    return key


class ResultStore:
    """Reports in a folder, each under its key, up to so many bytes.

    Args:
        folder: made where it is missing; nothing else should lie in it.
        bytes_kept: the results that were not used for the longest time are removed above it.
        keep_texts: whether tokens and their numbers are kept.

    Raises:
        OutputPathError: the folder cannot be made or written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], bytes_kept: int, *, keep_texts: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.bytes_kept = bytes_kept
        self.keep_texts = keep_texts
        self._lock = threading.Lock()
        self._opened: Recent[ESSReport] = Recent(min(bytes_kept // MEMORY_SHARE, MOST_IN_MEMORY))
        with translated_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()

    def put(self, key: str, report: ESSReport) -> None:
        """Keeps a report, and lets the longest unused ones go where there are too many bytes.

        Raises:
            InvalidInputError: the key has not the form of one.
            OutputPathError: the disk is full, or the folder cannot be written.
        """
        target = self.folder / check_key(key)
        kept = report if self.keep_texts else published(report)
        with self._lock, translated_errors(self.folder):
            unfinished = temporary_name(self.folder, key)
            try:
                kept.save(unfinished)
                shutil.rmtree(target, ignore_errors=True)
                unfinished.rename(target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            self._opened.put(key, kept, size=_size(target))
            self._let_go(target)

    def get(self, key: str) -> ESSReport | None:
        """The report of a key, None if it is not there (any more) or was damaged.

        Raises:
            InvalidInputError: the key has not the form of one.
        """
        source = self.folder / check_key(key)
        with self._lock:
            if not source.is_dir():
                return None
            with suppress(OSError):
                os.utime(source)
            report = self._opened.get(key)
            if report is None:
                try:
                    report = ESSReport.load(source)
                except ReportError:
                    shutil.rmtree(source, ignore_errors=True)
                    return None
                self._opened.put(key, report, size=_size(source))
        return report

    def keys(self) -> list[str]:
        """Every key, the last used one first."""
        return [path.name for path in reversed(self._by_use())]

    def _let_go(self, kept: Path) -> None:
        used = self._by_use()
        total = sum(_size(path) for path in used)
        for path in used:
            if total <= self.bytes_kept:
                return
            if path != kept:
                total -= _size(path)
                shutil.rmtree(path, ignore_errors=True)

    def _by_use(self) -> list[Path]:
        """Folders of results, the longest unused one first."""
        found = [path for path in self.folder.iterdir() if KEY.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def _remove_unfinished(self) -> None:
        """What a server left that was ended while it wrote."""
        for path in self.folder.glob(".*.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
