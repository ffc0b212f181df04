"""Reports that an operator shows: read from folders and repositories of the Hub, never computed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_ess.errors import HfEssError, ReportError
from hf_ess.hub.answers import explained
from hf_ess.hub.repositories import hub_client, parsed_place
from hf_ess.plain_text import printable
from hf_ess.report import ESSReport
from hf_ess.report.local_paths import last_component
from hf_ess.report.publication import published
from hf_ess.report.storage import ARRAYS_NAME, JSON_NAME

MOST_REPORTS = 200
KEY_DIGITS = 32
FILES = (JSON_NAME, ARRAYS_NAME)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# A link may name something else than what sources of the Hub still bring.
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Entry:
    """One report of the gallery.

    Attributes:
        key: by which a link names it: it follows from the report's content.
        folder: where its files are on this machine.
        title: what people read.
    """

    key: str
    folder: Path
    title: str


class Gallery:
    """What the sources hold; they are read once, in the background.

    Args:
        sources: folders with a report, or with folders of reports; or repositories of the Hub, as
            `user/name`, `datasets/user/name`, with `/folder` and `@revision` where wanted.

    Example:
        >>> Gallery([]).entries()
        []
    """

    def __init__(self, sources: Sequence[str] = ()) -> None:
        self._sources = tuple(sources)
        self._entries: dict[str, Entry] = {}
        self._problems: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def entries(self) -> list[Entry]:
        """Every report that could be read, in the order of the sources; waits for them."""
        self._reader.join()
        return list(self._entries.values())

    def problems(self) -> list[str]:
        """What could not be read, and why; waits for the sources."""
        self._reader.join()
        return list(self._problems)

    def report(self, key: str) -> ESSReport | None:
        """The report of a key, None where there is none.

        Raises:
            ReportError: its files have been damaged or removed.
        """
        if key not in self._entries:
            self._reader.join(PATIENCE_SECONDS)
        entry = self._entries.get(key)
        return None if entry is None else published(ESSReport.load(entry.folder), include_text=True)

    def _read(self) -> None:
        for source in self._sources:
            try:
                for folder in _folders(source):
                    entry = _entry(folder)
                    self._entries.setdefault(entry.key, entry)
            except HfEssError as error:
                self._problems.append(f"{source}: {error.what}")


def _folders(source: str) -> list[Path]:
    """Where reports lie in a folder, or in what is downloaded of a repository."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _downloaded(source)
    found = [path.parent for path in sorted(folder.rglob(JSON_NAME))]
    # A pipe or a device of that name would never end.
    found = [each for each in found if all((each / name).is_file() for name in FILES)]
    if not found:
        raise ReportError(f"{source!r} holds no report.")
    return found[:MOST_REPORTS]


def _downloaded(source: str) -> Path:
    """The reports of a repository, all of one commit; in offline mode those of the cache."""
    place = parsed_place(source)
    inside = f"{place.folder}/" if place.folder else ""
    with explained(f"The reports of {source} were not read"):
        snapshot = hub_client().snapshot_download(
            place.repo_id,
            repo_type=place.repo_type,
            revision=place.revision,
            allow_patterns=[f"{inside}{below}{name}" for below in ("", "*/") for name in FILES],
        )
    return Path(snapshot, place.folder)


def _entry(folder: Path) -> Entry:
    try:
        document = json.loads((folder / JSON_NAME).read_bytes())
        content = document["content"]
        key = str(document["content_sha256"])[:KEY_DIGITS]
        title = _title(content, folder.name)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{folder.name} holds no report that can be read: {error}.") from error
    return Entry(key, folder, title)


def _title(content: dict[str, Any], name: str) -> str:
    model = str(content["provenance"].get("model") or name)
    lengths = [sample["length"] for sample in content["samples"]]
    texts = f"{len(lengths)} texts, " if len(lengths) > 1 else ""
    size = f"{texts}{max(lengths)} tokens, {len(content['layers'])} layers"
    # A model of some machine is a path there, which is nobody's business.
    named = model if _HUB_ID.fullmatch(model) else last_component(model)
    return printable(f"{named}: {size} ({name})")
