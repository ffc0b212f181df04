"""Many reports in one table: a row for each, and groups of those whose numbers mean the same."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.plain_text import printable
from hf_ess.report import aggregates
from hf_ess.report.cells import Cell, csv_table, markdown_table
from hf_ess.report.comparability import comparable, differences
from hf_ess.report.comparison_facts import facts
from hf_ess.report.comparison_numbers import measured
from hf_ess.report.conditions import Conditions
from hf_ess.report.names import ENTROPY, Metric, metric_label
from hf_ess.report.report import ESSReport
from hf_ess.report.storage import JSON_NAME
from hf_ess.report.tables import ABSENT, model_flag, number, share
from hf_ess.report.text import shortened

GROUP = "group"
APART = "not comparable with group 1 in"
SOURCE = "source"
SHORT = 12
# Names of the facts that are columns, before and after those of the metrics.
_BEFORE = {
    "model": "model",
    "revision": "revision",
    "mixers": "mixers",
    "verified_layers": "verified layers",
    "layers": "layers",
    "parameters": "parameters",
}
_AFTER = {
    "texts": "text",
    "tokens": "length",
    "positions": "positions",
    "tolerances": "tolerances",
    "kind of tolerances": "kind of tolerances",
    "window": "window",
    "scope": "scope",
    "chosen layers": "chosen layers",
    "dtype": "dtype",
    "quantization": "quantization",
    "hf_ess": "hf_ess",
    "fingerprint": "fingerprint",
}


@dataclass(frozen=True)
class Score:
    """One metric of one report over its verified layers; NaN without any.

    Attributes:
        average: per channel.
        utilization: share of the capacity.
        total: over channels, mean of layers.
        flag: the marks of its counts.
    """

    average: float
    utilization: float
    total: float
    flag: str


@dataclass(frozen=True)
class Entry:
    """What a table says of one report; the report itself need not be kept.

    Attributes:
        source: where it was read from.
        facts: its model, and how it was measured.
        scores: by the way in which each metric is written.
        conditions: what has to agree with others.
    """

    source: str
    facts: dict[str, Any]
    scores: dict[str, Score]
    conditions: Conditions

    @classmethod
    def of(cls, source: str, report: ESSReport) -> Entry:
        """The entry of a report."""
        scores = {report.metric_label(metric): _score(report, metric) for metric in report.metrics}
        return cls(source, facts(report), scores, Conditions.of(report))


@dataclass(frozen=True)
class Failure:
    """A folder or repository that could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Leaderboard:
    """A table over reports.

    Made by `leaderboard`.

    Attributes:
        columns: names of the columns.
        rows: one for each report, ordered by group, then by the sorted column.
        groups: for each group what tells it from group 1, in words; empty for group 1.
        failed: what could not be read.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, Cell], ...]
    shown: tuple[dict[str, str], ...]
    groups: tuple[tuple[str, ...], ...]
    failed: tuple[Failure, ...] = ()

    def to_csv(self) -> str:
        """Comma-separated values with all digits; a text that looks like a formula is quoted."""
        return csv_table(self.columns, [[row[x] for x in self.columns] for row in self.rows])

    def to_markdown(self) -> str:
        """A table in Markdown, in which names are mere text."""
        right = [self.is_number(name) for name in self.columns]
        rows = [[row[name] for name in self.columns] for row in self.shown]
        return markdown_table(self.columns, rows, right)

    def to_dict(self) -> dict[str, Any]:
        """Everything in the types of JSON; None stands for what does not exist."""
        return {
            "columns": list(self.columns),
            "rows": [{name: _without_nan(row[name]) for name in self.columns} for row in self.rows],
            "groups": [
                {
                    "group": group,
                    "sources": [row[SOURCE] for row in self.rows if row[GROUP] == group],
                    "differences": list(apart),
                }
                for group, apart in enumerate(self.groups, 1)
            ],
            "failed": [{"source": x.source, "reason": x.reason} for x in self.failed],
        }

    def is_number(self, column: str) -> bool:
        """Whether the cells of a column are numbers."""
        return any(isinstance(row[column], (int, float)) for row in self.rows)


def leaderboard(
    entries: Iterable[Entry],
    *,
    metric: Metric | None = None,
    sort: str | None = None,
    failed: Sequence[Failure] = (),
) -> Leaderboard:
    """One table over many reports.

    Reports are ordered within groups of reports that are comparable; the largest group comes
    first, and among equally large ones the one whose first report was given first.

    Args:
        entries: the reports.
        metric: show this one only; by default the average of every metric, and utilization and
            total of entropy-ESS.
        sort: name of a column, or how it begins; numbers from the largest, texts from A. By
            default the average of the first metric.
        failed: what could not be read, to be told with the rest.

    Raises:
        InvalidInputError: no report has the metric, or there is no such column.
    """
    grouped = _groups(list(entries))
    listed = [entry for group in grouped for entry in group]
    columns = _columns(listed, metric)
    key = _sorting(sort, columns, metric)
    rows = [
        ({name: column.value(entry) for name, column in columns.items()}, entry, number)
        for number, group in enumerate(grouped, 1)
        for entry in group
    ]
    apart = [_apart(grouped[0][0], group[0]) for group in grouped]
    ordered = sorted(rows, key=lambda row: (row[2], *_order(key(row[1]))))
    names = (GROUP, APART, *columns)
    return Leaderboard(
        columns=names,
        rows=tuple(
            {GROUP: group, APART: ", ".join(aspect for aspect, _ in apart[group - 1]), **row}
            for row, _, group in ordered
        ),
        shown=tuple(
            {
                GROUP: str(group),
                APART: ", ".join(aspect for aspect, _ in apart[group - 1]),
                **{name: column.show(entry) for name, column in columns.items()},
            }
            for _, entry, group in ordered
        ),
        groups=tuple(tuple(words for _, words in each) for each in apart),
        failed=tuple(failed),
    )


def report_folders(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Every folder with a report in and below a folder, sorted; symbolic links are not followed.

    Raises:
        ReportError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise ReportError(f"Cannot list {error.filename!r}: {error.strerror}.") from error

    for folder, below, files in os.walk(root, onerror=refuse):
        below.sort()
        path = Path(folder)
        given = path == Path(root)
        if JSON_NAME in files and (given or not (path / JSON_NAME).is_symlink()):
            yield path


@dataclass(frozen=True)
class _Column:
    """How a column gets its values, and how they are shown to people."""

    value: Callable[[Entry], Cell]
    show: Callable[[Entry], str]


def _columns(entries: Sequence[Entry], metric: Metric | None) -> dict[str, _Column]:
    labels = list(dict.fromkeys(label for entry in entries for label in entry.scores))
    chosen = [label for label in labels if metric is None or _means(label, metric)]
    if entries and not chosen:
        raise InvalidInputError(
            f"No report has the metric {metric!r}.", fix=f"Use one of: {'; '.join(labels)}."
        )
    whole = chosen if metric is not None else [x for x in chosen if _means(x, ENTROPY)]
    columns = {SOURCE: _Column(lambda x: x.source, lambda x: printable(x.source))}
    columns |= {name: _fact_column(key) for key, name in _BEFORE.items()}
    for label in chosen:
        columns[label] = _score_column(label, "average")
    for label in whole:
        columns[f"utilization of {label}"] = _score_column(label, "utilization")
        columns[f"total of {label}"] = _score_column(label, "total")
    return columns | {name: _fact_column(key) for key, name in _AFTER.items()}


def _means(label: str, metric: Metric) -> bool:
    """Whether a label is that of the metric, windowed and relative ones included."""
    return metric_label(metric, relative=False, window=None) in label


def _fact_column(key: str) -> _Column:
    def value(entry: Entry) -> Cell:
        known: Cell = entry.facts[key]
        return known

    def show(entry: Entry) -> str:
        known = entry.facts[key]
        if known is None or known == "":
            return ABSENT
        if key in ("revision", "fingerprint"):
            return shortened(printable(known), SHORT)
        return f"{known:,}" if isinstance(known, int) else printable(known)

    return _Column(value, show)


def _score_column(label: str, field: str) -> _Column:
    def value(entry: Entry) -> Cell:
        score = entry.scores.get(label)
        return None if score is None else float(getattr(score, field))

    def show(entry: Entry) -> str:
        score = entry.scores.get(label)
        if score is None:
            return ABSENT
        known = float(getattr(score, field))
        return (share(known) if field == "utilization" else number(known)) + score.flag

    return _Column(value, show)


def _score(report: ESSReport, metric: Metric) -> Score:
    found = measured(report, metric)
    if found is None:
        return Score(math.nan, math.nan, math.nan, "")
    return Score(
        aggregates.average(found.layers, found.metric),
        aggregates.utilization(found.layers, found.metric),
        aggregates.total(found.layers, found.metric, "mean"),
        model_flag(report, found.metric),
    )


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries of which every two are comparable, the largest group first."""
    groups: list[list[Entry]] = []
    # Most reports of a collection were measured alike: each way is looked at once.
    kinds: list[set[Conditions]] = []
    for entry in entries:
        for group, kind in zip(groups, kinds, strict=True):
            if all(comparable(entry.conditions, other) for other in kind):
                group.append(entry)
                kind.add(entry.conditions)
                break
        else:
            groups.append([entry])
            kinds.append({entry.conditions})
    return sorted(groups, key=len, reverse=True)


