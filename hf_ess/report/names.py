"""The names of metrics: `"entropy"` or a tolerance, and how each is written out.

A windowed or relative measurement carries that in every name, so that no number can be read as
the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from hf_ess.errors import InvalidInputError

Metric: TypeAlias = str | float
ENTROPY = "entropy"


def resolve_metric(metric: Metric, tolerances: Sequence[float]) -> Metric:
    """`"entropy"`, or the tolerance of the report that `metric` means.

    Raises:
        InvalidInputError: the report has no such metric; the message lists those it has.

    Example:
        >>> resolve_metric(1e-1, (0.1, 0.001))
        0.1
    """
    if isinstance(metric, str):
        if metric == ENTROPY:
            return ENTROPY
    elif not isinstance(metric, bool) and hasattr(metric, "__float__"):
        for tolerance in tolerances:
            if math.isclose(float(metric), tolerance, rel_tol=1e-6):
                return tolerance
    choices = ", ".join([repr(ENTROPY), *(f"{tolerance:g}" for tolerance in tolerances)])
    raise InvalidInputError(
        f"This report has no metric {metric!r}.",
        causes=["the tolerance was not among those of the analysis"],
        fix=f"Use one of {choices}, or analyse again with the tolerance that you need.",
    )


def metric_label(metric: Metric, *, relative: bool, window: tuple[int, int] | None) -> str:
    """How a metric is written for people.

    Example:
        >>> metric_label("entropy", relative=False, window=None)
        'entropy-ESS'
        >>> metric_label(0.1, relative=True, window=(64, 32))
        'windowed relative tolerance-ESS(0.1), window 64x32'
    """
    name = "entropy-ESS" if metric == ENTROPY else f"tolerance-ESS({metric:g})"
    if relative and metric != ENTROPY:
        name = f"relative {name}"
    return f"windowed {name}, window {window[0]}x{window[1]}" if window else name


def metric_column(metric: Metric, *, relative: bool, window: tuple[int, int] | None) -> str:
    """How a metric is written in a column name.

    Example:
        >>> metric_column(0.001, relative=False, window=None)
        'tolerance_ess_0.001'
        >>> metric_column("entropy", relative=True, window=(64, 32))
        'windowed_entropy_ess_window_64x32'
    """
    name = "entropy_ess" if metric == ENTROPY else f"tolerance_ess_{metric:g}"
    if relative and metric != ENTROPY:
        name = f"relative_{name}"
    return f"windowed_{name}_window_{window[0]}x{window[1]}" if window else name
