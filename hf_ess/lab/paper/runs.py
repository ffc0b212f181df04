"""Rows of sweeps as experiments need them: after the last step, a row for each run, best rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

RATE = "learning_rate"
# Of layers in `SweepResult.table`; all other columns are those of a run at a step.
OF_LAYERS = ("index", "mixer", "state_size", "attainable", "utilization", "verified")
ESS = "_ess"


def after_last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each run after its last step, a row for each layer."""
    return table[table["step"] == table.groupby("run")["step"].transform("max")]


def by_run(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each run and step: ESS and utilization are means over layers.

    Whatever the state sizes and attainable sizes of layers are, those are means too.
    """
    numbers = [name for name in table if name in OF_LAYERS or ESS in str(name)]
    keys = ["run", "step"]
    means = table.groupby(keys, sort=False)[
        [name for name in numbers if name not in ("index", "mixer", "verified")]
    ].mean()
    others = table.drop(columns=numbers).drop_duplicates(keys).set_index(keys)
    return others.join(means).reset_index()


def with_best_rates(runs: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """For each setting the runs of the learning rate whose mean accuracy is the highest.

    Of equal ones that with the lower test loss.
    """
    means = runs.groupby([*settings, RATE], sort=False)[["accuracy", "test_loss"]].mean()
    ranked = means.sort_values(["accuracy", "test_loss"], ascending=[False, True]).reset_index()
    best = ranked.drop_duplicates(list(settings))[[*settings, RATE]]
    return runs.merge(best, on=[*settings, RATE])
