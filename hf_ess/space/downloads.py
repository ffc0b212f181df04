"""Reports as files to take away; each lies in a folder of its own."""

from __future__ import annotations

import shutil
import tempfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hf_ess.errors import InvalidInputError
from hf_ess.report import ESSReport
from hf_ess.report.files import translated_errors
from hf_ess.report.publication import published
from hf_ess.space.links import KEY

KEPT = 20
README = """What was measured with hf_ess, a folder for each report.

hf_ess.ESSReport.load("report") reads such a folder; its pictures are the plots of the report.
"""


class Downloads:
    """Zip files of reports on disk; only the newest are kept.

    Args:
        folder: where they lie; a new temporary folder by default.
        kept: how many of them.
    """

    def __init__(self, folder: Path | None = None, kept: int = KEPT) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="hf_ess_downloads_"))
        self.kept = kept
        self._oldest_first: dict[str, None] = {}
        self._lock = threading.Lock()

    def zip_of(self, reports: Mapping[str, ESSReport]) -> Path:
        """Reports with their plots, each in a folder, in one file named after their keys.

        Paths of this machine are taken out; the text stays, since it came from who asks.

        Args:
            reports: by key: the one that is shown, or two that are compared.

        Raises:
            InvalidInputError: a key is none.
            OutputPathError: the disk is full.
        """
        if not reports or not all(KEY.fullmatch(key) for key in reports):
            raise InvalidInputError("This is no key of a report.")
        key = "-".join(reports)
        with self._lock:
            target = self.folder / key / f"hf-ess-{key[:8]}.zip"
            if not target.exists():
                with translated_errors(self.folder):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shown = [published(each, include_text=True) for each in reports.values()]
                    _write(shown, target)
            self._oldest_first.pop(key, None)
            self._oldest_first[key] = None
            self._forget_oldest()
        return target

    def close(self) -> None:
        """Removes every file."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _forget_oldest(self) -> None:
        for key in list(self._oldest_first)[: -self.kept]:
            del self._oldest_first[key]
            shutil.rmtree(self.folder / key, ignore_errors=True)


def _write(reports: Sequence[ESSReport], target: Path) -> None:
    names = ["report"] if len(reports) == 1 else [f"report-{letter}" for letter in "ab"]
    with TemporaryDirectory(dir=target.parent) as folder:
        unfinished = Path(folder) / "unfinished.zip"
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("README.txt", README)
            for name, report in zip(names, reports, strict=True):
                inside = Path(folder) / name
                report.save(inside)
                if any(layer.verified for layer in report.layers):
                    report.plot_all(inside)
                for path in sorted(inside.iterdir()):
                    archive.write(path, f"{name}/{path.name}")
        unfinished.replace(target)
