"""`hf-ess compare`: reports of folders and of the Hub side by side."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_ess.cli.adapters_command import PIPED_WIDTH
from hf_ess.cli.telling import tell
from hf_ess.errors import InvalidInputError

if TYPE_CHECKING:
    from hf_ess.report import ESSReport
    from hf_ess.report.comparison import Comparison, ComparisonPlotKind
    from hf_ess.report.names import Metric


class CompareFormat(str, Enum):
    """How a comparison is printed."""

    table = "table"
    json = "json"
    csv = "csv"


class Place(str, Enum):
    """What the rows of a comparison are."""

    model = "model"
    layer = "layer"
    depth = "depth"
    position = "position"


def compare(
    reports: Annotated[
        list[str],
        typer.Argument(help="Folders of reports, or repositories of the Hub as user/model."),
    ],
    metric: Annotated[
        str | None, typer.Option(help="entropy, or a tolerance of the reports. [entropy]")
    ] = None,
    by: Annotated[
        Place,
        typer.Option(help="Rows: layers, equal parts of the depth, positions, or the model only."),
    ] = Place.layer,
    force: Annotated[
        bool, typer.Option("--force", help="Compare what is not comparable, and say so above it.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw it, to a .png, .svg or .pdf file.")
    ] = None,
    output: Annotated[
        CompareFormat, typer.Option("--format", help="How results are printed.")
    ] = CompareFormat.table,
) -> None:
    """Compare reports: side by side, with differences and ratios to the first."""
    import hf_ess
    from hf_ess.hub import read_report

    wanted = parsed_metric(metric)
    read = [read_report(where) for where in reports]
    comparison = hf_ess.compare(read, names=_names(reports, read), force=force)
    shown = "entropy" if wanted is None else comparison.resolved(wanted)
    if by is Place.position:
        comparison.check_positions()
    if plot is not None:
        comparison.plot(_plot_kind(by), plot, shown)
    _print(comparison, output, by, wanted)
    if plot is not None:
        tell(f"wrote {plot}")


def parsed_metric(words: str | None) -> Metric | None:
    """`"entropy"`, a tolerance, or None for no choice.

    Raises:
        InvalidInputError: none of these.

    Example:
        >>> parsed_metric("entropy"), parsed_metric("1e-3"), parsed_metric(None)
        ('entropy', 0.001, None)
    """
    if words is None or words == "entropy":
        return words
    try:
        return float(words)
    except ValueError:
        raise InvalidInputError(
            f"--metric {words!r} is neither 'entropy' nor a tolerance.",
            fix="Give entropy, or a number such as 1e-3.",
        ) from None


def _plot_kind(by: Place) -> ComparisonPlotKind:
    kinds: dict[Place, ComparisonPlotKind] = {
        Place.layer: "layer",
        Place.depth: "depth",
        Place.position: "position",
    }
    if by not in kinds:
        raise InvalidInputError(
            "A model has no plot of its own.", fix="Draw --by layer, --by depth or --by position."
        )
    return kinds[by]


def _names(sources: list[str], reports: list[ESSReport]) -> list[str] | None:
    """Where reports lie tells them apart, if their models do not and nothing is given twice."""
    models = [str(report.provenance.get("model")) for report in reports]
    alike = len(set(models)) < len(models) == len(set(sources))
    return list(sources) if alike else None


def _print(comparison: Comparison, output: CompareFormat, by: Place, metric: Metric | None) -> None:
    if output is CompareFormat.json:
        typer.echo(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
        return
    if output is CompareFormat.csv:
        from hf_ess.report.comparison_tables import warnings

        for line in warnings(comparison):
            tell(line)
        typer.echo(comparison.to_csv(by.value, metric), nl=False)
        return
    from rich.console import Console

    from hf_ess.report.comparison_tables import ComparisonView

    view = ComparisonView(comparison, "entropy" if metric is None else metric, by.value)
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(view)
