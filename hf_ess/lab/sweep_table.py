"""What came of the runs of a sweep: a tidy table, and a summary over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_ess.lab.run_log import Record, log_rows
from hf_ess.lab.sweep_points import Point

if TYPE_CHECKING:
    import pandas as pd

SEED, RATE = "seed", "learning_rate"
# What is averaged over seeds; ESS first over layers.
SUMMARIZED = ("accuracy", "test_loss", "entropy_ess", "utilization", "entropy_ess_per_pair")


def sweep_table(
    points: Sequence[Point], records: Mapping[str, list[Record]], errors: Mapping[str, str]
) -> pd.DataFrame:
    """A row for each run, tested step and layer, of records and errors by the names of runs.

    The columns are run, those of the axes, those of `RunResult.log`, and error.
    """
    import pandas as pd

    found = []
    for point in points:
        # The rate of an axis is that of the configuration, the schedule's is that of the step.
        for row in log_rows(records[point.name]) or [{}]:
            step_rate = {"step_learning_rate": row.pop(RATE)} if RATE in row else {}
            found.append({"run": point.name, **point.settings, **row, **step_rate})
            found[-1]["error"] = errors.get(point.name, "").partition("\n")[0] or None
    return pd.DataFrame(found)


def sweep_summary(points: Sequence[Point], table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds after the last step, with standard errors, for each combination of axes.

    Columns: those of the axes but the seed; runs, how many; for accuracy, test_loss, entropy_ess,
    utilization (both means over layers) and entropy_ess_per_pair the mean, and the standard error
    (`_se`: standard deviation with n - 1 over the root of n; NaN for one seed); and, where
    learning_rate is an axis, best: whether its mean accuracy is the highest of its setting (then
    the lowest test loss decides). Runs that are not finished are left out.
    """
    import pandas as pd

    axes = [name for name in (points[0].settings if points else {}) if name != SEED]
    finished = _last_steps(points, table)
    if finished.empty:
        return pd.DataFrame(columns=[*axes, "runs"])
    measured = [name for name in SUMMARIZED if name in finished]
    by_run = finished.groupby("run", sort=False)[measured].mean()
    values = pd.DataFrame([point.settings for point in points], index=[p.name for p in points])
    by_run = by_run.join(values)
    groups = by_run.groupby(axes, sort=False) if axes else by_run.groupby(lambda _: 0)
    parts: dict[str, pd.Series[Any]] = {"runs": groups.size()}
    for name in measured:
        parts[name] = groups[name].mean()
        parts[f"{name}_se"] = groups[name].sem()
    summary = pd.DataFrame(parts).reset_index(drop=not axes)
    if RATE in axes:
        summary["best"] = _best(summary, [name for name in axes if name != RATE])
    return summary


def _last_steps(points: Sequence[Point], table: pd.DataFrame) -> pd.DataFrame:
    if "step" not in table:
        return table.iloc[:0]
    steps = {point.name: point.config.steps for point in points}
    ended = table["error"].isna() & (table["step"] == table["run"].map(steps))
    return table[ended]


def _best(summary: pd.DataFrame, settings: list[str]) -> pd.Series[bool]:
    ranked = summary.sort_values(["accuracy", "test_loss"], ascending=[False, True])
    first = ranked.drop_duplicates(settings) if settings else ranked.head(1)
    found: pd.Series[bool] = summary.index.to_series().isin(first.index)
    return found
