"""Several reports side by side: by layer, by relative depth, by position."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.report.cells import Cell, csv_table
from hf_ess.report.choices import chosen
from hf_ess.report.comparability import (
    Difference,
    differences,
    not_comparable,
    position_differences,
)
from hf_ess.report.comparison_depth import depth_rows
from hf_ess.report.comparison_facts import fact_rows, facts
from hf_ess.report.comparison_numbers import Row, layer_rows, model_rows, position_rows
from hf_ess.report.conditions import Conditions
from hf_ess.report.names import ENTROPY, Metric, resolve_metric
from hf_ess.report.report import ESSReport

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ComparisonLevel = Literal["model", "layer", "depth", "position"]
ComparisonPlotKind = Literal["layer", "depth", "position"]
LEVELS = ("model", "layer", "depth", "position")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Reports side by side, each against the first.

    `hf_ess.compare` makes it.

    R reports. Made by `compare`.

    Attributes:
        names: `R` different names.
        reports: `R` reports.
        differences: what makes the numbers incomparable; empty unless that was overruled.
        position_differences: what keeps positions from being compared; the rest can be.
        forced: whether it was asked for all the same.

    Example:
        `hf_ess.compare([one, other]).to_pandas("depth")`
    """

    names: tuple[str, ...]
    reports: tuple[ESSReport, ...]
    differences: tuple[Difference, ...] = ()
    position_differences: tuple[Difference, ...] = ()
    forced: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """`"entropy"`, then every tolerance of any report, the largest first."""
        return (ENTROPY, *self._tolerances())

    def metric_label(self, metric: Metric) -> str:
        """How the metric is written; where reports write it differently, in every way.

        Raises:
            InvalidInputError: no report has the metric.
        """
        key = resolve_metric(metric, self._tolerances())
        having = [report for report in self.reports if _has(report, key)]
        labels = [report.metric_label(key) for report in having]
        return " or ".join(dict.fromkeys(labels))

    def rows(self, level: ComparisonLevel, metric: Metric | None = None) -> list[Row]:
        """The numbers of one level as rows, of one metric or of all.

        Raises:
            InvalidInputError: the level or the metric is unknown.
            NotComparableError: positions are not the same places in these reports.
        """
        builders: dict[str, Callable[[Sequence[ESSReport], Metric, str], list[Row]]] = {
            "model": model_rows,
            "layer": layer_rows,
            "depth": depth_rows,
            "position": position_rows,
        }
        build = chosen("level", level, builders)
        if level == "position":
            self.check_positions()
        metrics = self.metrics if metric is None else (self.resolved(metric),)
        rows = fact_rows(self.reports) if level == "model" and metric is None else []
        for key in metrics:
            rows += build(self.reports, key, self.metric_label(key))
        return rows

    def resolved(self, metric: Metric) -> Metric:
        """The metric as the reports have it.

        Raises:
            InvalidInputError: no report has it.
        """
        return resolve_metric(metric, self._tolerances())

    def check_positions(self) -> None:
        """Refuses to compare positions that are not the same places, unless that was forced.

        Raises:
            NotComparableError: they are not.
        """
        if self.position_differences and not self.forced:
            raise not_comparable(
                self.position_differences, "These reports cannot be compared by position."
            )

    def to_pandas(
        self, level: ComparisonLevel = "model", metric: Metric | None = None
    ) -> pd.DataFrame:
        """A frame with a row per number, and columns for every report.

        For each report, by name: `value`, `half width` (how far it may be off), and against the
        first `difference`, `ratio` and `decided` (whether the difference is larger than both
        half widths together); at level "model" also `standard error` and `difference standard
        error`, over texts.

        Raises:
            InvalidInputError: the level or the metric is unknown.
            NotComparableError: positions are not the same places in these reports.
        """
        import pandas as pd

        return pd.DataFrame([self._frame_row(row, level) for row in self.rows(level, metric)])

    def to_csv(self, level: ComparisonLevel = "model", metric: Metric | None = None) -> str:
        """The same as comma-separated values; differences that were overruled have a column.

        Raises:
            InvalidInputError: the level or the metric is unknown.
            NotComparableError: positions are not the same places in these reports.
        """
        rows = [self._frame_row(row, level) for row in self.rows(level, metric)]
        overruled = "; ".join(str(difference) for difference in self.differences)
        if overruled:
            rows = [row | {"not comparable": overruled} for row in rows]
        header = list(rows[0]) if rows else []
        return csv_table(header, [[_plain(row[name]) for name in header] for row in rows])

    def to_dict(self) -> dict[str, Any]:
        """Everything in the types of JSON; None stands for what does not exist."""
        by_position = self.forced or not self.position_differences
        levels: list[ComparisonLevel] = ["model", "layer", "depth"]
        levels += ["position"] if by_position else []
        return {
            "reports": [
                {"name": name, **facts(report)}
                for name, report in zip(self.names, self.reports, strict=True)
            ],
            "forced": self.forced,
            "differences": [str(difference) for difference in self.differences],
            "position_differences": [str(difference) for difference in self.position_differences],
            **{level: [_plain_row(row) for row in self.rows(level)] for level in levels},
        }

    def summary(
        self, width: int = 120, metric: Metric = ENTROPY, by: ComparisonLevel = "layer"
    ) -> str:
        """Tables as plain text: the reports, every metric, and one metric by layer or by depth.

        Args:
            width: of lines, in characters.
            metric: of the last table, "entropy" or a tolerance.
            by: "layer", "depth", "position", or "model" for no such table.

        Raises:
            InvalidInputError: the metric or `by` is unknown.
            NotComparableError: positions are not the same places in these reports.
        """
        from hf_ess.report.comparison_tables import ComparisonView
        from hf_ess.report.tables import plain_text

        return plain_text(ComparisonView(self, metric, by), width)

    def plot(
        self,
        kind: ComparisonPlotKind = "depth",
        path: str | os.PathLike[str] | None = None,
        metric: Metric = ENTROPY,
    ) -> Figure:
        """Draw all reports in one figure; with a path also write it there.

        Args:
            kind: "layer", "depth" (relative, for models of different depth) or "position".
            path: of the file (PNG, SVG or PDF by its ending), None for none.
            metric: "entropy" or one of the tolerances.

        Raises:
            InvalidInputError: the kind or the metric is unknown.
            NotComparableError: positions are not the same places in these reports.
            OutputPathError: the path cannot be written.
            ReportError: no report has a verified layer with the metric.
        """
        from hf_ess.report.comparison_plot import plot

        return plot(self, kind, path, self.resolved(metric))

    def _tolerances(self) -> tuple[float, ...]:
        known: list[float] = []
        for tolerance in (tau for report in self.reports for tau in report.tolerances):
            if not any(math.isclose(tolerance, other, rel_tol=1e-6) for other in known):
                known.append(tolerance)
        return tuple(sorted(known, reverse=True))

    def _frame_row(self, row: Row, level: str) -> dict[str, Any]:
        columns = {key: value for key, value in row.keys.items() if key != "mixers"}
        mixers = row.keys.get("mixers", [])
        columns |= {f"mixer {x}": mixer for x, mixer in zip(self.names, mixers, strict=False)}
        for k, name in enumerate(self.names):
            columns[f"value {name}"] = row.numbers[k]
            columns[f"half width {name}"] = row.half_widths[k]
            if level == "model":
                columns[f"standard error {name}"] = row.standard_errors[k]
            if k:
                columns[f"difference {name}"] = row.differences[k]
                columns[f"ratio {name}"] = row.ratios[k]
                columns[f"decided {name}"] = row.decided[k]
                if level == "model":
                    columns[f"difference standard error {name}"] = row.difference_errors[k]
        return columns


