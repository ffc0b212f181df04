"""What was measured in the runs of `recall_grid`, as all experiments on them need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_ess.lab.paper.recall_grid import recall_grid
from hf_ess.lab.paper.runs import RATE
from hf_ess.report.drawing import COLOURS, MARKS
from hf_ess.training.few_positions import FEW, training_positions

if TYPE_CHECKING:
    import pandas as pd

    from hf_ess.lab.paper.work import Work

RECURRENT = ("LA", "GLA", "WLA")
ATTENTION = "SA"
FEATURIZERS = (*RECURRENT, ATTENTION)
COLOUR = dict(zip(FEATURIZERS, COLOURS, strict=False))
ENTROPY = "entropy_ess"
TOLERANCES = {
    "0.1": "tolerance_ess_0.1",
    "0.001": "tolerance_ess_0.001",
    "1e-05": "tolerance_ess_1e-05",
}
METRICS = (ENTROPY, *TOLERANCES.values())
# Below 1e-3 rounding in float32 can hide a count.
CERTAIN = METRICS[:3]
# What makes two runs differ in more than learning rate and seed.
SETTING = ["model", "width", "heads", "pairs"]
RUN = [*SETTING, RATE, "seed"]
KEYS = ["featurizer", "beta", *SETTING, "length", RATE, "seed", "state_size"]
MIXERS, BETA = "model.mixers", "model.decay_temperature"
WIDTH, HEADS = "model.hidden_size", "model.num_attention_heads"


def grid_rows(work: Work) -> pd.DataFrame:
    """A row for each run, tested step and layer of `recall_grid`: LA, GLA, WLA, then SA.

    Columns are those of `SweepResult.table`, with featurizer (LA, GLA, WLA, SA), beta (NaN without
    decays), model (both in words), width, heads, pairs, length, and state_size: the theoretical
    one per channel, for attention the mean of the positions where ESS is measured.

    Raises:
        HfEssError: as `Work.trained`.
    """
    sweeps = recall_grid(work.scale)
    table = work.table(*sweeps)
    usual = sweeps[0].base.get("model", {}).get("hidden_size")
    width = table[WIDTH] if usual is None else table[WIDTH].fillna(usual)
    featurizer = table[MIXERS].str.split("+").str[0]
    beta = table[BETA].astype(float)
    named = zip(featurizer, beta, strict=True)
    positions = table["length"].map(mean_position)
    rows = table.assign(
        featurizer=featurizer,
        beta=beta,
        model=[model_name(*one) for one in named],
        width=width.astype(int),
        heads=table[HEADS],
        state_size=table["state_size"].where(featurizer != ATTENTION, positions).astype(float),
    )
    return rows.sort_values(
        "featurizer", key=lambda names: names.map(FEATURIZERS.index), kind="stable"
    )


def model_name(featurizer: str, beta: float) -> str:
    """In words.

    Example:
        >>> model_name("GLA", 0.25), model_name("LA", float("nan"))
        ('GLA (beta 0.25)', 'LA')
    """
    return featurizer if beta != beta else f"{featurizer} (beta {beta:g})"


def mean_position(length: int) -> float:
    """The mean state size of attention where ESS is measured: its cache holds the tokens before.

    Example:
        >>> mean_position(32)  # of 6, 13, 19 and 26
        16.0
    """
    positions = training_positions(FEW, length)
    return sum(positions) / len(positions)


def forgetful(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each featurizer with decays only the models that forget fastest."""
    fastest = rows.groupby("featurizer")["beta"].transform("min")
    return rows[rows["beta"].isna() | (rows["beta"] == fastest)]


def model_styles(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """How the curve of each model is drawn: dashed and hollow where another forgets faster."""
    slow = rows["beta"] > rows["beta"].min()
    models = rows.assign(slow=slow).drop_duplicates("model")
    return {
        str(model): {
            "color": COLOUR[kind],
            "marker": MARKS[FEATURIZERS.index(kind)],
            "linestyle": "--" if is_slow else "-",
            "markerfacecolor": "white" if is_slow else COLOUR[kind],
        }
        for model, kind, is_slow in models[["model", "featurizer", "slow"]].itertuples(index=False)
    }