def _apart(first: Entry, other: Entry) -> list[tuple[str, str]]:
    """What tells a group from the first: each aspect, and the whole of it in words."""
    if first is other:
        return []
    names = ["group 1", "this group"]
    found = differences([first.conditions, other.conditions], names)
    return [(difference.aspect, str(difference)) for difference in found]


def _sorting(
    wanted: str | None, columns: dict[str, _Column], metric: Metric | None
) -> Callable[[Entry], Cell]:
    """What rows are sorted by: a column, or in each report the first metric that is shown of it."""
    if wanted is None:
        return lambda entry: next(
            (x.average for label, x in entry.scores.items() if _means(label, metric or ENTROPY)),
            None,
        )
    found = [name for name in columns if name.lower().startswith(wanted.lower())]
    if wanted not in columns and len(found) != 1:
        problem = "Several columns begin" if found else "No column begins"
        raise InvalidInputError(
            f"{problem} with {wanted!r}.", fix=f"Use one of: {'; '.join(found or columns)}."
        )
    return columns[wanted if wanted in columns else found[0]].value


def _order(value: Cell) -> tuple[int, float, str]:
    """Numbers from the largest, then texts from A, and last what does not exist."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return (2, 0.0, "")
    return (1, 0.0, value) if isinstance(value, str) else (0, -float(value), "")


def _without_nan(value: Cell) -> Cell:
    return None if isinstance(value, float) and math.isnan(value) else value
