"""Rows of sweeps as experiments need them: after the last step, a row for each run, best rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RATE = "learning_rate"
# Of layers in `SweepResult.table`; all other columns are those of a run at a step.
OF_LAYERS = ("index", "mixer", "state_size", "attainable", "utilization", "verified")
ESS = "_ess"


def after_last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each run after its last step, a row for each layer."""
    return table[table["step"] == table.groupby("run")["step"].transform("max")]


def columns_of_layers(table: pd.DataFrame) -> list[str]:
    """Columns that say something of a layer, and not of a run at a step."""
    return [str(name) for name in table if name in OF_LAYERS or ESS in str(name)]


def by_run(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each run and step: ESS and sizes are means over layers, `verified` of all of them.

    One for each number of pairs too, where a run was measured on texts of several. What a layer
    lacks (ESS where it is not verified, the state size of attention) is NaN: a mean over the other
    layers would be of something else.
    """
    import pandas as pd

    keys = [name for name in ("run", "step", "pairs") if name in table]
    columns = columns_of_layers(table)
    numbers = [name for name in columns if name not in ("index", "mixer", "verified")]
    groups = table.assign(**table[numbers].apply(pd.to_numeric)).groupby(keys, sort=False)
    means = groups[numbers].mean().where(groups[numbers].count().eq(groups.size(), axis=0))
    verified = table["verified"].eq(True).groupby([table[key] for key in keys]).all()
    others = table.drop(columns=columns).drop_duplicates(keys).set_index(keys)
    return others.join(means).join(verified).reset_index()


def with_best_rates(runs: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """For each setting the runs of the learning rate whose mean accuracy is the highest.

    Of equal ones that with the lower test loss.
    """
    means = runs.groupby([*settings, RATE], sort=False)[["accuracy", "test_loss"]].mean()
    ranked = means.sort_values(["accuracy", "test_loss"], ascending=[False, True]).reset_index()
    best = ranked.drop_duplicates(list(settings))[[*settings, RATE]]
    return runs.merge(best, on=[*settings, RATE])


def complete(
    rows: pd.DataFrame, values: Sequence[str], names: Sequence[str]
) -> tuple[pd.DataFrame, str]:
    """Rows of runs that lack nothing in any of them, and a sentence on the others.

    Args:
        rows: any; if they have a column `verified`, it must be true.
        values: columns that must be there.
        names: columns that set one run apart from others.

    Returns:
        The rows, and the sentence; it names every run that is left out, and is empty if none is.
    """
    present = rows[list(values)].notna().all(axis=1)
    if "verified" in rows:
        present &= rows["verified"].eq(True)
    groups = present.groupby([rows[name] for name in names], dropna=False)
    whole = groups.transform("all").astype(bool)
    left_out = rows[~whole].drop_duplicates(list(names)).to_dict("records")
    shown = "; ".join(_named(row, names) for row in left_out)
    return rows[whole], f" Left out, not measured or not verified: {shown}." if shown else ""


def _named(row: dict[Any, Any], names: Sequence[str]) -> str:
    words = {name.rpartition(".")[2].replace("_", " "): row[name] for name in names}
    return ", ".join(
        f"{word} {value if isinstance(value, str) else format(value, 'g')}"
        for word, value in words.items()
        if value == value
    )