def compare(
    reports: Iterable[ESSReport], *, names: Sequence[str] | None = None, force: bool = False
) -> Comparison:
    """Reports side by side, each against the first.

    What it takes are reports of `hf_ess.analyze`; what it gives is a `Comparison`.

    Args:
        reports: at least two.
        names: one for each; by default the names of the models.
        force: compare what is not comparable; the differences are then said above every table.

    Raises:
        InvalidTypeError: something else than reports was passed.
        InvalidInputError: there are fewer than two, or names do not fit.
        NotComparableError: other texts, positions, tolerances, windows or scopes, an incomplete
            report, or one without verified layers. The message lists all of it.

    Example:
        `hf_ess.compare([hf_ess.ESSReport.load("one"), hf_ess.ESSReport.load("other")])`
    """
    chosen = tuple(_checked_reports(reports))
    called = _checked_names(names, len(chosen)) if names is not None else default_names(chosen)
    conditions = [Conditions.of(report) for report in chosen]
    found = differences(conditions, called)
    if found and not force:
        raise not_comparable(found, "These reports are not comparable.")
    by_position = position_differences(conditions, called)
    return Comparison(called, chosen, tuple(found), tuple(by_position), force)


def default_names(reports: Sequence[ESSReport]) -> tuple[str, ...]:
    """Different names: the last part of the model's, all of it, or that and a number."""
    models = [str(report.provenance.get("model") or "report") for report in reports]
    short = [model.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or model for model in models]
    for candidates in (short, models):
        if len(set(candidates)) == len(candidates):
            return tuple(candidates)
    return tuple(f"{name} [{number}]" for number, name in enumerate(short, 1))


def _has(report: ESSReport, metric: Metric) -> bool:
    try:
        resolve_metric(metric, report.tolerances)
    except InvalidInputError:
        return False
    return True


def _checked_reports(reports: Iterable[ESSReport]) -> list[ESSReport]:
    listed = list(reports) if isinstance(reports, Iterable) else [reports]
    for report in listed:
        if not isinstance(report, ESSReport):
            raise InvalidTypeError(
                f"Cannot compare an object of type {type(report).__name__}.",
                fix="Pass reports: hf_ess.ESSReport.load(folder), or ESSReport.from_hub(id).",
            )
    if len(listed) < 2:
        raise InvalidInputError(
            f"A comparison needs at least two reports, got {len(listed)}.",
            fix="Pass two; report.summary() shows one.",
        )
    return listed


def _checked_names(names: Sequence[str], count: int) -> tuple[str, ...]:
    listed = tuple(str(name) for name in names)
    if isinstance(names, str) or len(listed) != count:
        raise InvalidInputError(f"There are {count} reports, and names are {names!r}.")
    if len(set(listed)) != count or not all(name.strip() for name in listed):
        raise InvalidInputError(f"Give every report a name of its own, got {list(listed)}.")
    return listed


def _plain(value: Any) -> Cell:
    """The number itself, which numpy writes with its type."""
    return cast(Cell, value.item() if isinstance(value, np.generic) else value)


def _plain_row(row: Row) -> dict[str, Any]:
    numbers = {
        "values": row.numbers,
        "half_widths": row.half_widths,
        "differences": row.differences,
        "ratios": row.ratios,
    }
    if not np.isnan(row.standard_errors).all():
        numbers["standard_errors"] = row.standard_errors
        numbers["difference_standard_errors"] = row.difference_errors
    plain = {
        name: [None if math.isnan(x) else float(x) for x in array]
        for name, array in numbers.items()
    }
    return {**row.keys, **plain, "decided": row.decided}
