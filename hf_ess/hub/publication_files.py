"""The files of a report in a model repository, made from what may be published of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from hf_ess.report import ESSReport
from hf_ess.report.publication import published
from hf_ess.report.storage import ARRAYS_NAME, JSON_NAME

FOLDER = "ess"
REPORT_PATH = f"{FOLDER}/{JSON_NAME}"
ARRAYS_PATH = f"{FOLDER}/{ARRAYS_NAME}"
IMAGE_PATHS = tuple(f"{FOLDER}/{name}.png" for name in ("heatmap", "profile", "positions"))


class PublicationFiles:
    """What of a report is published, as files.

    Args:
        report: the report as it was measured.
        include_text: whether the text may be published with it.

    Attributes:
        report: a copy without what is not to be published; plots are drawn of it too.
        withheld: the texts that must not be in any file.
    """

    def __init__(self, report: ESSReport, *, include_text: bool = False) -> None:
        self.report = published(report, include_text=include_text)
        texts = ["".join(sample.tokens) for sample in report.samples if sample.tokens]
        self.withheld = () if include_text else tuple(texts)

    @cached_property
    def data(self) -> Mapping[str, bytes]:
        """The report and its arrays, by path in the repository."""
        with TemporaryDirectory() as folder:
            written = self.report.save(folder)
            return {
                ARRAYS_PATH: (written / ARRAYS_NAME).read_bytes(),
                REPORT_PATH: (written / JSON_NAME).read_bytes(),
            }

    @cached_property
    def images(self) -> Mapping[str, bytes]:
        """The plots, by path in the repository."""
        with TemporaryDirectory() as folder:
            drawn = {path.name: path.read_bytes() for path in self.report.plot_all(folder)}
        return {path: drawn[Path(path).name] for path in IMAGE_PATHS}

    def describes_same(self, document: bytes | None) -> bool:
        """Whether a `report.json` says the same, whenever it was measured."""
        if document is None:
            return False
        try:
            theirs, ours = json.loads(document), json.loads(self.data[REPORT_PATH])
        except (ValueError, RecursionError):
            return False
        if not isinstance(theirs, dict) or not isinstance(theirs.get("created_at"), str):
            return False
        return bool(theirs | {"created_at": ""} == ours | {"created_at": ""})
